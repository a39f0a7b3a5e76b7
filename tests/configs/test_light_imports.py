"""Both workflows run on PNG and TIFF files without the libraries of rarer formats."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.datasets.synthetic_em import synthetic_section
from scripts.io.files import read_csv
from tests.absent import COMMAND_LINE, HEAVY
from tests.configs.conftest import ROOT, SMALL, settings

PROGRAM = """
import json, sys
from tests.absent import HEAVY, hide
task = json.loads(sys.argv[1])
hide(task["hidden"])

import monai.bundle, monai.data, monai.engines, monai.handlers, monai.transforms, torch.utils.tensorboard
before = {name for name in HEAVY if name in sys.modules}
from bundle.running.run import run
run("training", config_file="configs/train.yaml", **task["training"])
run(config_file="configs/inference.yaml", **task["inference"])
print(json.dumps(sorted(name for name in HEAVY if name in sys.modules and name not in before)))

from scripts.io.image_file import ImageFileError
from scripts.io.reader import PlaneReader
for path in task["reading"]:
    reader = PlaneReader()
    try:
        print("read", reader.get_data(reader.read(path))[0].shape)
    except ImageFileError as error:
        print(error)
"""
EXPECTED = {  # file: parts of the message when read without the libraries
    "scan.nii.gz": ("NIfTI", "pip install nibabel"),
    "scan.mha": ("MHA", "pip install itk"),
    "scan.nrrd": ("NRRD", "pip install itk"),
    "lzw.tif": ("TIFF", "LZW", "pip install imagecodecs"),
    "scores.tif": ("TIFF", "FLOATINGPOINT", "pip install imagecodecs"),
    "deep.png": ("PNG", "16-bit", "pip install imagecodecs"),
    "deflate.tif": ("read (5, 7)",),
    "plain.png": ("read (5, 7)",),
}
WRITERS = ("nibabel", "itk", "imagecodecs")
HIDDEN = (*HEAVY, *COMMAND_LINE)


@pytest.fixture(scope="module")
def png_and_tiff(tmp_path_factory) -> Path:
    """Two PNG images and a deflate TIFF, with their labels as PNG."""
    folder = tmp_path_factory.mktemp("png_and_tiff")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for k in range(3):
        image, label = synthetic_section(np.random.default_rng(k), (96, 80))
        if k < 2:
            Image.fromarray(image).save(folder / "images" / f"{k}.png")
        else:
            tifffile.imwrite(folder / "images" / f"{k}.tif", image, compression="zlib", predictor=True)
        Image.fromarray(label).save(folder / "labels" / f"{k}.png")
    return folder


def write_other_files(folder: Path) -> list[str]:
    """Write the files of EXPECTED, if the libraries are installed."""
    if not all(importlib.util.find_spec(name) for name in WRITERS):
        return []
    nibabel, itk, imagecodecs = (importlib.import_module(name) for name in WRITERS)
    plane = np.arange(35, dtype=np.uint8).reshape(5, 7)
    nibabel.save(nibabel.Nifti1Image(plane, np.eye(4)), folder / "scan.nii.gz")
    itk.imwrite(itk.image_from_array(plane), str(folder / "scan.mha"))
    itk.imwrite(itk.image_from_array(plane), str(folder / "scan.nrrd"))
    tifffile.imwrite(folder / "lzw.tif", plane, compression="lzw")
    tifffile.imwrite(folder / "scores.tif", plane.astype(np.float32), compression="zlib", predictor=True)
    (folder / "deep.png").write_bytes(imagecodecs.png_encode(np.zeros((5, 7, 3), np.uint16)))
    tifffile.imwrite(folder / "deflate.tif", plane, compression="zlib", predictor=True)
    Image.fromarray(plane).save(folder / "plain.png")
    return [str(folder / name) for name in EXPECTED]


@pytest.fixture(scope="module")
def run_workflows(png_and_tiff, tmp_path_factory):
    """Train, segment and read the files in a process with some packages hidden. Runs once for each set of packages.

    Returns the output folder of the inference, the names of loaded libraries, and a line for each file.
    """

    @cache
    def run(hidden: tuple[str, ...]) -> tuple[Path, list[str], list[str]]:
        folder = tmp_path_factory.mktemp("workflows")
        training = settings(png_and_tiff, folder, max_epochs=1) | {"output_dir": str(folder / "train")}
        inference = {
            "network_def#features": SMALL["network_def#features"],
            "device": "cpu",
            "dataset_dir": str(png_and_tiff / "images"),
            "output_dir": str(folder / "out"),
            "ckpt_path": str(folder / "models" / "model.pt"),
            "threshold": 0.5,  # not the fitted values
            **dict.fromkeys(("min_area", "close_gaps", "split_necks", "field_border"), 0),
        }
        reading = write_other_files(folder) if hidden else []
        task = {"hidden": hidden, "training": training, "inference": inference, "reading": reading}
        command = [sys.executable, "-c", PROGRAM, json.dumps(task)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        lines = done.stdout.splitlines()
        first = len(lines) - len(reading)
        return folder / "out", json.loads(lines[first - 1]), lines[first:]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [HIDDEN, ()], ids=["not installed", "installed"])
def test_both_workflows_load_no_library_of_other_files(hidden, run_workflows):
    """Libraries loaded by MONAI do not count."""
    out, loaded, _ = run_workflows(hidden)
    assert loaded == []
    classes = [np.asarray(Image.open(out / "classes" / name)) for name in ("0.png", "1.png", "2.tif")]
    for k, plane in enumerate(classes):
        scores = tifffile.imread(out / "probabilities" / f"{k}.tif")
        instances = tifffile.imread(out / "instances" / f"{k}.tif")
        overlay = np.asarray(Image.open(out / "overlays" / f"{k}.png"))
        np.testing.assert_array_equal(plane, scores.argmax(0))
        np.testing.assert_array_equal(instances > 0, scores[1] > 0.5)
        assert overlay.shape == (96, 80, 3)
    assert {row["image"] for row in read_csv(out / "objects.csv")} <= {"0.png", "1.png", "2.tif"}


@pytest.mark.skipif(not all(map(importlib.util.find_spec, WRITERS)), reason=f"one of {WRITERS} is not installed")
def test_a_file_of_another_kind_names_itself_and_the_missing_package(run_workflows):
    *_, lines = run_workflows(HIDDEN)
    assert len(lines) == len(EXPECTED)
    for line, (name, parts) in zip(lines, EXPECTED.items(), strict=True):
        assert all(part in line for part in parts), line
        assert name in line or line.startswith("read"), line
