"""kill -9 at random moments of a training, always in the same folder, and --resume true after each."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.hostile.checks import best, broken_files, leftovers, table
from tests.hostile.conftest import TINY
from tests.hostile.program import TIMEOUT, Program, Running
from tests.hostile.samples import write_pairs

KILLS = 20
EPOCHS = 60
RANDOM = random.Random(15)


class Training:
    """A training in a folder, started again and again."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.folder = folder / "out"
        self.data = write_pairs(folder / "data", count=4, size=64, binary=True)
        self.best = -1.0
        self.startup = 0.0  # seconds until the first file changes

    def start(self, *more: str) -> Running:
        options = ["--overlay=variant_adam", "--learning_rate=0.003", f"--max_epochs={EPOCHS}", "--val_interval=1"]
        options.append("--patience=0")
        if (self.folder / "training_state.pt").exists():
            options.append("--resume=true")
        return self.program.start("bundle", "train", self.data, "--output", self.folder, *TINY, *options, *more)

    def state(self) -> set[tuple[str, int, int]]:
        """Get names, sizes and times of all files, temporary files too."""
        found = set()
        with os.scandir(self.folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                if not entry.name.startswith("events."):
                    found.add((entry.name, status.st_size, status.st_mtime_ns))
        return found

    def wait_for_changes(self, running: Running, number: int) -> None:
        """Wait until files of the folder have changed so many times."""
        end = time.monotonic() + TIMEOUT
        self.folder.mkdir(exist_ok=True)
        before = self.state()
        while number and not running.done and time.monotonic() < end:
            now = self.state()
            number -= now != before
            before = now
            time.sleep(0.0005)


@pytest.fixture(scope="module")
def training(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A training that has saved its first state, and is then killed."""
    training = Training(program, tmp_path_factory.mktemp("killed"))
    running = training.start()
    end = time.monotonic() + TIMEOUT
    while not (training.folder / "training_state.pt").exists() and not running.done and time.monotonic() < end:
        time.sleep(0.01)
    training.startup = time.monotonic() - running.begun
    running.stop()
    return training


@pytest.mark.parametrize("seed", range(3))
def test_better_weights_survive_a_death_before_the_state_knows_them(program: Program, tmp_path, seed):
    """Stop the process at each new model.pt; kill it where the saved state has a lower best score than the weights."""
    data, out = write_pairs(tmp_path / "data", count=4, size=64, first=10 * seed, binary=True), tmp_path / "out"
    options = ("--overlay=variant_adam", "--learning_rate=0.003", "--max_epochs=25", "--val_interval=1")
    words = ("bundle", "train", data, "--output", out, *TINY, *options, f"--seed={seed}")
    running, weights, state = program.start(*words), out / "model.pt", out / "training_state.pt"
    end, seen = time.monotonic() + TIMEOUT, 0
    while not running.done and time.monotonic() < end:
        now = weights.stat().st_mtime_ns if weights.exists() else 0
        if now != seen and state.exists():
            seen = now
            running.send(signal.SIGSTOP)
            known = torch.load(state, weights_only=True)["trainer"].get("best_key_metric", float("inf"))
            if known < best(out):
                running.send(signal.SIGKILL)
                break
            running.send(signal.SIGCONT)
        time.sleep(0.0005)
    running.wait(2 * TIMEOUT)
    before = best(out)
    outcome = program.run(*words, "--resume=true")
    assert outcome.code == 0, str(outcome)
    assert best(out) >= before


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_training_leaves_whole_files_and_its_best_weights(training, number):
    running = training.start()
    if number % 2:  # while files are written
        training.wait_for_changes(running, RANDOM.randint(3, 16))
        time.sleep(RANDOM.random() * 0.02)
    else:
        time.sleep(RANDOM.random() * training.startup * 1.5)
    running.send(signal.SIGKILL)
    outcome = running.wait()
    running.stop()  # workers
    assert outcome.code in (-signal.SIGKILL, 0), str(outcome)
    assert not broken_files(training.folder)
    before, training.best = training.best, max(training.best, best(training.folder))
    assert best(training.folder) >= before


def test_the_killed_training_comes_to_its_end(training):
    outcome = training.start().wait(2 * TIMEOUT)
    assert outcome.code == 0, str(outcome)
    assert not broken_files(training.folder)
    assert not leftovers(training.folder)
    assert [int(row["epoch"]) for row in table(training.folder / "history.csv")] == list(range(1, EPOCHS + 1))
    assert best(training.folder) >= training.best


def test_the_best_weights_are_as_good_as_their_file_says(training):
    folder = training.folder
    words = ("--weights", folder / "model.pt", "--split_file", folder / "split.json", "--device=cpu")
    outcome = training.program.run("bundle", "evaluate", training.data, "--output", folder / "evaluation", *words)
    assert outcome.code == 0, str(outcome)
    rows = table(folder / "evaluation" / "metrics_per_image.csv")
    measured = sum(float(row["mean_dice"]) for row in rows if row["mean_dice"]) / len(rows)
    assert measured == pytest.approx(best(folder), abs=0.02)
