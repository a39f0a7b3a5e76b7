"""Weights of any variant are used without a setting typed again. Settings that contradict the weights are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from bundle.__main__ import main
from scripts.segmenter import Segmenter
from scripts.settings import read_settings
from tests.configs.conftest import CONFIGS, settings, words

UNLIKE_THE_DEFAULTS = {
    "network_def#features": [3, 6, 12],
    "network_def#padding": "same",
    "network_def#concat": "up_first",
    "network_def#up_activation": True,
    "class_names": ["background", "nucleus"],
    "intensity": "percentile",
    "flatten": 20,
    "threshold": 0.45,
    "min_area": 7,
    "close_gaps": 2,
    "label_kind": "instances",
    "separation_gap": 2,
    "key_metric": "mean_iou",
    "input_size": 64,
    "output_size": 64,
}


def run(*names: str, run_id: str = "run", **overrides: object) -> int:
    files = ",".join(str(CONFIGS / name) for name in names)
    return main(["run", run_id, "--config_file", f"[{files}]", *words({"device": "cpu", **overrides})])


@pytest.fixture(scope="module")
def weights(tiny_dataset, tmp_path_factory) -> Path:
    """Weights of a narrow, padded network for other classes and grey values than the defaults."""
    folder = tmp_path_factory.mktemp("unlike")
    assert run("train.yaml", run_id="training", **settings(tiny_dataset, folder) | UNLIKE_THE_DEFAULTS) == 0
    return folder / "models" / "model.pt"


@pytest.fixture
def segment(tiny_dataset, tmp_path):
    """Segment the images of the data set. Returns the exit code and the folder of results."""

    def call(ckpt_path: Path, **overrides: object) -> tuple[int, Path]:
        out = tmp_path / "results"
        places = {"dataset_dir": tiny_dataset / "images", "output_dir": out, "ckpt_path": ckpt_path}
        return run("inference.yaml", **places, **overrides), out

    return call


def maps(folder: Path, kind: str) -> list[np.ndarray]:
    return [tifffile.imread(path) for path in sorted((folder / kind).glob("*.tif"))]


def test_training_writes_the_settings_beside_the_weights(weights, tiny_dataset):
    known = read_settings(weights)
    network = known.network
    assert (network["features"], network["padding"], network["concat"]) == ([3, 6, 12], "same", "up_first")
    assert (known.class_names, known.intensity, known.flatten) == (["background", "nucleus"], "percentile", 20)
    assert (known.threshold, known.min_area, known.close_gaps) == (0.45, 7, 2)
    facts = known.training
    assert (facts.dataset, facts.images, facts.key_metric) == (tiny_dataset.name, 3, "mean_iou")
    assert (known.label_kind, known.separation_gap, known.key_metric) == ("instances", 2, "mean_iou")
    assert 0 <= facts.best <= 1
    assert facts.epoch in (1, 2)
    assert known.version == json.loads((CONFIGS / "metadata.json").read_text())["version"]


def test_inference_needs_no_setting(weights, segment):
    code, own = segment(weights)
    assert code == 0
    found = maps(own, "probabilities"), maps(own, "instances")
    shutil.rmtree(own)
    bare = weights.with_name("bare.pt")  # weights from elsewhere, with every setting typed
    shutil.copy(weights, bare)
    of_training = ("label_kind", "separation_gap", "key_metric", "input_size", "output_size")
    typed = {key: value for key, value in UNLIKE_THE_DEFAULTS.items() if key not in of_training}
    code, retyped = segment(bare, **typed)
    assert code == 0
    for one, other in zip(found, (maps(retyped, "probabilities"), maps(retyped, "instances")), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


CONTRADICTIONS = [
    ("network_def#concat", "skip_first", "up_first"),
    ("network_def#padding", "valid", "same"),
    ("network_def#retain_dim", True, False),
    ("network_def#up_activation", False, True),
    ("network_def#norm", "batch", None),
    ("network_def#up_kernel_size", 3, 2),
    ("network_def#dropout_at", "stages", "contracting_end"),
    ("network_def#features", [2, 4, 8], [3, 6, 12]),
    ("network_def#up_features", [4, 6], [3, 6]),
    ("in_channels", 3, 1),
    ("out_channels", 1, 2),
    ("class_names", ["background", "nucleus", "debris"], ["background", "nucleus"]),
    ("class_names", ["nucleus", "background"], ["background", "nucleus"]),
]


@pytest.mark.parametrize("key, given, own", CONTRADICTIONS)
def test_what_fixes_the_network_is_refused_at_inference(key, given, own, weights, segment, capsys):
    code, out = segment(weights, **{key: given})
    message = capsys.readouterr().err
    assert code == 1
    assert all(part in message for part in (key, repr(given), repr(own), "model.json"))
    assert not out.exists()


@pytest.mark.parametrize("key, given, own", CONTRADICTIONS)
def test_what_fixes_the_network_is_refused_in_an_evaluation(key, given, own, weights, tiny_dataset, tmp_path, capsys):
    places = {"dataset_dir": tiny_dataset, "output_dir": tmp_path, "ckpt_path": weights}
    code = run("train.yaml", "evaluate.yaml", run_id="evaluating", **places, **{key: given})
    message = capsys.readouterr().err
    assert code == 1
    assert all(part in message for part in (key, repr(given), repr(own), "model.json"))


@pytest.mark.parametrize(
    "key, given, own",
    [
        ("intensity", "z_score", "percentile"),
        ("flatten", 0, 20),
        ("threshold", 0.5, 0.45),
        ("min_area", 0, 7),
        ("fill_holes", 3, 0),
        ("split_necks", 2, 0),
        ("close_gaps", 0, 2),
        ("field_border", 4, 0),
    ],
)
def test_a_choice_is_taken_and_named_with_both_values(key, given, own, weights, segment, capsys):
    code, _ = segment(weights, **{key: given})
    assert code == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "model.json" in line]
    assert all(part in line for part in ("warning", key, str(given), str(own)))


@pytest.mark.parametrize(
    "key, given, own", [("intensity", "z_score", "percentile"), ("label_kind", "binary", "instances")]
)
def test_an_evaluation_names_a_choice_with_both_values(key, given, own, weights, tiny_dataset, tmp_path, capsys):
    places = {"dataset_dir": tiny_dataset, "output_dir": tmp_path, "ckpt_path": weights}
    assert run("train.yaml", "evaluate.yaml", run_id="evaluating", **places, **{key: given}) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "model.json" in line]
    assert all(part in line for part in ("warning", key, given, own))


def test_nothing_is_said_if_nothing_differs(weights, segment, capsys):
    assert segment(weights, threshold=0.45, class_names=["background", "nucleus"])[0] == 0
    assert "model.json" not in capsys.readouterr().out


def test_weights_without_settings_work_with_a_warning_that_names_what_is_assumed(trained, segment, tmp_path, capsys):
    bare = Path(shutil.copy(trained / "models" / "model.pt", tmp_path / "bare.pt"))
    code, _ = segment(bare, **{"network_def#features": [2, 4, 8, 16, 32]})
    assert code == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "bare.json" in line]
    for part in ("warning", "intensity z_score", "class_names ['membrane', 'cell']", "threshold 0.5", "in_channels 1"):
        assert part in line


def test_settings_of_other_weights_are_refused(weights, trained, segment, tmp_path, capsys):
    mixed = Path(shutil.copy(trained / "models" / "model.pt", tmp_path / "model.pt"))
    shutil.copy(weights.with_suffix(".json"), tmp_path / "model.json")
    code, out = segment(mixed)
    message = capsys.readouterr().err
    assert (code, out.exists()) == (1, False)
    assert all(part in message for part in (str(mixed), "model.json", "sha256"))


def test_evaluation_measures_as_in_training(weights, tiny_dataset, tmp_path):
    """The score of the whole workflow without a retyped setting is the score of the best validation."""
    places = {"dataset_dir": tiny_dataset, "output_dir": tmp_path, "ckpt_path": weights}
    assert run("train.yaml", "evaluate.yaml", run_id="evaluating", **places) == 0
    measured = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert measured["mean"]["mean_iou"] == pytest.approx(read_settings(weights).training.best, abs=1e-6)
    assert (tmp_path / "evaluation" / "object_metrics.json").is_file()  # the labels are read as instances


def test_a_fine_tuning_starts_with_weights_and_settings(weights, tiny_dataset, tmp_path):
    more = {"finetune": weights, "max_epochs": 1, "learning_rate": 1e-30}
    sizes = {key: UNLIKE_THE_DEFAULTS[key] for key in ("input_size", "output_size")}
    places = {"dataset_dir": tiny_dataset, "output_dir": tmp_path, "model_dir": tmp_path}
    assert run("train.yaml", run_id="training", **places, **sizes, **more, num_workers=0) == 0
    before, after = (torch.load(path, weights_only=True) for path in (weights, tmp_path / "model.pt"))
    assert all(torch.equal(before[name], after[name]) for name in before)  # too small to change a weight
    known = read_settings(tmp_path / "model.pt")
    assert (known.intensity, known.flatten, known.min_area) == ("percentile", 20, 7)
    assert known.class_names == ["background", "nucleus"]


def test_the_python_class_gives_what_inference_writes(weights, segment, tiny_dataset):
    from PIL import Image

    from scripts.io.files import read_csv

    code, out = segment(weights)
    assert code == 0
    segmenter = Segmenter(weights, device="cpu")
    rows = read_csv(out / "objects.csv")
    for path in sorted((tiny_dataset / "images").iterdir()):
        result = segmenter(np.asarray(Image.open(path)))
        assert np.array_equal(result.classes, np.asarray(Image.open(out / "classes" / path.name)))
        assert np.array_equal(result.probabilities, tifffile.imread(out / "probabilities" / f"{path.stem}.tif"))
        assert np.array_equal(result.instances, tifffile.imread(out / "instances" / f"{path.stem}.tif"))
        own = [row for row in rows if row["image"] == path.name]
        assert len(own) == len(result.objects["area_px"])
        assert [float(row["area_px"]) for row in own] == list(result.objects["area_px"])


@pytest.fixture
def interrupted(weights, tmp_path) -> Path:
    """A folder with a training to resume."""
    return Path(shutil.copytree(weights.parents[1], tmp_path / "copy"))


def resumed(tiny_dataset, folder: Path, **overrides: object) -> int:
    again = settings(tiny_dataset, folder, input_size=64, output_size=64, resume=True, max_epochs=3, **overrides)
    del again["network_def#features"], again["label_kind"]
    return run("train.yaml", run_id="training", **again)


def test_a_resumed_training_keeps_its_settings(interrupted, tiny_dataset):
    state = interrupted / "models" / "training_state.pt"
    before = read_settings(state)
    (interrupted / "models" / "model.pt").unlink()  # resumed before the first validation
    (interrupted / "models" / "model.json").unlink()
    assert before.intensity == "percentile"
    assert resumed(tiny_dataset, interrupted) == 0
    assert read_settings(state) == before


def test_a_resumed_training_refuses_another_network_and_warns_of_other_settings(interrupted, tiny_dataset, capsys):
    assert resumed(tiny_dataset, interrupted, **{"network_def#concat": "skip_first"}) == 1
    told = capsys.readouterr().err
    assert all(text in told for text in ("training_state.pt", "concat", "skip_first", "up_first"))
    assert resumed(tiny_dataset, interrupted, intensity="z_score") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "warning" in line and "intensity" in line]
    assert all(part in line for part in ("training_state.pt", "z_score", "percentile"))


def test_the_state_of_a_training_segments_as_its_network_was_trained(weights, segment):
    code, out = segment(weights.with_name("training_state.pt"))
    assert code == 0
    assert maps(out, "probabilities")
