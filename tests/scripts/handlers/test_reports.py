"""Metrics of an evaluation, per image and over all images."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from scripts.handlers.reports import MetricsReport, measure, summarise
from scripts.io.files import read_csv
from tests.scripts.handlers.conftest import NAMES, Run


def _evaluate(tmp_path: Path, outputs: list[dict[str, Any]], batches: list[dict[str, Any]] | None = None) -> dict:
    """Run the report on images with the given outputs, two an iteration."""
    loaded = batches or [{} for _ in outputs]
    pairs = list(zip(loaded, outputs, strict=True))

    def step(engine: Engine, index: int) -> list[dict[str, Any]]:
        engine.state.batch = [b for b, _ in pairs[index : index + 2]]
        return [o for _, o in pairs[index : index + 2]]

    evaluator = Engine(step)
    MetricsReport(tmp_path, NAMES, split="validation").attach(evaluator)
    evaluator.run(range(0, len(pairs), 2))
    return json.loads((tmp_path / "metrics.json").read_text())


def _output(name: str, pred: list, label: list) -> dict[str, Any]:
    image = MetaTensor(torch.zeros(1, *np.shape(pred)), meta={"filename_or_obj": name})
    return {"image": image, "pred": torch.tensor([pred]), "label": torch.tensor([label])}


def test_report_by_hand(tmp_path: Path) -> None:
    outputs = [
        _output("a/0.png", [[0, 0, 1, 1]], [[0, 0, 1, 1]]),  # all right
        _output("a/1.png", [[0, 1, 1, 1]], [[0, 0, 1, 1]]),  # Dice 2/3 and 4/5, IoU 1/2 and 2/3, error 1/4
        _output("a/2.png", [[0, 0, 0, 0]], [[0, 0, 0, -1]]),  # no cell anywhere: NaN; 3 pixels annotated
    ]
    summary = _evaluate(tmp_path, outputs)
    per_class = ["dice_membrane", "dice_cell", "iou_membrane", "iou_cell"]
    with (tmp_path / "metrics_per_image.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["image", "annotated_pixels", "pixel_error", "mean_dice", "mean_iou", *per_class],
        ["0.png", "4", "0.0", "1.0", "1.0", "1.0", "1.0", "1.0", "1.0"],
        ["1.png", "4", "0.25", "0.733333", "0.583333", "0.666667", "0.8", "0.5", "0.666667"],
        ["2.png", "3", "0.0", "1.0", "1.0", "1.0", "", "1.0", ""],
    ]
    assert summary["split"] == "validation"
    assert summary["images"] == 3
    assert summary["annotated_pixels"] == 11
    assert summary["mean"]["pixel_error"] == pytest.approx(0.25 / 3)
    assert summary["mean"]["dice_cell"] == pytest.approx((1 + 0.8) / 2)  # two images have cells
    assert summary["mean"]["mean_dice"] == pytest.approx((1 + (2 / 3 + 0.8) / 2 + 1) / 3)
    assert summary["pooled"]["pixel_error"] == pytest.approx(1 / 11)
    assert summary["confusion"]["pixels"] == [[6, 1], [0, 4]]
    assert summary["pooled"]["iou_cell"] == pytest.approx(4 / 5)


def test_report_agrees_with_the_metrics_of_the_engine(tmp_path: Path) -> None:
    run = Run(1, 1)
    MetricsReport(tmp_path, NAMES).attach(run.evaluator)
    run.trainer.run()
    summary = json.loads((tmp_path / "metrics.json").read_text())
    metrics = run.evaluator.state.metrics
    assert summary["mean"]["mean_dice"] == pytest.approx(metrics["val_mean_dice"], rel=1e-6)
    for name in ("pixel_error", "dice_membrane", "dice_cell", "iou_membrane", "iou_cell"):
        assert summary["mean"][name] == pytest.approx(metrics[f"val_{name}"], rel=1e-6)
    assert summary["annotated_pixels"] == 2 * 31 * 32


def test_report_takes_the_weight_map_of_the_loaded_image(tmp_path: Path) -> None:
    output = _output("0.png", [[0, 1]], [[0, 0]])
    assert _evaluate(tmp_path, [output])["mean"]["pixel_error"] == 0.5
    weights = [{"weight": torch.tensor([[[1.0, 0.0]]])}]
    assert _evaluate(tmp_path, [output], weights)["mean"]["pixel_error"] == 0


def test_equal_file_names_are_reported_with_their_folders(tmp_path: Path) -> None:
    _evaluate(tmp_path, [_output(f"{folder}/0.png", [[0]], [[0]]) for folder in "ab"])
    assert [row["image"] for row in read_csv(tmp_path / "metrics_per_image.csv")] == ["a/0.png", "b/0.png"]


def test_without_images_the_files_say_so(tmp_path: Path) -> None:
    summary = summarise(np.zeros((0, 2, 2), int), NAMES, "test")
    assert summary["images"] == 0
    assert np.isnan(summary["mean"]["mean_dice"])
    assert list(measure(np.zeros((2, 2), int), NAMES)) == list(summary["mean"])


def test_a_wrong_label_is_reported_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a/7.png: label must hold the classes 0 .. 1, got 0 .. 5"):
        _evaluate(tmp_path, [_output("a/7.png", [[0, 0]], [[0, 5]])])


def test_outputs_that_were_not_decollated_are_refused(tmp_path: Path) -> None:
    evaluator = Engine(lambda _, batch: batch)
    MetricsReport(tmp_path, NAMES).attach(evaluator)
    with pytest.raises(ValueError, match="expected a list with one dictionary per image, got dict"):
        evaluator.run([{"pred": torch.zeros(1, 1, 2, 2)}])


def test_an_interrupted_evaluation_keeps_the_rows_of_the_images_before(tmp_path: Path) -> None:
    def step(_: Engine, index: int) -> list[dict[str, Any]]:
        if index == 2:
            raise KeyboardInterrupt
        return [_output(f"a/{index}.png", [[0, 1, 1, 1]], [[0, 0, 1, 1]])]

    evaluator = Engine(step)
    MetricsReport(tmp_path, NAMES).attach(evaluator)
    with pytest.raises(KeyboardInterrupt):
        evaluator.run(range(4))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics_per_image.unfinished.csv"]
    rows = read_csv(tmp_path / "metrics_per_image.unfinished.csv")
    assert [(row["image"], row["pixel_error"]) for row in rows] == [("0.png", "0.25"), ("1.png", "0.25")]
    evaluator = Engine(lambda *_: [_output("a/0.png", [[0, 1]], [[0, 1]])])
    MetricsReport(tmp_path, NAMES).attach(evaluator)
    evaluator.run(range(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "metrics_per_image.csv"]
