"""The file with all messages of a run."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from ignite.engine import Engine, Events

from scripts.handlers.log_file import LogFile
from scripts.messages import CONSOLE, short_messages

OURS, IGNITE = logging.getLogger("scripts.data"), logging.getLogger("ignite.engine.engine.Engine")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for owner, name in ((sys, "excepthook"), (threading, "excepthook"), (warnings, "showwarning")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    root, console = logging.getLogger(), logging.StreamHandler(sys.stdout)
    before, level = list(root.handlers), root.level
    console.name = CONSOLE
    root.handlers[:] = [console]
    root.setLevel(logging.INFO)
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_the_file_has_all_messages_from_the_first_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short_messages()
    OURS.info("labels of 8 images")
    engine = Engine(lambda *_: OURS.warning("a single grey value"))
    LogFile(tmp_path / "out").attach(engine)
    assert list(tmp_path.iterdir()) == []  # nothing before the start
    engine.run([0])
    OURS.info("after the run")
    text = (tmp_path / "out" / "run.log").read_text()
    for part in ("command: ", "labels of 8 images", "WARNING - a single grey value", "Epoch[1] Complete"):
        assert part in text
    assert "after the run" not in text
    assert text.count("labels of 8 images") == 1
    assert "Epoch[1]" not in capsys.readouterr().out


def test_the_last_messages_of_other_handlers_are_in_the_file(tmp_path: Path) -> None:
    engine = Engine(lambda *_: None)
    LogFile(tmp_path).attach(engine)
    engine.add_event_handler(Events.COMPLETED, lambda: OURS.info("objects fitted"))
    for _ in range(2):
        engine.run([0])
    assert (tmp_path / "run.log").read_text().count("objects fitted") == 2


def test_a_further_run_is_appended(tmp_path: Path) -> None:
    for number in range(2):
        engine = Engine(lambda *_, k=number: OURS.info("run %d", k))
        LogFile(tmp_path).attach(engine)
        engine.run([0])
    text = (tmp_path / "run.log").read_text()
    assert text.index("run 0") < text.index("run 1")
    assert text.count("command: ") == 2


def test_the_file_ends_with_the_error_of_a_failed_run(tmp_path: Path) -> None:
    engine = Engine(lambda *_: 1 / 0)
    LogFile(tmp_path).attach(engine)
    handlers = len(logging.getLogger().handlers)
    with pytest.raises(ZeroDivisionError):
        engine.run([0])
    assert "division by zero" in (tmp_path / "run.log").read_text()
    assert len(logging.getLogger().handlers) == handlers


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_does_not_disturb_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.log").symlink_to("/dev/full")
    seen: list[int] = []
    engine = Engine(lambda _, value: (OURS.info("message"), seen.append(value)))
    LogFile(tmp_path).attach(engine)
    engine.run([1, 2])
    assert seen == [1, 2]
    assert "Logging error" not in capsys.readouterr().err


def test_without_a_folder_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = Engine(lambda *_: None)
    LogFile(None).attach(engine)
    engine.run([0])
    assert list(tmp_path.iterdir()) == []
