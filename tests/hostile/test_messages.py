"""Errors end with one message that names file or key and the remedy, and with an exit code, never with an abort."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.hostile.checks import table
from tests.hostile.conftest import TINY
from tests.hostile.program import ENVIRONMENT, ROOT, Program
from tests.hostile.samples import cells, write_images, write_pairs


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("small"), count=4, size=64)


def test_a_small_shared_memory_leads_to_no_workers(small, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a /dev/shm of its own needs root")
    options = " ".join(word for word in TINY if "workers" not in word).replace("[", "'[").replace("]", "]'")
    train = f"'{sys.executable}' -m bundle train '{small}' --output '{tmp_path}' {options}"
    more = "--tiles_per_epoch=32 --num_workers=2 --max_epochs=3 --label_kind=instances"
    shell = f"mount -t tmpfs -o size=64k tmpfs /dev/shm && exec {train} --batch_size=8 {more}"
    command = ["unshare", "--mount", "sh", "-c", shell]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mounts of its own here: {done.stderr[-200:]}")
    if done.returncode != 0:  # torch may find other ways
        assert done.returncode == 1, done.stderr[-3000:]
        assert "num_workers" in done.stderr.rpartition("error:")[2], done.stderr[-3000:]


@pytest.mark.parametrize("number", range(4))
def test_a_clean_error_is_no_abort(program: Program, small, tmp_path, number):
    words = ("--output", tmp_path, *TINY, "--label_kind=classes", "--max_epochs=1")
    outcome = program.run("bundle", "train", small, *words)
    assert outcome.code == 1, str(outcome)
    assert "terminate called" not in outcome.text


def test_fewer_validation_images_than_processes_train(program: Program, small, tmp_path):
    launch = ("torch.distributed.run", "--standalone", "--nproc_per_node=3", "-m", "bundle", "train", small)
    words = ("--output", tmp_path, "--overlay=multi_gpu_train", *TINY, "--label_kind=instances", "--max_epochs=2")
    outcome = program.run(*launch, *words, "--val_interval=1", timeout=400, environment={"PYTHONPATH": str(ROOT)})
    assert outcome.code == 0, str(outcome)
    assert (tmp_path / "model.pt").exists()
    measured = [row for row in table(tmp_path / "history.csv") if row["val_pixel_error"]]
    assert len(measured) == 2


WRONG_SIZE = ("--input_size=100", "--label_kind=instances")
FAILURES = {
    "no data": (["training", "--config_file", "configs/train.yaml", "--dataset_dir", "{none}"], "nowhere"),
    "no weights": (["--config_file", "configs/inference.yaml", "--dataset_dir", "{images}"], "nowhere"),
    "a damaged image": (["--config_file", "configs/inference.yaml", "--dataset_dir", "{bad}"], "bad.png"),
    "a wrong size": (
        ["training", "--config_file", "configs/train.yaml", "--dataset_dir", "{pairs}", *WRONG_SIZE],
        "input",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_the_plain_command_ends_with_our_message(program: Program, small, weights, tmp_path, case):
    images = write_images(tmp_path / "images", count=1)
    bad = write_images(tmp_path / "bad", count=1)
    (bad / "bad.png").write_bytes(b"no image")
    places = {"none": tmp_path / "nowhere", "images": images, "bad": bad, "pairs": small}
    words, named = FAILURES[case]
    given = tmp_path / "nowhere.pt" if case == "no weights" else weights
    more = ["--model_dir", tmp_path / "out"] if "training" in words else ["--ckpt_path", given]
    given_words = [word.format(**places) for word in words]
    sizes = [word for word in TINY if "training" in words and not (case == "a wrong size" and "input" in word)]
    outcome = program.run("monai.bundle", "run", *given_words, *more, "--output_dir", tmp_path / "out", *sizes)
    assert outcome.code not in (0, None), str(outcome)
    assert named in "\n".join(outcome.text.strip().splitlines()[-3:]), str(outcome)
    assert "~~~" not in outcome.text.strip().splitlines()[-1]


@pytest.mark.parametrize("ending", ["onnx", "ts", "pt2"])
def test_a_damaged_export_is_refused_by_name(program: Program, images, tmp_path, ending):
    path = tmp_path / f"mine.{ending}"
    path.write_bytes(b"PK\x03\x04" + bytes(3000))
    outcome = program.run("bundle", "segment", images, "--backend", path, "--output", tmp_path / "out")
    assert outcome.code == 1, str(outcome)
    assert f"mine.{ending}" in outcome.last, str(outcome)
    assert "Traceback" not in outcome.text


def test_an_export_never_replaces_its_weights(program: Program, weights):
    content = weights.read_bytes()
    outcome = program.run("bundle", "export", "torchscript", "--ckpt_path", weights, "--output", weights)
    assert outcome.code in (1, 2), str(outcome)
    assert weights.read_bytes() == content


@pytest.mark.parametrize("place", ["/proc/none/out", "{file}/out", "{file}"])
def test_a_folder_that_cannot_be_written_is_named(program: Program, images, weights, tmp_path, place):
    (tmp_path / "file").write_text("")
    out = place.format(file=tmp_path / "file")
    outcome = program.run("bundle", "segment", images, "--output", out, "--weights", weights)
    assert outcome.code in (1, 2), str(outcome)
    assert out in outcome.last or str(Path(out).parent) in outcome.last, str(outcome)


def test_a_folder_without_images_is_named(program: Program, weights, tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = program.run("bundle", "segment", tmp_path / "empty", "--output", tmp_path / "o", "--weights", weights)
    assert outcome.code in (1, 2), str(outcome)
    assert "empty" in outcome.last


def test_an_image_that_is_removed_meanwhile_is_named(program: Program, weights, tmp_path):
    images = write_images(tmp_path / "images", count=60)
    running = program.start("bundle", "segment", images, "--output", tmp_path / "o", "--weights", weights)
    while not (tmp_path / "o" / "overlays").exists() and not running.done:
        pass
    (images / "59.png").unlink()
    Image.fromarray(cells(1)[0]).save(images / "new.png")
    outcome = running.wait()
    assert outcome.code == 1, str(outcome)
    assert "59.png" in outcome.last, str(outcome)
    assert len(list((tmp_path / "o" / "classes").glob("*"))) == 59
