"""A disk without space: a small tmpfs, in training, inference, evaluation and export. Needs root."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.checks import broken_files, leftovers, table
from tests.hostile.conftest import TINY
from tests.hostile.program import Outcome, Program
from tests.hostile.samples import write_images, write_pairs


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make a file system of some KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def assert_told(outcome: Outcome, disk: Path) -> None:
    """Check that the last message says what happened, and where."""
    assert outcome.code == 1, str(outcome)
    assert any(word in outcome.last.lower() for word in ("no space", "full", "space left")), str(outcome)
    assert str(disk) in outcome.last or "output_dir" in outcome.last, str(outcome)
    assert not broken_files(disk)
    assert not leftovers(disk)


@pytest.mark.parametrize("command", ["bundle", "monai.bundle"])
@pytest.mark.parametrize("size", [16, 120, 320])
def test_a_training_tells_that_the_disk_is_full(program: Program, disk, tmp_path, size, command):
    data, out = write_pairs(tmp_path / "data", count=2, size=64, binary=True), disk(size)
    words = (*TINY, "--max_epochs=30", "--val_interval=1", "--patience=0")
    if command == "bundle":
        outcome = program.run("bundle", "train", data, "--output", out, *words)
    else:
        paths = ("--dataset_dir", data, "--output_dir", out, "--model_dir", out)
        outcome = program.run("monai.bundle", "run", "training", "--config_file", "configs/train.yaml", *paths, *words)
    assert_told(outcome, out)


def test_a_training_keeps_its_last_state_when_the_disk_gets_full(program: Program, disk, tmp_path):
    data, out = write_pairs(tmp_path / "data", count=2, size=64, binary=True), disk(4096)
    words = ("bundle", "train", data, "--output", out, *TINY, "--val_interval=1", "--patience=0")
    first = program.run(*words, "--max_epochs=2")
    assert first.code == 0, str(first)
    state, settings = (out / "training_state.pt").read_bytes(), json.loads((out / "model.json").read_text())
    with (out / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass
    outcome = program.run(*words, "--max_epochs=4", "--resume=true")
    assert outcome.code == 1, str(outcome)
    assert (out / "training_state.pt").read_bytes() == state
    assert json.loads((out / "model.json").read_text())["training"]["best"] >= settings["training"]["best"]
    (out / "ballast").unlink()
    again = program.run(*words, "--max_epochs=4", "--resume=true")
    assert again.code == 0, str(again)


@pytest.mark.parametrize("size", [16, 80, 160])
def test_an_inference_on_a_full_disk_keeps_what_is_finished(program: Program, disk, weights, tmp_path, size):
    images, out = write_images(tmp_path / "images", count=8), disk(size)
    words = ("bundle", "segment", images, "--output", out, "--weights", weights, "--device=cpu")
    outcome = program.run(*words)
    assert_told(outcome, out)
    finished = {path.stem for path in out.glob("overlays/*.png")}  # the last file of an image
    if len(finished) > 1:
        listed = {Path(row["image"]).stem for row in table(out / "objects.csv")}
        assert len(finished - listed) <= 1


@pytest.mark.parametrize("size", [8, 60])
def test_an_evaluation_tells_that_the_disk_is_full(program: Program, disk, weights, pairs, size):
    out = disk(size)
    words = ("--weights", weights, "--output", out, "--device=cpu", "--label_kind=instances")
    assert_told(program.run("bundle", "evaluate", pairs, *words), out)


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_an_export_tells_that_the_disk_is_full(program: Program, disk, weights, kind):
    out = disk(8)
    ending = {"onnx": "onnx", "torchscript": "ts"}[kind]
    outcome = program.run("bundle", "export", kind, "--ckpt_path", weights, "--output", out / f"model.{ending}")
    assert_told(outcome, out)
    assert not list(out.glob("model.*"))
