"""The times of whole workflows: the right work is timed, to the right moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import folder, start
from scripts.networks.unet import RonnebergerUNet

TINY = (2, 2, 2, 2, 2)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of different sizes and their labels."""
    for kind, top in (("images", 255), ("labels", 1)):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for k in range(3):
            pixels = np.random.default_rng(k).integers(0, top + 1, (40 + k, 44)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{k}.png")
    return tmp_path / "data" / "images"


@pytest.mark.slow
def test_both_workflows_get_to_the_network_after_the_import(images: Path) -> None:
    training = start.training_seconds(images.parent, TINY, input_size=188, num_workers=0)
    assert min(training, start.prediction_seconds(images, TINY), start.import_seconds()) > 0


def test_a_run_that_does_not_get_there_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"did not get to the network:\n(.|\n)*nowhere"):
        start._seconds_until_noted([start.sys.executable, "-c", "raise SystemExit('nowhere')"])


def test_a_folder_is_filled_with_the_images_in_turn(images: Path, tmp_path: Path) -> None:
    folder.fill_folder(images, tmp_path / "many", 7)
    files = sorted((tmp_path / "many").iterdir())
    assert len(files) == 7
    for k, file in enumerate(files):
        with Image.open(file) as copy, Image.open(images / f"{k % 3}.png") as original:
            np.testing.assert_array_equal(np.asarray(copy), np.asarray(original))


def test_a_folder_is_segmented_whole_each_time(images: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(RonnebergerUNet(features=TINY).state_dict(), weights)
    settings = {"network_def#features": list(TINY), "dataloader#num_workers": 0, "device": "cpu"}
    times = folder.folder_seconds(images, tmp_path / "out", weights, repeats=2, **settings)
    assert len(times) == 2
    assert all(t.whole > 0 and t.network > 0 and t.ratio == t.whole / t.network for t in times)
    for kind in ("classes", "probabilities", "instances", "overlays"):
        assert len(list((tmp_path / "out" / kind).iterdir())) == 3
    assert (tmp_path / "out" / "objects.csv").is_file()
