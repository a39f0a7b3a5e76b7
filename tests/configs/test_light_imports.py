"""PNG and TIFF need none of the libraries of other files: both workflows run where these are not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.datasets.synthetic_em import synthetic_section
from scripts.io.files import read_csv
from tests.absent import COMMAND_LINE, HEAVY
from tests.configs.conftest import ROOT, SMALL

BOTH_WORKFLOWS = """
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
"""

READING = """
import json, sys
from tests.absent import HEAVY, hide
hide(HEAVY)

from scripts.io.image_file import ImageFileError
from scripts.io.reader import PlaneReader
for path in sys.argv[1:]:
    reader = PlaneReader()
    try:
        print("read", reader.get_data(reader.read(path))[0].shape)
    except ImageFileError as error:
        print(error)
"""


def run_python(code: str, *words: str) -> list[str]:
    """The lines that a program prints, run from the bundle's root in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


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


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [(*HEAVY, *COMMAND_LINE), ()], ids=["not installed", "installed"])
def test_both_workflows_load_no_library_of_other_files(hidden: tuple[str, ...], png_and_tiff: Path, tmp_path: Path):
    """Where MONAI finds some of these libraries, it loads them itself: then we add none to them."""
    network = {"network_def#features": SMALL["network_def#features"], "device": "cpu"}
    training = {
        **SMALL,
        "dataset_dir": str(png_and_tiff),
        "output_dir": str(tmp_path / "train"),
        "model_dir": str(tmp_path / "models"),
        "label_kind": "instances",
        "max_epochs": 1,
    }
    inference = {
        **network,
        "dataset_dir": str(png_and_tiff / "images"),
        "output_dir": str(tmp_path / "out"),
        "ckpt_path": str(tmp_path / "models" / "model.pt"),
    }
    task = {"hidden": hidden, "training": training, "inference": inference}
    lines = run_python(BOTH_WORKFLOWS, json.dumps(task))
    assert json.loads(lines[-1]) == []

    classes = [np.asarray(Image.open(tmp_path / "out" / "classes" / name)) for name in ("0.png", "1.png", "2.tif")]
    for k, plane in enumerate(classes):
        scores = tifffile.imread(tmp_path / "out" / "probabilities" / f"{k}.tif")
        instances = tifffile.imread(tmp_path / "out" / "instances" / f"{k}.tif")
        overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / f"{k}.png"))
        np.testing.assert_array_equal(plane, scores.argmax(0))
        np.testing.assert_array_equal(instances > 0, scores[1] > 0.5)
        assert overlay.shape == (96, 80, 3)
    assert {row["image"] for row in read_csv(tmp_path / "out" / "objects.csv")} <= {"0.png", "1.png", "2.tif"}


def test_a_file_of_another_kind_names_itself_and_the_package_that_it_needs(tmp_path: Path):
    nibabel, itk, imagecodecs = (pytest.importorskip(name) for name in ("nibabel", "itk", "imagecodecs"))
    plane = np.arange(35, dtype=np.uint8).reshape(5, 7)
    nibabel.save(nibabel.Nifti1Image(plane, np.eye(4)), tmp_path / "scan.nii.gz")
    itk.imwrite(itk.image_from_array(plane), str(tmp_path / "scan.mha"))
    itk.imwrite(itk.image_from_array(plane), str(tmp_path / "scan.nrrd"))
    tifffile.imwrite(tmp_path / "lzw.tif", plane, compression="lzw")
    tifffile.imwrite(tmp_path / "scores.tif", plane.astype(np.float32), compression="zlib", predictor=True)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(np.zeros((5, 7, 3), np.uint16)))
    tifffile.imwrite(tmp_path / "deflate.tif", plane, compression="zlib", predictor=True)
    Image.fromarray(plane).save(tmp_path / "plain.png")

    expected = {  # file: what its message says besides its name
        "scan.nii.gz": ("NIfTI", "pip install nibabel"),
        "scan.mha": ("MHA", "pip install itk"),
        "scan.nrrd": ("NRRD", "pip install itk"),
        "lzw.tif": ("TIFF", "LZW", "pip install imagecodecs"),
        "scores.tif": ("TIFF", "FLOATINGPOINT", "pip install imagecodecs"),
        "deep.png": ("PNG", "16-bit", "pip install imagecodecs"),
        "deflate.tif": ("read (5, 7)",),
        "plain.png": ("read (5, 7)",),
    }
    lines = run_python(READING, *(str(tmp_path / name) for name in expected))
    assert len(lines) == len(expected)
    for line, (name, words) in zip(lines, expected.items(), strict=True):
        assert all(word in line for word in words), line
        assert name in line or line.startswith("read"), line
