"""Pixel error, Dice and IoU per class, from one confusion matrix per image.

Every measure is a function of the confusion matrix; the classes at the end adapt them to ignite engines, so that a
configuration can name them. MONAI's `DiceMetric` and `MeanIoU` give the same values wherever a class occurs in the
truth (a test says so), but they leave out an image whose truth lacks the class even where the prediction wrongly finds
it, and they know no weight map, so a partly annotated image would count in full.

Averages: *mean* is taken over the classes of each image, then over the images, leaving out NaN; *pooled* is the measure
of the summed confusion matrices, in which every pixel of the data set counts the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric

from scripts.data.annotation import annotated_pixels
from scripts.io.arrays import as_array


def confusion_matrix(
    pred: np.ndarray, label: np.ndarray, num_classes: int, valid: np.ndarray | None = None
) -> np.ndarray:
    """Count the pixels of every pair of true and predicted class.

    Args:
        pred: class map of any shape, whole numbers 0 .. num_classes - 1.
        label: class map of the same shape; a negative class means not annotated, and such a pixel is not counted.
        num_classes: number of classes K.
        valid: array of the same shape, e.g. a mask or the weight map; a pixel where it is 0 is not counted.

    Returns:
        int64 (K, K): rows are the true, columns the predicted classes.

    Raises:
        ValueError: shapes differ, or a counted pixel holds something other than a class.

    Example:
        >>> confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 0, 1, -1]), num_classes=2)
        array([[1, 1],
               [0, 1]])
    """
    for name, array in (("label", label), ("valid", valid)):
        if array is not None and array.shape != pred.shape:
            raise ValueError(f"{name} has the shape {array.shape}, the prediction {pred.shape}; they must be equal")
    counted = annotated_pixels(label, valid)
    truth = _classes(label[counted], "label", num_classes)
    found = _classes(pred[counted], "pred", num_classes)
    return np.bincount(truth * num_classes + found, minlength=num_classes**2).reshape(num_classes, num_classes)


def pixel_error(confusion: np.ndarray) -> np.ndarray:
    """Share of annotated pixels whose class is wrong; NaN where no pixel is annotated.

    Args:
        confusion: (..., K, K), rows true, columns predicted.

    Returns:
        float64 (...).

    Example:
        >>> float(pixel_error(np.array([[1, 1], [0, 2]])))
        0.25
    """
    return 1.0 - ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def dice_per_class(confusion: np.ndarray) -> np.ndarray:
    """Dice 2 |P n T| / (|P| + |T|) of every class; NaN where a class is in neither prediction nor truth.

    Args:
        confusion: (..., K, K), rows true, columns predicted.

    Returns:
        float64 (..., K).

    Example:
        >>> dice_per_class(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]])).round(3)
        array([0.667, 0.667,   nan])
    """
    both = np.diagonal(confusion, axis1=-2, axis2=-1)
    return ratio(2 * both, confusion.sum(axis=-1) + confusion.sum(axis=-2))


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union |P n T| / |P u T| of every class; NaN where a class is in neither prediction nor truth.

    Args:
        confusion: (..., K, K), rows true, columns predicted.

    Returns:
        float64 (..., K).

    Example:
        >>> iou_per_class(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]]))
        array([0.5, 0.5, nan])
    """
    both = np.diagonal(confusion, axis1=-2, axis2=-1)
    return ratio(both, confusion.sum(axis=-1) + confusion.sum(axis=-2) - both)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, of one shape; NaN, without a warning, where below is 0."""
    above = np.asarray(above, dtype=np.float64)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=np.asarray(below) != 0)


def nan_mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of the numbers that are not NaN; NaN, without a warning, where there is none."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def to_class_map(pred: np.ndarray) -> np.ndarray:
    """The class map (*spatial) of a prediction (C, *spatial): the largest score, or the only channel as it is."""
    return pred.argmax(axis=0) if pred.shape[0] > 1 else pred[0]


def split_target(target: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Take a target (1 or 2, *spatial) apart into the label and, where it is stacked on it, the weight map."""
    if target.shape[0] not in (1, 2):
        raise ValueError(
            f"label needs 1 channel (class map) or 2 (class map and weight map), got the shape {target.shape}; "
            "give class maps instead of one-hot labels"
        )
    return target[0], target[1] if target.shape[0] == 2 else None


class SegmentationMetric(CumulativeIterationMetric):
    """Accumulate one confusion matrix per image, over all ranks, and reduce them to one number.

    Called with predictions (B, K, *spatial) scores or (B, 1, *spatial) class maps, and labels (B, 1, *spatial) class
    maps or (B, 2, *spatial) class map and weight map; or with lists of the same without the batch axis.

    Args:
        num_classes: number of classes K.
        measure: function from confusion matrices (N, K, K) to values (N, K) or (N,).
        class_index: take this class alone; None takes the mean over the classes.
        pooled: sum the confusion matrices over the images first, instead of averaging over the images.
    """

    def __init__(
        self,
        num_classes: int,
        measure: Callable[[np.ndarray], np.ndarray] = dice_per_class,
        class_index: int | None = None,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        if class_index is not None and not 0 <= class_index < num_classes:
            raise ValueError(f"class_index must be one of 0 .. {num_classes - 1}, got {class_index}")
        if class_index is not None and measure is pixel_error:
            raise ValueError(f"the pixel error is one number for all classes; leave class_index out, got {class_index}")
        self.num_classes = num_classes
        self.measure = measure
        self.class_index = class_index
        self.pooled = pooled

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **_: object) -> torch.Tensor:
        if y is None:
            raise ValueError(f"{type(self).__name__} compares with a label, got none")
        matrices = [
            confusion_matrix(to_class_map(p), label, self.num_classes, weight)
            for p, (label, weight) in zip(as_array(y_pred), map(split_target, as_array(y)), strict=True)
        ]
        return torch.from_numpy(np.stack(matrices))  # int64 (B, K, K)

    def get_buffer(self) -> torch.Tensor:
        """The measure of every image, float32 (N, K) or (N, 1), as `monai.handlers.MetricsSaver` lists them."""
        return torch.from_numpy(self._measured(self._matrices()).astype(np.float32))

    def aggregate(self) -> torch.Tensor:
        """The mean (or pooled) measure over all images seen since the last reset, a scalar tensor; NaN without any."""
        matrices = self._matrices()
        if self.pooled:
            matrices = matrices.sum(axis=0, keepdims=True)
        values = self._measured(matrices)  # (N, K) or (N, 1)
        per_image = nan_mean(values, axis=1) if self.class_index is None else values[:, self.class_index]
        return torch.tensor(float(nan_mean(per_image)))

    def _measured(self, matrices: np.ndarray) -> np.ndarray:
        values = self.measure(matrices)
        return values if values.ndim == 2 else values[:, None]

    def _matrices(self) -> np.ndarray:
        buffer = super().get_buffer()
        return np.zeros((0, self.num_classes, self.num_classes), int) if buffer is None else buffer.numpy()


class MeanDice(IgniteMetricHandler):
    """Dice, as a key or additional metric of a MONAI engine.

    Args:
        num_classes: number of classes K.
        class_index: the class to measure; None takes the mean over the classes.
        pooled: measure all pixels of all images together, instead of averaging over the images.
        output_transform: takes (prediction, label) out of the engine's output.
    """

    measure: Callable[[np.ndarray], np.ndarray] = staticmethod(dice_per_class)

    def __init__(
        self,
        num_classes: int = 2,
        class_index: int | None = None,
        pooled: bool = False,
        output_transform: Callable = from_engine(["pred", "label"]),  # noqa: B008  # a function without state
    ) -> None:
        metric = SegmentationMetric(num_classes, type(self).measure, class_index, pooled)
        super().__init__(metric_fn=metric, output_transform=output_transform)


class MeanIoU(MeanDice):
    """Intersection over union; arguments as `MeanDice`."""

    measure = staticmethod(iou_per_class)


class PixelError(MeanDice):
    """Share of wrong pixels; arguments as `MeanDice`. Lower is better, so it cannot be the key metric as it is."""

    measure = staticmethod(pixel_error)


def named_metrics(class_names: Sequence[str], prefix: str = "val_") -> dict[str, IgniteMetricHandler]:
    """The additional metrics of an engine: pixel error, and Dice and IoU of every class under its name.

    Args:
        class_names: names of the classes 0 .. K - 1.
        prefix: put before every name: "val_" gives `val_pixel_error`, `val_dice_membrane`, `val_iou_membrane`, ...
    """
    k = len(class_names)
    metrics: dict[str, IgniteMetricHandler] = {f"{prefix}pixel_error": PixelError(k)}
    for name, kind in (("dice", MeanDice), ("iou", MeanIoU)):
        metrics |= {f"{prefix}{name}_{c.replace(' ', '_')}": kind(k, index) for index, c in enumerate(class_names)}
    return metrics


def _classes(values: np.ndarray, name: str, num_classes: int) -> np.ndarray:
    """Values of the counted pixels as int64, checked to be classes."""
    classes = values.astype(np.int64)
    if not np.array_equal(classes, values):
        odd = values[classes != values][0]
        raise ValueError(f"{name} must hold whole numbers (a class map), got values such as {odd}")
    if classes.size and (classes.min() < 0 or classes.max() >= num_classes):
        raise ValueError(
            f"{name} must hold the classes 0 .. {num_classes - 1}, got {classes.min()} .. {classes.max()}; "
            "raise the number of classes or map the labels"
        )
    return classes
