"""What users have stays: results never overwrite images, trainings keep finished ones, two processes do not mix."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.hostile.checks import broken_files, contents, table
from tests.hostile.conftest import TINY
from tests.hostile.program import TIMEOUT, Program, Running
from tests.hostile.samples import write_images, write_pairs
from tests.hostile.weights import write_weights

KINDS = ("classes", "probabilities", "instances", "overlays")


def source(folder: Path, kind: str) -> Path:
    """Write a folder of images with the name of a folder of results."""
    import numpy as np
    import tifffile

    images = write_images(folder / kind, count=2)
    if kind in ("probabilities", "instances"):
        for path in images.glob("*.png"):
            from tests.hostile.checks import read

            tifffile.imwrite(path.with_suffix(".tif"), np.asarray(read(path)))
            path.unlink()
    return images


@pytest.mark.parametrize("command", ["bundle", "monai.bundle"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_never_overwrite_their_source(program: Program, weights, tmp_path, kind, command):
    images = source(tmp_path, kind)
    before = contents(images)
    if command == "bundle":
        outcome = program.run("bundle", "segment", images, "--output", tmp_path, "--weights", weights)
    else:
        words = ("--dataset_dir", images, "--output_dir", tmp_path, "--ckpt_path", weights)
        outcome = program.run("monai.bundle", "run", "--config_file", "configs/inference.yaml", *words)
    after = contents(images)
    assert {name: after.get(name) for name in before} == before, str(outcome)
    assert outcome.code in (1, 2), str(outcome)


@pytest.mark.parametrize("link", ["output", "source", "hard"])
def test_links_to_the_source_are_found(program: Program, weights, tmp_path, link):
    images = source(tmp_path / "real", "classes")
    before = contents(images)
    given, out = images, tmp_path / "real"
    if link == "output":
        (tmp_path / "link").symlink_to(tmp_path / "real")
        out = tmp_path / "link"
    elif link == "source":
        (tmp_path / "link").symlink_to(images)
        given = tmp_path / "link"
    else:
        given = tmp_path / "hard"
        given.mkdir()
        for path in images.glob("*"):
            os.link(path, given / path.name)
    outcome = program.run("bundle", "segment", given, "--output", out, "--weights", weights)
    assert {name: contents(images).get(name) for name in before} == before, str(outcome)


def test_a_single_image_is_not_overwritten(program: Program, weights, tmp_path):
    images = source(tmp_path, "classes")
    before = contents(images)
    outcome = program.run("bundle", "segment", images / "00.png", "--output", tmp_path, "--weights", weights)
    assert contents(images) == before, str(outcome)


def test_results_of_an_evaluation_never_overwrite_images(program: Program, weights, tmp_path):
    data = write_pairs(tmp_path / "data", count=2)
    (data / "images").rename(data / "instances")
    pairs = [
        {"image": str(path), "label": str(data / "labels" / path.name)} for path in (data / "instances").glob("*.png")
    ]
    (data / "dataset.json").write_text(json.dumps({"training": pairs}))
    before = contents(data)
    words = ("--weights", weights, "--output", data, "--save_results=true", "--device=cpu")
    outcome = program.run("bundle", "evaluate", data / "dataset.json", *words)
    assert {name: contents(data).get(name) for name in before} == before, str(outcome)


def train(program: Program, folder: Path, *more: str) -> Running:
    words = (*TINY, "--val_interval=1", "--label_kind=instances", *more)
    return program.start("bundle", "train", folder / "data", "--output", folder / "out", *words)


def test_a_second_training_moves_the_first_aside(program: Program, tmp_path):
    write_pairs(tmp_path / "data", count=2, size=64)
    for epochs in (1, 2, 1):
        outcome = train(program, tmp_path, f"--max_epochs={epochs}").wait()
        assert outcome.code == 0, str(outcome)
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.pt", "model.1.pt", "model.2.pt"} <= kept
    assert {"training_state.pt", "training_state.1.pt"} <= kept
    assert not broken_files(tmp_path / "out")
    rows = [len(table(path)) for path in sorted((tmp_path / "out").glob("history*.csv"))]
    assert sorted(rows) == [1, 1, 2]


def test_a_fine_tuning_in_the_folder_of_its_weights_keeps_them(program: Program, tmp_path):
    write_pairs(tmp_path / "data", count=2, size=64)
    start = write_weights(tmp_path / "out")
    content = start.read_bytes()
    outcome = train(program, tmp_path, "--max_epochs=1", f"--finetune={start}").wait()
    kept = [path.name for path in (tmp_path / "out").glob("*.pt") if path.read_bytes() == content]
    assert kept, str(outcome)


@pytest.mark.parametrize("command", ["train", "segment"])
def test_a_second_process_in_a_folder_is_refused(program: Program, weights, tmp_path, command):
    out = tmp_path / "out"
    if command == "train":
        write_pairs(tmp_path / "data", count=2, size=64)
        first = train(program, tmp_path, "--max_epochs=500")
        wait_for(first, out / "training_state.pt")
        second = train(program, tmp_path, "--max_epochs=1", "--learning_rate=0.5").wait()
    else:
        images = write_images(tmp_path / "images", count=100)
        words = ("bundle", "segment", images, "--output", out, "--weights", weights, "--device=cpu")
        first = program.start(*words)
        wait_for(first, out / "overlays")
        second = program.run(*words, "--threshold=0.9")
    alive = not first.done
    first.send(signal.SIGKILL)
    assert alive, "the first process ended too early for this test"
    assert second.code in (1, 2), str(second)
    assert str(first.pid) in second.last, str(second)
    assert not broken_files(out)


def wait_for(running: Running, path: Path) -> None:
    end = time.monotonic() + TIMEOUT
    while not path.exists() and not running.done and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize("command", ["train", "segment"])
def test_the_folder_of_a_killed_process_is_taken_over(program: Program, weights, tmp_path, command):
    out = tmp_path / "out"
    if command == "train":
        write_pairs(tmp_path / "data", count=2, size=64)
        first = train(program, tmp_path, "--max_epochs=500")
        wait_for(first, out / "training_state.pt")
        first.send(signal.SIGKILL)
        first.wait()
        second = train(program, tmp_path, "--max_epochs=1").wait()
    else:
        words = ("bundle", "segment", write_images(tmp_path / "images", 100), "--output", out, "--weights", weights)
        first = program.start(*words)
        wait_for(first, out / "overlays")
        first.send(signal.SIGKILL)
        first.wait()
        second = program.run(*words)
    assert second.code == 0, str(second)
