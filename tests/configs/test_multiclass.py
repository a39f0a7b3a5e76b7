"""Five classes by grey value: files are paired by number, a network trains, and metrics have the classes' names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from monai.bundle import ConfigParser
from PIL import Image

from scripts.handlers.history import read_history
from scripts.io.files import read_csv
from tests.configs.conftest import CONFIGS, SMALL

FILES = ("train.yaml", "data_multiclass.yaml")
NAMES = ["membrane", "intracellular", "mitochondria", "synapse", "glia"]
VALUES = [[0, 32, 64, 96, 128], [255], [191], [223], [159]]  # of the classes, from the data set's README


@pytest.fixture(scope="module")
def made_set(tmp_path_factory) -> Path:
    """Five slices of 64 x 72 pixels in the data set's layout, with all values."""
    root = tmp_path_factory.mktemp("multiclass")
    rng = np.random.default_rng(0)
    (root / "raw").mkdir()
    (root / "labels").mkdir()
    for k in range(5):
        coarse = np.concatenate(VALUES)[rng.permutation(72) % 9].reshape(8, 9)
        label = coarse.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
        image = np.clip(label // 2 + rng.normal(60, 10, label.shape), 0, 255).astype(np.uint8)
        tifffile.imwrite(root / "raw" / f"{k:02}.tif", image)
        Image.fromarray(label).save(root / "labels" / f"labels{k:08}.png")
    return root


def parsed(dataset: Path, folder: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in FILES])
    parser["dataset_dir"], parser["output_dir"] = str(dataset), str(folder)
    return parser


def test_every_grey_value_has_the_class_of_its_name(made_set, tmp_path):
    parser = parsed(made_set, tmp_path)
    assert parser.get_parsed_content("class_names") == NAMES
    item = parser.get_parsed_content("split")["training"][0]
    prepared = parser.get_parsed_content("validate#preprocessing")(item)
    grey = np.asarray(Image.open(item["label"]))
    expected = sum(number * np.isin(grey, values) for number, values in enumerate(VALUES))
    np.testing.assert_array_equal(prepared["label"][0].numpy(), expected)


def test_five_classes_train_from_files_and_are_measured_by_name(made_set, tmp_path, run_bundle):
    paths = {"dataset_dir": str(made_set), "output_dir": str(tmp_path / "out"), "model_dir": str(tmp_path / "models")}
    run_bundle(*FILES, **SMALL, **paths, max_epochs=1, val_interval=1)
    (row,) = read_history(tmp_path / "out" / "history.csv")
    assert np.isfinite(row["loss"])
    assert 0 <= row["val_mean_dice"] <= 1
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert split["validation"] == ["04.tif"]
    assert (tmp_path / "out" / "panel.png").is_file()

    run_bundle(*FILES, "evaluate.yaml", run_id="evaluating", **SMALL, **paths)
    report = json.loads((tmp_path / "out" / "evaluation" / "metrics.json").read_text())
    (measured,) = read_csv(tmp_path / "out" / "evaluation" / "metrics_per_image.csv")
    assert measured["image"] == "04.tif"
    assert report["confusion"]["classes"] == NAMES
    dice = [report["pooled"][f"dice_{name}"] for name in NAMES]
    assert report["pooled"]["mean_dice"] == pytest.approx(np.mean(dice))
    for kind in ("dice", "iou"):
        for name in NAMES:
            assert float(measured[f"{kind}_{name}"]) == pytest.approx(report["mean"][f"{kind}_{name}"], abs=1e-6)
            assert row[f"val_{kind}_{name}"] == pytest.approx(report["mean"][f"{kind}_{name}"], abs=1e-3)


def test_the_real_slices_hold_exactly_the_five_classes_and_the_weights_balance_them(data_root, tmp_path):
    parser = parsed(data_root / "drosophila-vnc", tmp_path)
    split = parser.get_parsed_content("split")
    assert [Path(item["image"]).name for item in split["validation"]] == ["12.tif", "13.tif", "14.tif"]
    prepared = parser.get_parsed_content("validate#preprocessing")(split["validation"][0])
    assert np.unique(prepared["label"]).tolist() == [0, 1, 2, 3, 4]

    counts = np.zeros(5)
    for item in split["training"]:
        of_value = np.bincount(np.asarray(Image.open(item["label"])).ravel(), minlength=256)
        counts += [of_value[values].sum() for values in VALUES]
    share = counts / counts.sum()
    weights = 1 / np.sqrt(share)
    np.testing.assert_allclose(parser["class_balance"], weights / (share @ weights), atol=0.005)
