"""The folder of the benchmark repeats its images, and is segmented whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import folder
from scripts.networks.unet import RonnebergerUNet

TINY = (2, 2, 2, 2, 2)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of different sizes."""
    (tmp_path / "images").mkdir()
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (40 + k, 44)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{k}.png")
    return tmp_path / "images"


def test_a_folder_repeats_the_images_in_order(images: Path, tmp_path: Path) -> None:
    folder.fill_folder(images, tmp_path / "many", 7)
    files = sorted((tmp_path / "many").iterdir())
    assert len(files) == 7
    for k, file in enumerate(files):
        with Image.open(file) as copy, Image.open(images / f"{k % 3}.png") as original:
            np.testing.assert_array_equal(np.asarray(copy), np.asarray(original))


def test_a_folder_is_segmented_with_all_kinds_of_results(images: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(RonnebergerUNet(features=TINY).state_dict(), weights)
    settings = {"network_def#features": list(TINY), "dataloader#num_workers": 0, "device": "cpu"}
    seconds = folder.folder_seconds(images, tmp_path / "out", weights, **settings)
    assert min(seconds) > 0
    for kind in ("classes", "probabilities", "instances", "overlays"):
        assert len(list((tmp_path / "out" / kind).iterdir())) == 3
    assert (tmp_path / "out" / "objects.csv").is_file()
