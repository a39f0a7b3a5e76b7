"""The command `segment` with an output that ends in .zarr: one image of any size, block by block."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from bundle.__main__ import main
from bundle.running.configuration import ROOT
from scripts.handlers.checkpoints import save_weights
from scripts.networks.unet import RonnebergerUNet
from scripts.segmenter import Segmenter
from scripts.settings import ModelSettings

GREY = np.random.default_rng(0).integers(0, 255, (150, 170), np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("large")
    save_weights(RonnebergerUNet(features=(2, 4, 8)), folder / "model.pt", ModelSettings())
    tifffile.imwrite(folder / "image.tif", GREY)
    (folder / "images").mkdir()
    tifffile.imwrite(folder / "images" / "a.tif", GREY)
    return folder


def segment(files: Path, image: str, *options: str) -> int:
    return main(["segment", str(files / image), "--weights", str(files / "model.pt"), *options])


def test_a_tiff_becomes_ome_zarr_which_is_an_input_again(files, tmp_path, capsys):
    options = ("--block_size", "64", "--amp_dtype", "float32")
    assert segment(files, "image.tif", "--output", str(tmp_path / "slide.1.ome.zarr"), *options) == 0
    printed = capsys.readouterr().out
    assert "slide.1.ome.zarr" in printed
    assert "slide.1.objects.csv" in printed
    table = (tmp_path / "slide.1.images.csv").read_text().splitlines()
    assert f"{dict(zip(*(line.split(',') for line in table), strict=True))['objects']} object" in printed
    classes = zarr.open_group(tmp_path / "slide.1.ome.zarr", mode="r")["labels/classes/0"]
    expected = Segmenter(files / "model.pt", amp_dtype="float32", device="cpu")(GREY).classes
    np.testing.assert_array_equal(np.asarray(classes), expected)

    group = zarr.open_group(tmp_path / "in.ome.zarr", mode="w")
    group.create_array("0", data=GREY)
    axes = [{"name": name, "type": "space"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    again = ["segment", str(tmp_path / "in.ome.zarr"), "--weights", str(files / "model.pt")]
    assert main([*again, "--output", str(tmp_path / "b.ome.zarr"), *options]) == 0
    classes = zarr.open_group(tmp_path / "b.ome.zarr", mode="r")["labels/classes/0"]
    np.testing.assert_array_equal(np.asarray(classes), expected)


@pytest.mark.parametrize(
    "image, options, words",
    [
        ("image.tif", ("--block_size", "64"), ("block_size", ".zarr")),
        ("image.tif", ("--output", "out.ome.zarr", "--save_overlays", "true"), ("save_overlays",)),
        ("image.tif", ("--output", "out.ome.zarr", "--skip_finished", "true"), ("skip_finished",)),
        ("image.tif", ("--output", "out.ome.zarr", "--block_size", "100"), ("block_size", "100", "16")),
        ("image.tif", ("--output", "out.ome.zarr", "--block_siz", "64"), ("block_siz", "block_size")),
        ("image.tif", ("--output", "out.ome.zarr", "--pixel_size", "0.5"), ("pixel_size",)),
        ("images", ("--output", "out.ome.zarr"), ("images", "folder")),
        ("image.tif", ("--output", "out.ome.zar"), ("out.ome.zar ", "out.ome.zarr")),
    ],
)
def test_what_does_not_fit_is_named(image, options, words, files, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert segment(files, image, *options) in (1, 2)
    error = capsys.readouterr().err
    assert all(word in error for word in words), error
    assert not list(tmp_path.glob("out*"))


def test_zarr_needs_an_output_in_zarr(files, tmp_path, capsys):
    zarr.create_array(tmp_path / "in.zarr", shape=(64, 64), dtype="uint8")
    assert main(["segment", str(tmp_path / "in.zarr"), "--weights", str(files / "model.pt")]) == 2
    assert ".ome.zarr" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, remedy", [((), "the same command"), (("--overwrite", "true"), "without --overwrite")]
)
def test_after_an_interruption_the_next_step_is_named(options, remedy, files, tmp_path):
    """Ctrl-C arrives as soon as the output exists."""
    command = ["segment", str(files / "image.tif"), "--weights", str(files / "model.pt"), *options]
    command = [sys.executable, "-m", "bundle", *command, "--output", str(tmp_path / "out.ome.zarr")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("out*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]
    assert process.returncode == 130, error
    assert remedy in error
