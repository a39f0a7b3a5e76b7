"""What a run says on the console: short lines of this project, warnings of others, nothing for developers."""

from __future__ import annotations

import logging
import logging.config
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.messages import short_messages

ROOT = Path(__file__).resolve().parents[2]
OURS = logging.getLogger("scripts.handlers.progress")
IGNITE = logging.getLogger("ignite.engine.engine.SupervisedTrainer")
LIBRARY = logging.getLogger("some_library")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set up logging as MONAI does by logging.conf, and restore everything afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    logging.config.fileConfig(ROOT / "configs" / "logging.conf", disable_existing_loggers=False)
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_messages_of_the_project_are_plain_lines_and_warnings_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    short_messages()
    OURS.info("epoch %d", 3)
    OURS.warning("a.png has a single grey value")
    assert capsys.readouterr().out == "epoch 3\nwarning: a.png has a single grey value\n"


def test_libraries_are_heard_only_if_they_warn(capsys: pytest.CaptureFixture[str]) -> None:
    short_messages()
    LIBRARY.info("loading")
    LIBRARY.warning("the file is truncated")
    IGNITE.info("Epoch[1] Complete")
    IGNITE.error("Engine run is terminating due to exception: x")  # is raised, and shown once at the end
    assert capsys.readouterr().out == "warning: the file is truncated\n"


def test_verbose_shows_everything_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    short_messages(verbose=True)
    OURS.info("epoch 3")
    LIBRARY.info("loading")
    IGNITE.info("Epoch[1] Complete")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[1] for line in lines] == [OURS.name, LIBRARY.name, IGNITE.name]


def test_warnings_of_python_are_one_line_and_those_for_developers_none(capsys: pytest.CaptureFixture[str]) -> None:
    short_messages()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("the disk\nis slow", UserWarning, stacklevel=1)
        warnings.warn("use the new name", DeprecationWarning, stacklevel=1)
    shown = capsys.readouterr()
    assert shown.out == "warning: the disk is slow\n"
    assert shown.err == ""


def test_of_several_processes_the_first_alone_tells_how_it_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    short_messages()
    OURS.info("epoch 3")
    OURS.warning("out of memory")
    assert capsys.readouterr().out == "warning: out of memory\n"


def test_another_logging_configuration_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    own = logging.StreamHandler(sys.stdout)
    own.name = "mine"
    logging.getLogger().handlers[:] = [own]
    short_messages()
    IGNITE.warning("kept")
    assert logging.getLogger().handlers == [own]
    assert capsys.readouterr().out == "kept\n"
