"""Measures of pixels: by hand on small arrays, and equal to MONAI's measures where both are defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.metrics import DiceMetric
from monai.metrics import MeanIoU as MonaiMeanIoU
from monai.networks import one_hot

from scripts.metrics.pixels import (
    MeanDice,
    PixelError,
    SegmentationMetric,
    confusion_matrix,
    dice_per_class,
    iou_per_class,
    named_metrics,
    nan_mean,
    pixel_error,
)

#           truth                prediction
TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
FOUND = np.array([[0, 1, 1, 1], [0, 0, 1, 0]])
# each class has 3 right pixels and 1 wrong pixel
CONFUSION = np.array([[3, 1], [1, 3]])


def test_confusion_counts_true_class_by_row_and_predicted_class_by_column() -> None:
    np.testing.assert_array_equal(confusion_matrix(FOUND, TRUTH, 2), CONFUSION)
    only_in_prediction = confusion_matrix(np.array([2]), np.array([0]), 3)
    assert only_in_prediction[0, 2] == 1
    assert only_in_prediction.sum() == 1
    assert only_in_prediction.dtype == np.int64


def test_values_by_hand() -> None:
    assert pixel_error(CONFUSION) == 2 / 8
    np.testing.assert_allclose(dice_per_class(CONFUSION), [6 / 8, 6 / 8])  # 2 * 3 / (4 + 4)
    np.testing.assert_allclose(iou_per_class(CONFUSION), [3 / 5, 3 / 5])  # 3 / (4 + 4 - 3)


@pytest.mark.parametrize(
    "confusion, dice, iou",
    [
        ([[4, 0], [0, 0]], [1.0, np.nan], [1.0, np.nan]),  # class 1 in neither
        ([[3, 1], [0, 0]], [6 / 7, 0.0], [3 / 4, 0.0]),  # class 1 wrongly found: 0
        ([[3, 0], [1, 0]], [6 / 7, 0.0], [3 / 4, 0.0]),  # class 1 missed
        ([[0, 0], [0, 0]], [np.nan, np.nan], [np.nan, np.nan]),  # nothing annotated
    ],
)
def test_a_class_in_neither_is_nan_and_a_class_in_one_is_zero(confusion: list, dice: list, iou: list) -> None:
    np.testing.assert_allclose(dice_per_class(np.array(confusion)), dice)
    np.testing.assert_allclose(iou_per_class(np.array(confusion)), iou)


@pytest.mark.parametrize(
    "label, valid",
    [
        (np.array([[0, -1, 1, 1], [0, 0, 1, -1]]), None),
        (TRUTH, np.array([[1.0, 0.0, 0.5, 1.0], [1.0, 12.0, 1.0, 0.0]])),
        (TRUTH, np.array([[1, 0, 1, 1], [1, 1, 1, 0]], dtype=bool)),
    ],
    ids=["negative label", "weight", "mask"],
)
def test_label_below_zero_or_weight_zero_means_not_annotated(label: np.ndarray, valid: np.ndarray | None) -> None:
    confusion = confusion_matrix(FOUND, label, 2, valid)  # both wrong pixels are left out
    np.testing.assert_array_equal(confusion, [[3, 0], [0, 3]])
    assert pixel_error(confusion) == 0


def test_values_of_pixels_that_are_not_annotated_do_not_matter() -> None:
    confusion = confusion_matrix(np.array([0, 255]), np.array([0, -1]), 2)
    np.testing.assert_array_equal(confusion, [[1, 0], [0, 0]])


@pytest.mark.parametrize(
    "pred, label, message",
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), r"label has the shape \(2, 3\), the prediction \(2, 2\)"),
        (np.full(2, 0.3), np.zeros(2), "pred .* whole numbers, .* 0.3"),
        (np.zeros(2), np.array([0, 2]), r"label must hold the classes 0 .. 1, got 0 .. 2"),
        (np.array([-1, 0]), np.zeros(2), r"pred must hold the classes 0 .. 1, got -1 .. 0"),
    ],
)
def test_other_arrays_than_class_maps_are_refused(pred: np.ndarray, label: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(pred, label, 2)


def test_nan_mean_leaves_nan_out_and_stays_silent_without_any_number() -> None:
    values = np.array([[1.0, np.nan], [0.0, np.nan]])
    np.testing.assert_array_equal(nan_mean(values, axis=0), [0.5, np.nan])
    assert nan_mean(values) == 0.5


def _random_batch(k: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, k, 16, 20, generator=generator)
    return scores, torch.randint(0, k, (4, 1, 16, 20), generator=generator)


@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize(
    "measure, monai_metric",
    [(dice_per_class, DiceMetric(reduction="mean")), (iou_per_class, MonaiMeanIoU(reduction="mean"))],
    ids=["dice", "iou"],
)
def test_mean_agrees_with_monai_where_every_class_occurs(k: int, measure: object, monai_metric: object) -> None:
    scores, label = _random_batch(k)
    ours = SegmentationMetric(k, measure)
    ours(scores, label)
    theirs = monai_metric(one_hot(scores.argmax(1, keepdim=True), k), one_hot(label, k))
    np.testing.assert_allclose(ours.get_buffer(), theirs, rtol=1e-6)
    assert float(ours.aggregate()) == pytest.approx(float(monai_metric.aggregate()), rel=1e-6)
    monai_metric.reset()


def test_monai_ignores_classes_that_are_wrongly_found_and_this_metric_does_not() -> None:
    """Therefore the project has a metric: a wrongly found class must lower the score."""
    found, truth = torch.tensor([[[[0, 0, 1]]]]), torch.tensor([[[[0, 0, 0]]]])
    assert torch.isnan(DiceMetric(num_classes=2)(found, truth)[0, 1])
    metric = SegmentationMetric(2)
    metric(found, truth)
    np.testing.assert_allclose(metric.get_buffer(), [[0.8, 0.0]])


def test_scores_class_maps_batches_and_lists_are_the_same() -> None:
    scores, label = _random_batch(3)
    classes = scores.argmax(1, keepdim=True)
    inputs = [(scores, label), (classes, label), (list(scores), list(label)), (scores.double(), label.float())]
    buffers = []
    for y_pred, y in inputs:
        metric = SegmentationMetric(3)
        metric(y_pred, y)
        buffers.append(metric.get_buffer())
    for other in buffers[1:]:
        torch.testing.assert_close(other, buffers[0])


def test_half_precision_scores_are_taken() -> None:
    scores, label = _random_batch(2)
    metric = SegmentationMetric(2)
    metric(scores.bfloat16(), label)
    assert metric.get_buffer().shape == (4, 2)


def test_mean_is_over_images_and_pooled_is_over_pixels() -> None:
    a = torch.tensor([[[[1, 1, 1, 1]]]]), torch.tensor([[[[1, 1, 1, 1]]]])  # cell: Dice 1 over 4 pixels
    b = torch.tensor([[[[0, 1]]]]), torch.tensor([[[[1, 0]]]])  # cell: Dice 0 over 1 pixel
    results = {}
    for pooled in (False, True):
        metric = SegmentationMetric(2, dice_per_class, class_index=1, pooled=pooled)
        metric(*a)
        metric(*b)
        results[pooled] = float(metric.aggregate())
    assert results[False] == 0.5
    assert results[True] == pytest.approx(2 * 4 / (5 + 5))


def test_the_mean_over_classes_is_taken_in_every_image_first() -> None:
    metric = SegmentationMetric(2)
    metric(torch.tensor([[[[0, 0]]]]), torch.tensor([[[[0, 0]]]]))  # class 0: 1, class 1: NaN -> 1
    metric(torch.tensor([[[[0, 0]]]]), torch.tensor([[[[1, 1]]]]))  # both 0 -> 0
    assert float(metric.aggregate()) == 0.5  # not (1 + 0 + 0) / 3


def test_stacked_weight_map_masks() -> None:
    target = torch.stack([torch.from_numpy(TRUTH), torch.from_numpy(np.where(FOUND == TRUTH, 3, 0))])
    metric = SegmentationMetric(2, pixel_error)
    metric(torch.from_numpy(FOUND)[None, None], target[None])
    assert float(metric.aggregate()) == 0


def test_without_any_image_the_value_is_nan() -> None:
    assert torch.isnan(SegmentationMetric(2).aggregate())


def test_one_hot_labels_and_wrong_class_index_are_refused() -> None:
    with pytest.raises(ValueError, match="class maps instead of one-hot labels"):
        SegmentationMetric(3)(torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"0 \.\. 1, got 2"):
        MeanDice(num_classes=2, class_index=2)
    with pytest.raises(ValueError, match="one number for all classes"):
        PixelError(num_classes=2, class_index=1)


def test_named_metrics_follow_the_class_names() -> None:
    metrics = named_metrics(["membrane", "cell body"])
    assert list(metrics) == [
        "val_pixel_error",
        "val_dice_membrane",
        "val_dice_cell_body",
        "val_iou_membrane",
        "val_iou_cell_body",
    ]
    evaluator = Engine(lambda _, batch: batch)
    for name, metric in metrics.items():
        metric.attach(evaluator, name)
    evaluator.run([[{"pred": torch.from_numpy(FOUND)[None], "label": torch.from_numpy(TRUTH)[None]}]])
    assert evaluator.state.metrics == pytest.approx(
        {
            "val_pixel_error": 0.25,
            "val_dice_membrane": 0.75,
            "val_dice_cell_body": 0.75,
            "val_iou_membrane": 0.6,
            "val_iou_cell_body": 0.6,
        }
    )
