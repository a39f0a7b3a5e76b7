"""A training that is stopped and resumed gives the losses and the weights of one that ran through, bit for bit."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hostile.checks import table
from tests.hostile.conftest import TINY
from tests.hostile.program import TIMEOUT, Outcome, Program, Running
from tests.hostile.samples import write_pairs

EPOCHS = 5


class Trainings:
    """Trainings with equal settings."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.data = write_pairs(folder / "data", count=3, size=64)
        self._references: dict[tuple[str, ...], Path] = {}

    def start(self, out: Path, *more: str) -> Running:
        given = {word.partition("=")[0] for word in more}
        options = [
            *TINY,
            "--label_kind=instances",
            "--val_interval=1",
            f"--max_epochs={EPOCHS}",
            "--tiles_per_epoch=12",
        ]
        words = [word for word in options if word.partition("=")[0] not in given]
        return self.program.start("bundle", "train", self.data, "--output", out, *words, *more)

    def run(self, out: Path, *more: str) -> Outcome:
        return self.start(out, *more).wait()

    def reference(self, *more: str) -> Path:
        """Get the folder of a training without interruption."""
        if more not in self._references:
            out = self.folder / f"reference{len(self._references)}"
            outcome = self.run(out, *more)
            assert outcome.code == 0, str(outcome)
            self._references[more] = out
        return self._references[more]


@pytest.fixture(scope="module")
def trainings(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(program, tmp_path_factory.mktemp("resumed"))


def state_of(out: Path) -> dict[str, Any]:
    return torch.load(out / "training_state.pt", map_location="cpu", weights_only=True)


def wait_for_epochs(running: Running, out: Path, number: int) -> None:
    """Wait until so many states were saved."""
    path, times = out / "training_state.pt", set()
    end = time.monotonic() + TIMEOUT
    while len(times) < number and not running.done and time.monotonic() < end:
        if path.exists():
            times.add(path.stat().st_mtime_ns)
        time.sleep(0.002)


def assert_equal(out: Path, reference: Path) -> None:
    rows, expected = table(out / "history.csv"), table(reference / "history.csv")
    columns = [name for name in expected[0] if name != "seconds"]
    assert [[row[name] for name in columns] for row in rows] == [[row[name] for name in columns] for row in expected]
    found, wanted = state_of(out), state_of(reference)
    assert found["trainer"]["iteration"] == wanted["trainer"]["iteration"]
    assert all(torch.equal(found["model"][name], wanted["model"][name]) for name in wanted["model"])
    best, best_wanted = (torch.load(folder / "model.pt", weights_only=True) for folder in (out, reference))
    assert all(torch.equal(best[name], best_wanted[name]) for name in best_wanted)


@pytest.mark.parametrize(
    ("how", "epochs", "more"),
    [
        (signal.SIGKILL, 1, ()),
        (signal.SIGKILL, 3, ()),
        (signal.SIGKILL, 2, ("--num_workers=2",)),
        (signal.SIGTERM, 1, ()),
        (signal.SIGTERM, 3, ()),
        (signal.SIGINT, 2, ()),
        (signal.SIGTERM, 2, ("--num_workers=2",)),
        (signal.SIGKILL, 2, ("--overlay=variant_fast", "--tiles_per_epoch=3")),
        (signal.SIGTERM, 2, ("--overlay=variant_adam", "--num_workers=2")),
    ],
)
def test_a_stopped_training_ends_as_if_it_had_run_through(trainings, tmp_path, how, epochs, more):
    reference, out = trainings.reference(*more), tmp_path / "out"
    running = trainings.start(out, *more)
    wait_for_epochs(running, out, epochs)
    if how != signal.SIGKILL:
        time.sleep(0.3)  # into the next epoch
    running.send(how)
    stopped = running.wait()
    running.stop()
    assert stopped.code != 0, "the training ended too early for this test"
    outcome = trainings.run(out, *more, "--resume=true")
    assert outcome.code == 0, str(outcome)
    assert_equal(out, reference)


def test_equal_trainings_are_equal(trainings, tmp_path):
    assert trainings.run(tmp_path).code == 0
    assert_equal(tmp_path, trainings.reference())


@pytest.fixture
def finished(trainings, tmp_path) -> Path:
    """A copy of a finished training."""
    return Path(shutil.copytree(trainings.reference(), tmp_path / "out"))


def test_resuming_a_finished_training_is_success(trainings, finished):
    before = state_of(finished)["trainer"]
    outcome = trainings.run(finished, "--resume=true")
    assert outcome.code == 0, str(outcome)
    assert state_of(finished)["trainer"] == before


def test_a_changed_learning_rate_takes_effect(trainings, finished):
    outcome = trainings.run(finished, "--resume=true", f"--max_epochs={EPOCHS + 2}", "--learning_rate=0.0625")
    assert outcome.code == 0, str(outcome)
    rates = [float(row["lr"]) for row in table(finished / "history.csv")]
    assert len(rates) == EPOCHS + 2
    assert rates[-1] > 10 * rates[EPOCHS - 1], rates


def test_other_classes_are_refused_or_named(trainings, finished):
    outcome = trainings.run(finished, "--resume=true", "--max_epochs=7", "--class_names=['dark','bright']")
    assert outcome.code == 1 or "class_names" in outcome.text, str(outcome)


def test_another_network_is_refused(trainings, finished):
    outcome = trainings.run(finished, "--resume=true", "--max_epochs=7", "--network_def#features=[3,4,8,16,32]")
    assert outcome.code == 1, str(outcome)
    assert "features" in outcome.last, str(outcome)


def test_other_data_are_refused_or_named(trainings, finished, tmp_path):
    write_pairs(tmp_path / "other", count=5, size=64, first=50)
    words = (*TINY, "--label_kind=instances", "--max_epochs=7", "--resume=true", "--val_interval=1")
    outcome = trainings.program.run("bundle", "train", tmp_path / "other", "--output", finished, *words)
    named = any(word in outcome.text.lower() for word in ("other data", "other images", "another data", "split"))
    assert outcome.code == 1 or named, str(outcome)


def test_another_split_is_refused_or_named(trainings, finished):
    outcome = trainings.run(finished, "--resume=true", "--max_epochs=7", "--split_rule=last", "--val_fraction=0.5")
    assert outcome.code == 1 or "split" in outcome.text.lower(), str(outcome)
