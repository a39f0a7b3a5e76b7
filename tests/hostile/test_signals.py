"""SIGTERM, as of SLURM and docker stop, and Ctrl-C: the state is saved, tables are closed, workers are gone."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import torch

from tests.hostile.checks import broken_files, leftovers, table
from tests.hostile.conftest import TINY
from tests.hostile.program import TIMEOUT, Outcome, Program, Running
from tests.hostile.samples import write_images, write_pairs

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def stop(running: Running, number: int, path: Path, seconds: float = 0.5) -> Outcome:
    """Wait for a file and a moment more, send a signal, and wait for the end."""
    end = time.monotonic() + TIMEOUT
    while not list(path.parent.glob(path.name)) and not running.done and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(seconds)
    assert not running.done, f"ended too early for this test: {running.wait()}"
    running.send(number)
    outcome = running.wait(60)
    gone = time.monotonic() + 10
    while running.processes() and time.monotonic() < gone:
        time.sleep(0.1)
    left = running.processes()
    running.stop()
    assert not left, f"processes are left: {left}"
    return outcome


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(("command", "workers"), [("bundle", 0), ("bundle", 2), ("monai.bundle", 2)])
def test_a_stopped_training_saves_its_state(program: Program, tmp_path, command, workers, number):
    data, out = write_pairs(tmp_path / "data", count=2, size=64, binary=True), tmp_path / "out"
    options = [word for word in TINY if "workers" not in word]
    options += [f"--num_workers={workers}", "--max_epochs=100000", "--val_interval=1000", "--tiles_per_epoch=20"]
    if command == "bundle":
        running = program.start("bundle", "train", data, "--output", out, *options)
    else:
        paths = ("--dataset_dir", data, "--output_dir", out, "--model_dir", out)
        words = ("run", "training", "--config_file", "configs/train.yaml", *paths, *options)
        running = program.start("monai.bundle", *words)
    outcome = stop(running, number, out / "history.csv")
    strict = command == "bundle" or number == signal.SIGTERM
    assert outcome.code == CODES[number] or (not strict and outcome.code in (1, 130, -2)), str(outcome)
    assert command == "monai.bundle" or "Traceback" not in outcome.text, str(outcome)
    state = torch.load(out / "training_state.pt", weights_only=True)
    assert state["trainer"]["iteration"] > 0
    assert not broken_files(out)
    assert not leftovers(out)


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("command", ["bundle", "monai.bundle"])
def test_a_stopped_inference_closes_its_table(program: Program, weights, tmp_path, command, number):
    images, out = write_images(tmp_path / "images", count=150), tmp_path / "out"
    if command == "bundle":
        running = program.start("bundle", "segment", images, "--output", out, "--weights", weights, "--device=cpu")
    else:
        words = ("--dataset_dir", images, "--output_dir", out, "--ckpt_path", weights, "--device=cpu")
        running = program.start("monai.bundle", "run", "--config_file", "configs/inference.yaml", *words)
    outcome = stop(running, number, out / "overlays" / "03.png")
    strict = command == "bundle" or number == signal.SIGTERM
    assert outcome.code == CODES[number] or (not strict and outcome.code in (1, 130, -2)), str(outcome)
    finished = {path.stem for path in out.glob("overlays/*.png") if not path.name.startswith(".")}
    listed = {Path(row["image"]).stem for row in table(out / "objects.csv")}
    assert len(finished) > 2
    assert len(finished - listed) <= 1
    assert not broken_files(out)
    assert not leftovers(out)


def test_a_stopped_evaluation_leaves_nothing_half(program: Program, weights, tmp_path):
    data, out = write_pairs(tmp_path / "data", count=60), tmp_path / "out"
    words = ("--output", out, "--weights", weights, "--device=cpu", "--label_kind=instances", "--save_results=true")
    running = program.start("bundle", "evaluate", data, *words)
    outcome = stop(running, signal.SIGTERM, out / "instances" / "03.tif", 0.1)
    assert outcome.code == 143, str(outcome)
    assert not broken_files(out)
    assert not leftovers(out)
