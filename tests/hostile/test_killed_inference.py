"""kill -9 at random moments of an inference, and --skip_finished true after each."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.checks import broken_files, leftovers, read, table
from tests.hostile.program import TIMEOUT, Program
from tests.hostile.samples import write_images

KILLS = 20
IN_A_FOLDER = 5  # then the work is finished, and another folder is begun
RANDOM = random.Random(16)


class Inference:
    """A folder of images, segmented once without interruption, and the same again with many."""

    def __init__(self, program: Program, folder: Path, weights: Path) -> None:
        self.program, self.root = program, folder
        self.images = write_images(folder / "images", count=24)
        self.words = ("bundle", "segment", self.images, "--weights", weights, "--device=cpu")
        running = program.start(*self.words, "--output", folder / "reference")
        self.startup = self.seconds = 0.0
        while not running.done and time.monotonic() < running.begun + TIMEOUT:
            if not self.startup and any((folder / "reference").rglob("*.png")):
                self.startup = time.monotonic() - running.begun
            time.sleep(0.01)
        outcome = running.wait()
        assert outcome.code == 0, str(outcome)
        self.seconds = outcome.seconds
        self.reference = results(folder / "reference")


def results(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted([*folder.rglob("*.png"), *folder.rglob("*.tif")]):
        if not path.name.startswith("."):
            found[str(path.relative_to(folder))] = read(path)
    return found


def objects(folder: Path) -> list[tuple[str, ...]]:
    return sorted(tuple(row.values()) for row in table(folder / "objects.csv"))


@pytest.fixture(scope="module")
def inference(program: Program, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Inference:
    return Inference(program, tmp_path_factory.mktemp("inference"), weights)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_inference_leaves_whole_results_and_a_readable_table(inference, number):
    folder = inference.root / f"killed{number // IN_A_FOLDER}"
    again = ["--skip_finished=true"] if number % IN_A_FOLDER else []
    running = inference.program.start(*inference.words, "--output", folder, *again)
    if number % 4 == 3:
        time.sleep(RANDOM.random() * inference.seconds)
    else:
        written = len(list(folder.rglob("*.*")))
        more = RANDOM.randint(1, 30)
        while len(list(folder.rglob("*.*"))) < written + more and not running.done:
            time.sleep(0.001)
    running.send(signal.SIGKILL)
    outcome = running.wait()
    running.stop()
    assert outcome.code in (-signal.SIGKILL, 0), str(outcome)
    assert not broken_files(folder)
    finished = {Path(name).stem for name in results(folder) if name.startswith("classes/")}
    if (folder / "objects.csv").exists():  # the last images may be without rows yet
        listed = {Path(row["image"]).stem for row in table(folder / "objects.csv")}
        assert len(finished - listed) <= 2
    else:
        assert len(finished) <= 2


@pytest.mark.parametrize("number", range(KILLS // IN_A_FOLDER))
def test_skip_finished_completes_what_was_killed(inference, number):
    folder = inference.root / f"killed{number}"
    outcome = inference.program.run(*inference.words, "--output", folder, "--skip_finished=true")
    assert outcome.code == 0, str(outcome)
    found = results(folder)
    assert found.keys() == inference.reference.keys()
    assert all(np.array_equal(found[name], inference.reference[name]) for name in found)
    assert objects(folder) == objects(inference.root / "reference")
    assert not leftovers(folder)
