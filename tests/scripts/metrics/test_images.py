"""Measures of an image, shared by metrics and reports of an engine, and metrics without an engine."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from scripts.handlers.em_report import EmReport
from scripts.handlers.reports import MetricsReport
from scripts.metrics.images import ImageMetric, measure_once
from scripts.metrics.membranes import VInfo, VRand
from scripts.metrics.pixels import MeanDice, PixelError
from tests.scripts.metrics.masks import blobs


def total(image: torch.Tensor) -> float:
    return float(image.sum())


def idle_engine() -> Engine:
    engine = Engine(lambda _, batch: batch)
    engine.run([[0]])
    return engine


def test_a_result_is_given_again_only_for_the_same_objects() -> None:
    engine, image = idle_engine(), torch.ones(2)
    first, again, of_a_copy = (measure_once(engine, torch.neg, one) for one in (image, image, image.clone()))
    assert first is again
    assert first is not of_a_copy


def test_a_new_iteration_measures_anew_even_if_the_engine_gives_the_same_object() -> None:
    image = torch.zeros(2)
    engine = Engine(lambda _, batch: image.fill_(batch))
    found = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: found.append(measure_once(e, total, e.state.output)))
    engine.run([1, 2, 3], max_epochs=2)
    assert found == [2, 4, 6, 2, 4, 6]


def test_results_of_objects_that_are_gone_are_not_given_to_new_objects() -> None:
    """Python gives the address of a deleted object, its id, to a new object."""
    engine = idle_engine()
    assert [measure_once(engine, total, torch.full((2,), k)) for k in range(20)] == [2 * k for k in range(20)]


def images(count: int = 4) -> list[dict[str, torch.Tensor]]:
    made = []
    for seed in range(count):
        cell = torch.from_numpy(blobs(seed) * 0.7 + 0.2)[None]
        made.append({"pred": torch.cat([1 - cell, cell]), "label": torch.from_numpy(blobs(seed, 0.6))[None].long()})
    return made


METRICS = {
    "rand": VRand,
    "info": VInfo,
    "dice": MeanDice,
    "cell": partial(MeanDice, class_index=1),
    "error": PixelError,
}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_metrics_and_reports_together_find_what_each_finds_alone(batch_size: int, tmp_path: Path) -> None:
    def run(folder: Path, *names: str) -> dict[str, float]:
        evaluator = Engine(lambda _, batch: batch)
        for name in names:
            if name == "report":
                MetricsReport(folder, ["membrane", "cell"]).attach(evaluator)
            elif name == "em report":
                EmReport(folder, warping=False).attach(evaluator)
            else:
                METRICS[name]().attach(evaluator, name)
        items = images()
        evaluator.run([items[k : k + batch_size] for k in range(0, len(items), batch_size)])
        return evaluator.state.metrics

    names = ["rand", "report", "dice", "em report", "info", "cell", "error"]
    together = run(tmp_path / "together", *names)
    alone = {}
    for name in names:
        alone |= run(tmp_path / "alone", name)
    assert together == alone
    for file in ("metrics.json", "em_metrics.json"):
        assert (tmp_path / "together" / file).read_text() == (tmp_path / "alone" / file).read_text()


def test_a_weight_of_0_counts_in_the_report_alone(tmp_path: Path) -> None:
    """The metrics see prediction and label. The report sees the weight map, too."""
    item = {
        "pred": torch.tensor([[[0, 1, 1, 1]]]),
        "label": torch.tensor([[[0, 0, 1, 1]]]),
        "weight": torch.tensor([[[1.0, 0, 2, 2]]]),
    }
    evaluator = Engine(lambda _, batch: batch)
    PixelError().attach(evaluator, "error")
    MetricsReport(tmp_path, ["membrane", "cell"]).attach(evaluator)
    evaluator.run([[item]])
    assert evaluator.state.metrics["error"] == 0.25
    assert json.loads((tmp_path / "metrics.json").read_text())["pooled"]["pixel_error"] == 0


def test_a_metric_takes_batches_and_lists_and_needs_a_label() -> None:
    class Difference(ImageMetric):
        def per_image(self, numbers: np.ndarray) -> np.ndarray:
            return numbers

        def over_images(self, numbers: np.ndarray) -> np.ndarray:
            return numbers.sum()

    metric = Difference(lambda pred, label, factor: factor * np.asarray(pred - label).sum(axis=(1, 2)), 10)
    assert metric.get_buffer().shape == (0, 1)
    assert torch.isnan(metric.aggregate())
    pred, label = torch.full((2, 1, 3, 3), 2.0), torch.ones(2, 1, 3, 3)
    metric(pred, label)
    metric([pred[0]], [label[0]])
    np.testing.assert_array_equal(metric.get_buffer(), [[90], [90], [90]])
    assert metric.aggregate() == 270
    with pytest.raises(ValueError, match=r"Difference .* label, got none"):
        metric(pred)
