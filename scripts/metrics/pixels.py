"""Pixel error, Dice and IoU per class, from one confusion matrix per image.

The functions take confusion matrices. The classes at the end make them metrics of engines, for configurations.

MONAI's `DiceMetric` and `MeanIoU` give the same values for classes that occur in the truth (tested). They leave out an
image without the class, even if the prediction wrongly contains the class, and they know no weight map.

Averages: the *mean* is taken over the classes of each image, then over the images, without NaN. The *pooled* measure
takes the sum of all confusion matrices, so every pixel of the data set counts the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from monai.handlers import IgniteMetricHandler, from_engine

from ..data.annotation import annotated_pixels
from ..io.arrays import as_array
from .images import ImageMetric, ImageMetricHandler
from .overlap import whole_numbers


def confusion_matrix(
    pred: np.ndarray, label: np.ndarray, num_classes: int, valid: np.ndarray | None = None
) -> np.ndarray:
    """Count the pixels of every pair of true and predicted class.

    Args:
        pred: class map of any shape, whole numbers 0 .. num_classes - 1.
        label: class map of the same shape. Pixels with a negative class are not annotated and not counted.
        num_classes: number of classes K.
        valid: mask or weight map of the same shape. Pixels where it is 0 are not counted.

    Returns:
        int64 (K, K): rows are true, columns are predicted classes.

    Raises:
        ValueError: the shapes differ, or a counted pixel holds no class.

    Example:
        >>> confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 0, 1, -1]), num_classes=2)
        array([[1, 1],
               [0, 1]])
    """
    if label.shape != pred.shape:
        raise ValueError(f"label has the shape {label.shape}, the prediction {pred.shape}; they must be equal")
    counted = annotated_pixels(label, valid)
    truth = _classes(label[counted], "label", num_classes)
    found = _classes(pred[counted], "pred", num_classes)
    return np.bincount(truth * num_classes + found, minlength=num_classes**2).reshape(num_classes, num_classes)


def image_confusion(pred: Any, label: Any, num_classes: int) -> np.ndarray:
    """Compute the `confusion_matrix` of an image as engines hold it.

    Args:
        pred: tensor or array, scores (K, *spatial) or class map (1, *spatial).
        label: tensor or array, class map (1, *spatial), or class map and weight map (2, *spatial).
        num_classes: number of classes K.

    Example:
        >>> image_confusion(torch.tensor([[[0.9, 0.2]], [[0.1, 0.8]]]), torch.tensor([[[0, 1]]]), num_classes=2)
        array([[1, 0],
               [0, 1]])
    """
    class_map, weight = split_target(as_array(label))
    return confusion_matrix(to_class_map(as_array(pred)), class_map, num_classes, weight)


def pixel_error(confusion: np.ndarray) -> np.ndarray:
    """Compute the share of annotated pixels with a wrong class from matrices (..., K, K), float64 (...).

    NaN without annotated pixels.

    Example:
        >>> float(pixel_error(np.array([[1, 1], [0, 2]])))
        0.25
    """
    return 1.0 - ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def dice_per_class(confusion: np.ndarray) -> np.ndarray:
    """Compute Dice 2 |P n T| / (|P| + |T|) of every class from matrices (..., K, K), float64 (..., K).

    NaN for classes in neither prediction nor truth.

    Example:
        >>> dice_per_class(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]])).round(3)
        array([0.667, 0.667,   nan])
    """
    both = np.diagonal(confusion, axis1=-2, axis2=-1)
    return ratio(2 * both, confusion.sum(axis=-1) + confusion.sum(axis=-2))


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Compute IoU |P n T| / |P u T| of every class. Shapes and NaN as in `dice_per_class`.

    Example:
        >>> iou_per_class(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]]))
        array([0.5, 0.5, nan])
    """
    both = np.diagonal(confusion, axis1=-2, axis2=-1)
    return ratio(both, confusion.sum(axis=-1) + confusion.sum(axis=-2) - both)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide two arrays of one shape; NaN, without a warning, where `below` is 0.

    Example:
        >>> ratio(np.array([1, 0]), np.array([2, 0]))
        array([0.5, nan])
    """
    above = np.asarray(above, dtype=np.float64)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=np.asarray(below) != 0)


def nan_mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Average the numbers that are not NaN; NaN if there are none. `numpy.nanmean` would warn then.

    Example:
        >>> nan_mean(np.array([[1, np.nan], [0, np.nan]]), axis=0)
        array([0.5, nan])
    """
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def to_class_map(pred: np.ndarray) -> np.ndarray:
    """Turn a prediction (C, *spatial) into a class map (*spatial): argmax of several channels, or the only channel.

    Example:
        >>> to_class_map(np.array([[0.9, 0.2], [0.1, 0.8]]))
        array([0, 1])
    """
    return pred.argmax(axis=0) if pred.shape[0] > 1 else pred[0]


def split_target(target: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Split a target (1 or 2, *spatial) into its label and its weight map, each (*spatial). None: no weight map.

    Raises:
        ValueError: another number of channels.

    Example:
        >>> split_target(np.array([[[0, 1]]]))
        (array([[0, 1]]), None)
    """
    if target.shape[0] not in (1, 2):
        raise ValueError(
            f"label needs 1 channel (class map) or 2 (class map and weight map), got the shape {target.shape}. "
            "Give class maps instead of one-hot labels"
        )
    return target[0], target[1] if target.shape[0] == 2 else None


class SegmentationMetric(ImageMetric):
    """Collect the confusion matrices of all images, over all processes, and reduce them to one number.

    Call it with predictions and labels as in `image_confusion`, as batches (B, ...) or lists of images.

    Args:
        num_classes: number of classes K.
        measure: function from confusion matrices (N, K, K) to values (N, K) or (N,).
        class_index: class to measure. None: mean over the classes.
        pooled: sum the confusion matrices of all images first, instead of averaging over the images.

    Example:
        >>> from scripts.metrics import pixel_error
        >>> metric = SegmentationMetric(num_classes=2, measure=pixel_error)
        >>> _ = metric(torch.tensor([[[[0, 1, 1, 1]]]]), torch.tensor([[[[0, 0, 1, 1]]]]))
        >>> float(metric.aggregate())
        0.25
    """

    def __init__(
        self,
        num_classes: int,
        measure: Callable[[np.ndarray], np.ndarray] = dice_per_class,
        class_index: int | None = None,
        pooled: bool = False,
    ) -> None:
        super().__init__(image_confusion, num_classes)
        if class_index is not None and not 0 <= class_index < num_classes:
            raise ValueError(f"class_index must be one of 0 .. {num_classes - 1}, got {class_index}")
        if class_index is not None and measure is pixel_error:
            raise ValueError(f"the pixel error is one number for all classes. Leave class_index out, got {class_index}")
        self.measure = measure
        self.class_index = class_index
        self.pooled = pooled

    def per_image(self, numbers: np.ndarray) -> np.ndarray:
        """Measure every confusion matrix (N, K, K)."""
        return self.measure(numbers)

    def over_images(self, numbers: np.ndarray) -> np.ndarray:
        """Give the mean or pooled measure of confusion matrices (N, K, K)."""
        values = self.measure(numbers.sum(axis=0, keepdims=True) if self.pooled else numbers)
        if self.class_index is not None:
            values = values[:, self.class_index]
        return nan_mean(nan_mean(values, axis=1) if values.ndim == 2 else values)


class MeanDice(ImageMetricHandler):
    """Measure the mean Dice of the classes, as a key or additional metric of a MONAI engine.

    The mean includes class 0, the background. With `class_index`, only one class is measured.

    Args:
        num_classes, class_index, pooled: as in `SegmentationMetric`.
        output_transform: takes the predictions and labels out of the engine's output.

    Example::

        key_val_metric:
          val_mean_dice:
            _target_: scripts.metrics.MeanDice
            num_classes: 2
    """

    measure: Callable[[np.ndarray], np.ndarray] = staticmethod(dice_per_class)

    def __init__(
        self,
        num_classes: int = 2,
        class_index: int | None = None,
        pooled: bool = False,
        output_transform: Callable = from_engine(["pred", "label"]),  # noqa: B008  # a function without state
    ) -> None:
        super().__init__(SegmentationMetric(num_classes, type(self).measure, class_index, pooled), output_transform)


class MeanIoU(MeanDice):
    """Intersection over union (IoU). Arguments as in `MeanDice`."""

    measure = staticmethod(iou_per_class)


class PixelError(MeanDice):
    """Share of wrong pixels. Arguments as in `MeanDice`. Lower is better, so it cannot be the key metric."""

    measure = staticmethod(pixel_error)


def named_metrics(class_names: Sequence[str], prefix: str = "val_") -> dict[str, IgniteMetricHandler]:
    """Make the additional metrics of an engine: the pixel error, and Dice and IoU of every class by name.

    Args:
        class_names: names of the classes 0 .. K - 1.
        prefix: of every name: "val_" gives `val_pixel_error`, `val_dice_membrane`, `val_iou_membrane`, ...

    Returns:
        {name: handler}, for `additional_metrics`.

    Example:
        >>> list(named_metrics(["background", "cell"]))
        ['val_pixel_error', 'val_dice_background', 'val_dice_cell', 'val_iou_background', 'val_iou_cell']
    """
    k = len(class_names)
    metrics: dict[str, IgniteMetricHandler] = {f"{prefix}pixel_error": PixelError(k)}
    for name, kind in (("dice", MeanDice), ("iou", MeanIoU)):
        metrics |= {f"{prefix}{name}_{c.replace(' ', '_')}": kind(k, index) for index, c in enumerate(class_names)}
    return metrics


def _classes(values: np.ndarray, name: str, num_classes: int) -> np.ndarray:
    """Convert the values of the counted pixels to int64, and check that they are classes."""
    classes = whole_numbers(values, f"{name} (a class map)").astype(np.int64, copy=False)
    if classes.size and (classes.min() < 0 or classes.max() >= num_classes):
        raise ValueError(
            f"{name} must hold the classes 0 .. {num_classes - 1}, got {classes.min()} .. {classes.max()}. "
            "Raise the number of classes or map the labels"
        )
    return classes
