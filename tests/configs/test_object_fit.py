"""A training ends with settings of objects fitted to its validation images. Later commands use them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bundle.__main__ import main
from scripts.settings import change_settings, read_settings
from tests.configs.conftest import CONFIGS, settings, words

# a small, padded network that finds cells after some seconds
LEARNING = {
    "network_def#features": [8, 16],
    "learning_rate": 1e-2,
    "network_def#padding": "same",
    "input_size": 64,
    "output_size": 64,
    "tiles_per_epoch": 60,
    "max_epochs": 1,
    "val_fraction": 0.5,  # 12 cells
}


def train(dataset: Path, folder: Path, *overlays: str, **more: object) -> int:
    files = ",".join(str(CONFIGS / name) for name in ("train.yaml", "variant_adam.yaml", *overlays))
    options = words({**settings(dataset, folder), **LEARNING, **more})
    return main(["run", "training", "--config_file", f"[{files}]", *options])


@pytest.fixture(scope="module")
def fitted(tiny_dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    assert train(tiny_dataset, folder) == 0
    return folder


def test_an_evaluation_measures_what_the_fit_states(fitted, tiny_dataset, tmp_path):
    """The whole workflow, without a retyped setting, is the oracle."""
    weights = fitted / "models" / "model.pt"
    facts = read_settings(weights).training.fitted
    assert (facts.measure, facts.images) == ("instance_f1", 2)
    assert facts.after >= facts.before > 0
    files = f"[{CONFIGS / 'train.yaml'},{CONFIGS / 'evaluate.yaml'}]"
    split = fitted / "out" / "split.json"
    places = {"dataset_dir": tiny_dataset, "output_dir": tmp_path, "ckpt_path": weights, "split_file": split}
    places["device"] = "cpu"
    assert main(["run", "evaluating", "--config_file", files, *words(places)]) == 0
    measured = json.loads((tmp_path / "evaluation" / "object_metrics.json").read_text())
    assert measured["instances"][0]["f1"] == pytest.approx(facts.after, abs=6e-4)


def test_the_gap_of_the_training_is_given_back_by_default(fitted):
    known = read_settings(fitted / "models" / "model.pt")
    assert known.close_gaps >= known.separation_gap == 1


def test_given_values_stay(tiny_dataset, tmp_path):
    assert train(tiny_dataset, tmp_path, threshold=0.35, min_area=3, close_gaps=0) == 0
    known = read_settings(tmp_path / "models" / "model.pt")
    assert (known.threshold, known.min_area, known.close_gaps) == (0.35, 3, 0)
    assert known.training.fitted is not None


def test_the_fit_can_be_switched_off(tiny_dataset, tmp_path):
    assert train(tiny_dataset, tmp_path, fit_objects=False) == 0
    known = read_settings(tmp_path / "models" / "model.pt")
    assert known.training.fitted is None
    assert (known.threshold, known.min_area, known.split_necks) == (0.5, 0, 0)


def test_a_resumed_training_is_fitted_once_it_has_ended(fitted, tiny_dataset, tmp_path):
    folder = Path(shutil.copytree(fitted, tmp_path / "copy"))
    weights = folder / "models" / "model.pt"
    change_settings(weights, threshold=0.5, fitted=None)  # as if the fit had been interrupted
    assert train(tiny_dataset, folder, resume=True) == 0
    known, other = (read_settings(file).model_dump() for file in (weights, fitted / "models" / "model.pt"))
    assert known == other
    assert train(tiny_dataset, folder, resume=True, max_epochs=2) == 0
    assert read_settings(weights).training.fitted is not None


def test_too_few_objects_are_no_reason_to_change_settings(tiny_dataset, tmp_path):
    assert train(tiny_dataset, tmp_path, val_fraction=0.25, tiles_per_epoch=2) == 0  # 6 cells
    known = read_settings(tmp_path / "models" / "model.pt")
    assert (known.threshold, known.training.fitted) == (0.5, None)


@pytest.mark.filterwarnings("ignore:`dataloader` is empty")  # MONAI's own
def test_a_training_without_validation_images_ends_well(tiny_dataset, tmp_path, run_bundle):
    """As in MONAI Label with few labels."""
    options = {**settings(tiny_dataset, tmp_path), **LEARNING, "tiles_per_epoch": 2, "validate#dataset#data": []}
    run_bundle("train.yaml", **options)
    assert read_settings(tmp_path / "models" / "model.pt").training.fitted is None
