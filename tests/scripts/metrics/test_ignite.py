"""Scores of objects in an engine: over images, over processes, after the postprocessing. The key metric by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler
from monai.transforms import Compose

from scripts.metrics.ignite import DetScore, InstanceScore, ObjectMetric, SegScore, key_metric
from scripts.metrics.objects import det_counts, det_from_counts, instance_scores, seg_score
from scripts.transforms.activations import ProbabilitiesFromScoresd
from scripts.transforms.instance_labels import InstanceLabelsd
from scripts.transforms.objects import InstancesFromScoresd
from scripts.transforms.separation import separation_gap
from tests.processes import in_two_processes
from tests.scripts.metrics.masks import challenge_curves

KEY_METRICS = ("mean_dice", "mean_iou", "v_rand", "v_info", "seg", "instance_f1")

REFERENCES = [np.array([[1, 1, 0, 2]]), np.array([[5, 5, 5, 0]])]
RESULTS = [np.array([[1, 1, 1, 0]]), np.array([[3, 3, 0, 0]])]  # Jaccards 2/3, 0 and 2/3


def batch(arrays: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))[:, None]


def test_the_score_is_over_objects_and_the_buffer_is_per_image() -> None:
    metric = ObjectMetric()
    metric(batch(RESULTS), batch(REFERENCES))
    assert float(metric.aggregate()) == pytest.approx(seg_score(RESULTS, REFERENCES)) == pytest.approx(4 / 9)
    np.testing.assert_allclose(metric.get_buffer(), [[1 / 3], [2 / 3]])
    metric.reset()
    assert torch.isnan(metric.aggregate())
    assert metric.get_buffer().shape == (0, 1)


def test_images_may_come_in_batches_or_lists_of_any_size_and_number_type() -> None:
    expected = seg_score(RESULTS, REFERENCES)
    wide = [np.pad(array, ((0, 3), (0, 4))) for array in (RESULTS[1], REFERENCES[1])]
    one_by_one = ObjectMetric()
    one_by_one(batch(RESULTS[:1]).int(), batch(REFERENCES[:1]).float())
    one_by_one([MetaTensor(batch([wide[0]])[0])], [batch([wide[1]])[0].float()])
    assert float(one_by_one.aggregate()) == pytest.approx(expected)


def test_scores_instead_of_label_images_are_refused() -> None:
    with pytest.raises(ValueError, match="InstancesFromScoresd"):
        ObjectMetric()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="got none"):
        ObjectMetric()(torch.zeros(1, 1, 4, 4))


def run(metrics: dict, items: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    engine = Engine(lambda _, batch: batch)
    for name, metric in metrics.items():
        metric.attach(engine, name)
    engine.run([[item] for item in items])
    return engine.state.metrics


def test_every_score_equals_its_function() -> None:
    items = [
        {"pred_instances": torch.from_numpy(r)[None], "reference": torch.from_numpy(g)[None], "markers": g[None]}
        for r, g in zip(RESULTS, REFERENCES, strict=True)
    ]
    measures = ("precision", "recall", "f1", "mean_matched_iou")
    metrics = {name: InstanceScore(0.6, name) for name in measures}
    found = run({"seg": SegScore(), "det": DetScore(), **metrics}, items)
    expected = instance_scores(RESULTS, REFERENCES, thresholds=[0.6])
    counts = sum(det_counts(r, g) for r, g in zip(RESULTS, REFERENCES, strict=True))
    assert found["seg"] == pytest.approx(4 / 9)
    assert found["det"] == pytest.approx(det_from_counts(counts)) == pytest.approx(2 / 3)
    assert {name: found[name] for name in measures} == pytest.approx({name: expected[name][0] for name in measures})


def test_pixels_of_weight_0_are_not_annotated() -> None:
    item = {
        "pred_instances": torch.tensor([[[1, 1, 0, 2]]]),
        "reference": torch.tensor([[[1, 1, 0, 0]]], dtype=torch.int32),
        "weight": torch.tensor([[[2.5, 1.0, 0.5, 0.0]]]),
    }
    metrics = {
        "all": InstanceScore(measure="precision"),
        "known": InstanceScore(measure="precision", valid_key="weight"),
    }
    assert run(metrics, [item]) == {"all": 0.5, "known": 1.0}


def test_missing_keys_and_wrong_arguments_are_named() -> None:
    with pytest.raises(KeyError, match="SegScore: no reference among image, pred_instances"):
        run({"seg": SegScore()}, [{"pred_instances": torch.zeros(1, 2, 2), "image": torch.zeros(1, 2, 2)}])
    with pytest.raises(ValueError, match=r"(?s)measure.*precision"):
        InstanceScore(measure="dice")
    with pytest.raises(ValueError, match=r"threshold must be from 0.5 to below 1, got 0.3"):
        InstanceScore(threshold=0.3)


def test_seg_as_the_key_metric_of_an_evaluator() -> None:
    """The postprocessing turns scores into instances. The reference is in the batch, not in the output."""
    scores = torch.from_numpy(np.stack([RESULTS[0] == 0, RESULTS[0] > 0]).astype(np.float32))
    items = [{"image": scores, "label": (scores[1:] > 0.5).float(), "reference": torch.from_numpy(REFERENCES[0])[None]}]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(items, batch_size=1),
        network=torch.nn.Identity(),
        postprocessing=InstancesFromScoresd("pred", "pred_instances"),
        key_val_metric={"val_seg": SegScore()},
    )
    evaluator.run()
    assert evaluator.state.key_metric_name == "val_seg"
    assert evaluator.state.best_metric == pytest.approx(1 / 3)
    np.testing.assert_allclose(evaluator.state.metric_details["val_seg"], [[1 / 3]])


def _frames() -> list[dict[str, torch.Tensor]]:
    """Make five frames of different sizes, with growing shifts of the results."""
    frames = []
    for k in range(5):
        reference = torch.zeros(1, 12, 12 + k, dtype=torch.int32)
        for number in range(k + 1):
            reference[0, :4, 2 * number : 2 * number + 2] = number + 1
        frames.append({"reference": reference, "pred_instances": reference.roll(k // 2, 1)})
    return frames


def _work(rank: int, folder: Path) -> None:
    """Rank 0 sees three frames, rank 1 two."""
    found = run({"seg": SegScore(), "det": DetScore(reference_key="reference")}, _frames()[rank::2])
    (folder / f"{rank}.txt").write_text(f"{found['seg']} {found['det']}")


@pytest.mark.slow
def test_two_processes_score_as_one(tmp_path: Path) -> None:
    in_two_processes(_work, tmp_path)
    alone = run({"seg": SegScore(), "det": DetScore(reference_key="reference")}, _frames())
    assert 0.3 < alone["seg"] < alone["det"] < 1
    for rank in (0, 1):
        seg, det = map(float, (tmp_path / f"{rank}.txt").read_text().split())
        assert (seg, det) == pytest.approx((alone["seg"], alone["det"]))


# ---------------------------------------------------------------- the key metric by its name


CELLS = np.zeros((12, 16), np.int32)
CELLS[1:6, 1:7], CELLS[1:6, 7:14], CELLS[8:11, 2:12] = 1, 2, 3  # the first two touch
FOUND = np.zeros((12, 16), bool)
FOUND[1:6, 1:6], FOUND[1:6, 7:14], FOUND[8:10, 2:12] = True, True, True  # a column and a row are missed
EXPECTED_IOU = (25 / 30, 35 / 35, 20 / 30)


def evaluate_scores(name: str) -> SupervisedEvaluator:
    """Evaluate a network that returns the input, here the scores."""
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


def expected_score(name: str) -> float:
    """Compute the same number without an engine."""
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
    evaluator = evaluate_scores(name)
    assert evaluator.state.key_metric_name == f"val_{name}"
    assert evaluator.state.best_metric == pytest.approx(expected_score(name), abs=1e-6)
    assert 0.5 < evaluator.state.best_metric <= 1


def test_seg_and_f1_compare_with_whole_cells_without_the_gap() -> None:
    assert evaluate_scores("seg").state.best_metric == pytest.approx(np.mean(EXPECTED_IOU))
    assert evaluate_scores("instance_f1").state.best_metric == 1


@pytest.mark.parametrize("name", KEY_METRICS)
def test_every_name_gives_one_handler_under_its_prefix(name: str) -> None:
    for prefix in ("val_", "test_", ""):
        handlers = key_metric(name, ["a", "b", "c"], prefix)
        assert list(handlers) == [prefix + name]
        assert isinstance(handlers[prefix + name], IgniteMetricHandler)
    assert list(key_metric(name, ["a", "b"])) == [f"val_{name}"]


def test_each_engine_gets_a_handler_of_its_own() -> None:
    """A handler holds the counts of one engine."""
    first, second = (key_metric("seg", ["a", "b"])["val_seg"] for _ in range(2))
    assert first is not second


def test_an_unknown_name_is_refused_with_all_names() -> None:
    with pytest.raises(ValueError, match=r"(?s)key_metric.*v_info.*dice"):
        key_metric("dice", ["a", "b"])
