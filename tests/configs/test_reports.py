"""`evaluate.yaml` reports on membranes or objects, by task or on request."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from scripts.io.files import read_csv
from tests.configs.conftest import CONFIGS, SMALL

PIXELS = {"metrics.json", "metrics_per_image.csv", "split.json", "panels", "run.json", "run.log"}
MEMBRANES = {"em_metrics.json", "em_metrics_per_slice.csv", "threshold_curves.png"}
OBJECTS = {"object_metrics.json", "objects_per_image.csv", "objects_reference.csv", "object_iou.png"}


@pytest.fixture
def evaluate(tiny_dataset, tmp_path, run_bundle):
    """Evaluate a tiny untrained network. Returns the folder and the engine's metrics."""

    def run(**options: object) -> tuple[Path, dict[str, float]]:
        parser = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / "train.yaml")]))
        parser["network_def#features"] = SMALL["network_def#features"]
        torch.manual_seed(0)
        torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
        paths = {"dataset_dir": str(tiny_dataset), "output_dir": str(tmp_path), "model_dir": str(tmp_path)}
        options = {**SMALL, **paths, "split_rule": "all", **options}
        workflow = run_bundle("train.yaml", "evaluate.yaml", run_id="evaluating", **options)
        return tmp_path / "evaluation", workflow.parser.get_parsed_content("validate#evaluator").state.metrics

    return run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def numbers(content: object) -> list[float]:
    """Get all numbers of a JSON file."""
    if isinstance(content, dict | list):
        return [n for value in (content.values() if isinstance(content, dict) else content) for n in numbers(value)]
    return [content] if isinstance(content, int | float) else []


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, (False, False)),
        ({"key_metric": "v_rand"}, (True, False)),
        ({"key_metric": "v_info"}, (True, False)),
        ({"label_kind": "instances", "key_metric": "seg"}, (False, True)),
        ({"label_kind": "instances", "key_metric": "v_rand", "em_report": False}, (False, True)),
        ({"object_report": True}, (False, True)),
    ],
)
def test_the_task_decides_what_is_reported(options, expected):
    parser = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / f) for f in ("train.yaml", "evaluate.yaml")]))
    parser.update({"ckpt_path": "absent.pt", **options})  # without the settings of weights
    assert tuple(parser.get_parsed_content(f"{name}_report") for name in ("em", "object")) == expected


def test_the_files_of_every_report_are_named_in_the_configuration():
    text = (CONFIGS / "evaluate.yaml").read_text()
    assert all(name in text for name in MEMBRANES | OBJECTS | PIXELS - {"split.json"})


def test_membranes_are_measured_as_the_challenge_does(evaluate):
    folder, metrics = evaluate(key_metric="v_rand")
    assert files(folder) == PIXELS | MEMBRANES
    found = json.loads((folder / "em_metrics.json").read_text())
    assert (found["split"], found["slices"]) == ("whole folder", 4)
    assert found["v_rand"]["score"] == pytest.approx(metrics["val_v_rand"], rel=1e-6)
    assert all(math.isfinite(number) for number in numbers(found))
    assert 0 < found["v_rand"]["score"] <= 1
    assert 0 <= found["warping_error"]["error"] < 1
    rows = read_csv(folder / "em_metrics_per_slice.csv")
    assert [row.pop("image") for row in rows] == [f"{k:02d}.png" for k in range(4)]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())


def test_objects_are_measured_as_the_challenge_does(evaluate):
    folder, metrics = evaluate(label_kind="instances", key_metric="seg")
    assert files(folder) == PIXELS | OBJECTS
    found = json.loads((folder / "object_metrics.json").read_text())
    assert found["seg"] == pytest.approx(metrics["val_seg"], rel=1e-6)
    assert found["images"] == 4
    assert found["det"] is None  # no markers
    assert all(math.isfinite(number) for number in numbers(found))
    objects = read_csv(folder / "objects_reference.csv")
    assert len(objects) == found["reference_objects"] > 4
    assert all(0 <= float(row["jaccard"]) <= 1 and int(row["area"]) > 0 for row in objects)


def test_reports_can_be_switched_on_and_off(evaluate):
    folder, _ = evaluate(key_metric="v_rand", em_report=False, object_report=True)
    assert files(folder) == PIXELS | OBJECTS


def test_the_warping_error_can_be_switched_off(evaluate):
    folder, _ = evaluate(key_metric="v_info", warping_error=False)
    assert json.loads((folder / "em_metrics.json").read_text())["warping_error"] is None


def test_settings_of_the_loss_which_the_weights_may_not_share_change_no_panel(evaluate):
    panels = []
    for options in ({"w0": 0.0}, {"w0": 50.0, "sigma": 2.0, "class_balance": [0, 1]}):
        folder, _ = evaluate(label_kind="instances", **options)
        metrics = json.loads((folder / "metrics.json").read_text())
        panels.append([metrics, *(path.read_bytes() for path in sorted((folder / "panels").iterdir()))])
    assert len(panels[0]) == 5
    assert panels[0] == panels[1]
