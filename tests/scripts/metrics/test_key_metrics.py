"""The key metric by its name, in an engine as `configs/train.yaml` builds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler
from monai.transforms import Compose

from scripts.metrics.ignite import KEY_METRICS, key_metric
from scripts.metrics.membranes import challenge_curves
from scripts.metrics.objects import instance_scores, seg_score
from scripts.transforms.activations import ProbabilitiesFromScoresd
from scripts.transforms.instance_labels import InstanceLabelsd
from scripts.transforms.objects import InstancesFromScoresd
from scripts.transforms.separation import separation_gap

CELLS = np.zeros((12, 16), np.int32)
CELLS[1:6, 1:7], CELLS[1:6, 7:14], CELLS[8:11, 2:12] = 1, 2, 3  # the first two touch
FOUND = np.zeros((12, 16), bool)
FOUND[1:6, 1:6], FOUND[1:6, 7:14], FOUND[8:10, 2:12] = True, True, True  # one column and one row are missed
EXPECTED_IOU = (25 / 30, 35 / 35, 20 / 30)


def evaluate(name: str) -> SupervisedEvaluator:
    """Scores go in as the image, through a network that does nothing."""
    scores = torch.from_numpy(np.where(FOUND, 3.0, -3.0).astype(np.float32))
    item = {"image": torch.stack([-scores, scores]), "label": torch.from_numpy(CELLS)[None]}
    labels = InstanceLabelsd(kind="instances", separation_gap=1, reference_key="reference")
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader([labels(item)], batch_size=1),
        network=torch.nn.Identity(),
        postprocessing=Compose([ProbabilitiesFromScoresd("pred"), InstancesFromScoresd("pred", "pred_instances")]),
        key_val_metric=key_metric(name, ["background", "cell"]),
    )
    evaluator.run()
    return evaluator


def expected(name: str) -> float:
    """The same number without an engine."""
    truth = separation_gap(CELLS, 1) > 0  # the class map has the gap
    instances = np.where(FOUND, CELLS, 0)
    if name in ("seg", "instance_f1"):
        f1 = instance_scores([instances], [CELLS], thresholds=[0.5])["f1"][0]
        return seg_score([instances], [CELLS]) if name == "seg" else float(f1)
    if name in ("v_rand", "v_info"):
        probability = np.where(FOUND, 1 / (1 + np.exp(-6.0)), 1 / (1 + np.exp(6.0)))
        return challenge_curves([(probability, truth)])[name].score
    iou = np.array([(f & t).sum() / (f | t).sum() for f, t in ((FOUND, truth), (~FOUND, ~truth))])
    return float(np.mean(iou if name == "mean_iou" else 2 * iou / (1 + iou)))


@pytest.mark.parametrize("name", KEY_METRICS)
def test_each_is_the_key_metric_of_an_evaluator(name: str) -> None:
    evaluator = evaluate(name)
    assert evaluator.state.key_metric_name == f"val_{name}"
    assert evaluator.state.best_metric == pytest.approx(expected(name), abs=1e-6)
    assert 0.5 < evaluator.state.best_metric <= 1


def test_seg_and_f1_compare_with_whole_cells_and_not_with_the_gap() -> None:
    assert evaluate("seg").state.best_metric == pytest.approx(np.mean(EXPECTED_IOU))
    assert evaluate("instance_f1").state.best_metric == 1


@pytest.mark.parametrize("name", KEY_METRICS)
def test_every_name_gives_one_handler_under_its_prefix(name: str) -> None:
    for prefix in ("val_", "test_", ""):
        handlers = key_metric(name, ["a", "b", "c"], prefix)
        assert list(handlers) == [prefix + name]
        assert isinstance(handlers[prefix + name], IgniteMetricHandler)
    assert list(key_metric(name, ["a", "b"])) == [f"val_{name}"]


def test_each_engine_gets_a_handler_of_its_own() -> None:
    """A handler carries the counts of its engine."""
    first, second = (key_metric("seg", ["a", "b"])["val_seg"] for _ in range(2))
    assert first is not second


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"(?s)key_metric.*v_info.*dice"):
        key_metric("dice", ["a", "b"])
