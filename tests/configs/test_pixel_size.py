"""inference.yaml rescales images to the pixel size of the training, and writes results of the size of the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.transform import resize

from bundle.datasets.synthetic_em import synthetic_section
from bundle.running.failures import explain
from scripts.handlers.checkpoints import save_weights
from scripts.io.files import read_csv
from scripts.metrics.membranes import thinned_curves
from scripts.networks.unet import RonnebergerUNet
from scripts.settings import Training
from tests.configs.conftest import SMALL, settings

TRAINED = 0.004  # um


def write(path: Path, pixels: np.ndarray, nm: float) -> None:
    """Write a TIFF with the pixel size, as ImageJ does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"unit": "nm", "axes": "ZYX"[-pixels.ndim :]}
    tifffile.imwrite(path, pixels, imagej=True, resolution=(1 / nm, 1 / nm), metadata=metadata)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights of a small network, with the pixel size of the training."""
    torch.manual_seed(0)
    path: Path = tmp_path_factory.mktemp("weights") / "model.pt"
    network = RonnebergerUNet(features=SMALL["network_def#features"])
    save_weights(network, path, training=Training(pixel_size=TRAINED))
    return path


@pytest.fixture
def segment(tmp_path, weights, run_bundle):
    def run(images: Path, pixel_size: Any = None, name: str = "out", **more: Any) -> Path:
        places = {"dataset_dir": str(images), "output_dir": str(tmp_path / name), "ckpt_path": str(weights)}
        run_bundle("inference.yaml", **{**places, "device": "cpu", "pixel_size": pixel_size, **more})
        return tmp_path / name

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Results by their names, without the records of the run, with settings and times."""
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("results.jsonl", "run.json", "run.log")
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_maps_of_uncertainty_have_the_size_of_the_image(segment, tmp_path):
    write(tmp_path / "in" / "cells.tif", synthetic_section(np.random.default_rng(0), (63, 85))[0], nm=6)
    out = segment(tmp_path / "in", "auto", save_uncertainty=True, orientations=4)
    for kind in ("entropy", "deviation"):
        values = tifffile.imread(out / kind / "cells.tif")
        assert values.shape == (63, 85)
        assert 0 <= values.min() < values.max() <= 1


@pytest.mark.parametrize("workers", [0, 1])
def test_results_have_the_size_of_the_image_and_its_grey_values(segment, tmp_path, workers):
    section = synthetic_section(np.random.default_rng(0), (63, 85))[0]
    write(tmp_path / "in" / "cells.tif", section, nm=6)
    out = segment(tmp_path / "in", "auto", **{"dataloader#num_workers": workers})

    classes, scores, instances = (
        tifffile.imread(out / kind / "cells.tif") for kind in ("classes", "probabilities", "instances")
    )
    assert classes.shape == instances.shape == scores.shape[1:] == section.shape
    np.testing.assert_allclose(scores.sum(0), 1, atol=1e-5)
    assert 0 <= scores.min() < scores.max() <= 1
    assert np.asarray(Image.open(out / "overlays" / "cells.png")).shape[:2] == section.shape
    np.testing.assert_array_equal(instances > 0, classes == 1)  # both from the pixels of the training, nearest
    assert (classes == scores.argmax(0)).mean() > 0.9
    numbers = np.unique(instances[instances > 0])
    assert numbers.tolist() == list(range(1, len(numbers) + 1))
    rows = read_csv(out / "objects.csv")
    assert [int(row["label"]) for row in rows] == numbers.tolist()
    for row in rows:
        inside = instances == int(row["label"])
        assert float(row["area_nm2"]) == pytest.approx(36 * inside.sum(), rel=1e-5)
        assert float(row["mean_intensity"]) == pytest.approx(section[inside].mean(), rel=1e-5)


def test_an_image_with_the_pixels_of_the_training_gives_the_same_files_as_without_rescaling(segment, tmp_path):
    write(tmp_path / "in" / "cells.tif", synthetic_section(np.random.default_rng(0), (63, 85))[0], nm=4)
    expected = contents(segment(tmp_path / "in", None, name="off"))
    assert contents(segment(tmp_path / "in", "auto", name="auto")) == expected


def test_a_rescaled_image_gives_the_scores_of_an_image_rescaled_before(segment, tmp_path):
    section = synthetic_section(np.random.default_rng(0), (64, 80))[0]
    large = np.kron(section, np.ones((2, 2), np.uint8))
    write(tmp_path / "fine" / "cells.tif", large, nm=2)
    rescaled = np.asarray(Image.fromarray(large.astype(np.float32)).resize((80, 64), Image.Resampling.BICUBIC))
    write(tmp_path / "coarse" / "cells.tif", rescaled, nm=4)
    fine, coarse = (
        tifffile.imread(
            segment(tmp_path / name, size, name=f"out_{name}", amp_dtype="float32") / "probabilities" / "cells.tif"
        )
        for name, size in (("fine", "auto"), ("coarse", None))
    )
    by_pillow = [Image.fromarray(plane).resize((160, 128), Image.Resampling.BILINEAR) for plane in coarse]
    np.testing.assert_allclose(fine, by_pillow, atol=1e-3)


def test_planes_of_a_stack_and_files_of_several_pixel_sizes_are_restored(segment, tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 41, 50), "b": (70, 33), "c": (20, 21)}
    for (name, shape), nm in zip(shapes.items(), (6, 2.5, 4), strict=True):
        write(tmp_path / "in" / f"{name}.tif", rng.integers(0, 255, shape, np.uint8), nm)
    out = segment(tmp_path / "in", "auto")
    for name, shape in shapes.items():
        assert tifffile.imread(out / "instances" / f"{name}.tif").shape == shape
        assert tifffile.imread(out / "classes" / f"{name}.tif").shape == shape


def test_a_file_without_a_pixel_size_fails_alone_with_the_remedy(segment, tmp_path):
    section = synthetic_section(np.random.default_rng(0), (40, 50))[0]
    write(tmp_path / "in" / "a.tif", section, nm=6)
    Image.fromarray(section).save(tmp_path / "in" / "b.png")
    with pytest.raises(RuntimeError) as raised:
        segment(tmp_path / "in", "auto")
    told = explain(raised.value)
    assert all(word in told for word in ("1 of 2 images failed", "b.png", "--pixel_size 0.004"))
    assert [path.name for path in (tmp_path / "out" / "instances").iterdir()] == ["a.tif"]
    segment(tmp_path / "in" / "b.png", 0.006)
    assert tifffile.imread(tmp_path / "out" / "instances" / "b.tif").shape == (40, 50)


def test_an_evaluation_measures_results_of_the_size_of_the_labels(weights, tmp_path, run_bundle):
    data = tmp_path / "data"
    for kind, pixels in zip(("images", "labels"), synthetic_section(np.random.default_rng(0), (96, 81)), strict=True):
        write(data / kind / "00.tif", pixels, nm=6)
    options = settings(data, tmp_path, evaluation_dir=str(tmp_path / "out"), split_rule="all", save_results=True)
    options |= {"ckpt_path": str(weights), "pixel_size": "auto"}
    run_bundle("train.yaml", "evaluate.yaml", run_id="evaluating", **options)
    assert 0 <= float(read_csv(tmp_path / "out" / "metrics_per_image.csv")[0]["pixel_error"]) <= 1
    assert tifffile.imread(tmp_path / "out" / "instances" / "00.tif").shape == (96, 81)
    assert (tmp_path / "out" / "panels" / "00.png").is_file()


@pytest.mark.slow
def test_an_em_slice_of_finer_pixels_scores_as_the_original_slice_and_coarser_pixels_gain(
    segment, tmp_path, data_root, bundle_root
):
    folder = data_root / "isbi2012" / "train"
    section, truth = (np.asarray(Image.open(folder / kind / "22.png")) for kind in ("images", "labels"))
    fine = resize(section, (768, 768), order=3, preserve_range=True).round().clip(0, 255).astype(np.uint8)
    write(tmp_path / "original" / "22.tif", section, nm=4)
    write(tmp_path / "fine" / "22.tif", fine, nm=4 / 1.5)
    write(tmp_path / "coarse" / "22.tif", section[::2, ::2], nm=8)

    def v_rand(images: str, pixel_size: Any) -> float:
        out = segment(tmp_path / images, pixel_size, ckpt_path=str(bundle_root / "models" / "model.pt"))
        scores = tifffile.imread(out / "probabilities" / "22.tif")[1]
        return thinned_curves(resize(scores, truth.shape, order=1, anti_aliasing=True), truth)[0].score

    original = v_rand("original", None)
    assert v_rand("fine", "auto") == pytest.approx(original, abs=0.01)
    assert v_rand("coarse", None) < v_rand("coarse", "auto") - 0.02
