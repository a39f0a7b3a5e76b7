"""Eq. 1 against torch's cross-entropy and against sums by hand."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch.nn import functional as F

from scripts.losses import WeightedCrossEntropyLoss


def sample(classes: int = 3, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    label = torch.randint(0, classes, (2, 1, 5, 7))
    return torch.randn(2, classes, 5, 7, dtype=dtype), label, torch.rand(2, 1, 5, 7, dtype=dtype) + 0.1


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum"])
def test_unit_weights_give_torchs_cross_entropy(classes, reduction):
    scores, label, _ = sample(classes)
    expected = F.cross_entropy(scores, label[:, 0], reduction="mean" if reduction != "sum" else "sum")
    for weight in (None, torch.ones_like(label)):
        assert torch.allclose(WeightedCrossEntropyLoss(reduction)(scores, label, weight), expected, atol=1e-12)


def test_weighted_mean_is_torchs_class_weighting():
    scores, label, _ = sample()
    per_class = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64)
    expected = F.cross_entropy(scores, label[:, 0], weight=per_class)
    assert torch.allclose(WeightedCrossEntropyLoss("weighted_mean")(scores, label, per_class[label]), expected)


def test_equation_1_on_two_pixels():
    """Equal scores of two classes cost log 2 a pixel; weights 3 and 1 make it 4 log 2 in all, 2 log 2 a pixel."""
    scores, label = torch.zeros(1, 2, 1, 2), torch.tensor([[[[0, 1]]]])
    weight = torch.tensor([[[[3.0, 1.0]]]])
    assert WeightedCrossEntropyLoss("sum")(scores, label, weight).item() == pytest.approx(4 * log(2))
    assert WeightedCrossEntropyLoss("mean")(scores, label, weight).item() == pytest.approx(2 * log(2))
    assert WeightedCrossEntropyLoss("none")(scores, label, weight)[0, 0, 0].tolist() == pytest.approx(
        [3 * log(2), log(2)]
    )


def test_weight_zero_means_not_annotated():
    scores, label, weight = sample()
    weight[:, :, :2] = 0
    loss = WeightedCrossEntropyLoss()(scores, label, weight)
    kept = (F.cross_entropy(scores, label[:, 0], reduction="none")[:, None] * weight)[:, :, 2:]
    assert torch.allclose(loss, kept.mean())  # weight 0 counts neither in the sum nor in the divisor
    scores[:, :, :2] = float("inf")
    assert torch.allclose(WeightedCrossEntropyLoss()(scores, label, weight), loss)


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum"])
def test_an_image_without_annotated_pixels_costs_nothing_and_moves_nothing(reduction):
    scores, label, weight = sample()
    scores.requires_grad_()
    loss = WeightedCrossEntropyLoss(reduction)(scores, label, torch.zeros_like(weight))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.abs().max() == 0


def test_negative_labels_count_as_not_annotated():
    scores, label, weight = sample()
    marked = torch.where(weight < 0.5, -1, label)
    loss = WeightedCrossEntropyLoss()
    assert torch.allclose(loss(scores, marked, weight), loss(scores, label, torch.where(weight < 0.5, 0.0, weight)))


def test_labels_of_weight_zero_may_be_any_number():
    scores, label, weight = sample()
    unweighted = torch.where(weight < 0.5, 0.0, weight)
    for s in (scores, scores[:, :1]):
        target = label.clamp(max=max(1, s.shape[1] - 1))
        marked = torch.where(weight < 0.5, 255, target)
        loss = WeightedCrossEntropyLoss()
        assert torch.equal(loss(s, marked, unweighted), loss(s, target, unweighted))
        with pytest.raises(ValueError, match="class 255"):
            loss(s, marked, weight)


def test_label_and_weight_may_come_stacked():
    scores, label, weight = sample()
    stacked = torch.cat([label.to(weight.dtype), weight], 1)
    assert WeightedCrossEntropyLoss()(scores, stacked) == WeightedCrossEntropyLoss()(scores, label, weight)


def test_a_sigmoid_output_equals_two_classes_where_class_0_scores_0():
    scores, label, weight = sample(classes=2)
    single = scores[:, 1:] - scores[:, :1]
    assert torch.allclose(
        WeightedCrossEntropyLoss()(single, label, weight), WeightedCrossEntropyLoss()(scores, label, weight)
    )


def test_half_precision_scores_are_summed_in_float32():
    scores, label, weight = sample(dtype=torch.float32)
    loss = WeightedCrossEntropyLoss()(scores.bfloat16(), label, weight)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, WeightedCrossEntropyLoss()(scores.bfloat16().float(), label, weight))


def test_the_gradient_is_exact():
    scores, label, weight = sample()
    assert torch.autograd.gradcheck(lambda s: WeightedCrossEntropyLoss()(s, label, weight), scores.requires_grad_())


def test_volumes_and_rows_work_as_planes_do():
    torch.manual_seed(0)
    for shape in ((9,), (3, 4, 5)):
        scores, label = torch.randn(2, 3, *shape), torch.randint(0, 3, (2, 1, *shape))
        assert torch.allclose(WeightedCrossEntropyLoss()(scores, label), F.cross_entropy(scores, label[:, 0]))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s, y, w: (s, y[..., :-1], w), r"need a target of shape \(2, 1, 5, 7\), got \(2, 1, 5, 6\)"),
        (lambda s, y, w: (s, y, w[:1]), r"need a weight of shape \(2, 1, 5, 7\), got \(1, 1, 5, 7\)"),
        (lambda s, y, w: (s, y + 1, w), "class 3.* 3 scores"),
    ],
)
def test_wrong_shapes_and_classes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        WeightedCrossEntropyLoss()(*change(*sample()))


def test_unknown_reductions_are_refused():
    with pytest.raises(ValueError, match="reduction must be one of"):
        WeightedCrossEntropyLoss("average")
