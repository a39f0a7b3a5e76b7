"""SEG, DET and the instance scores as metrics of MONAI engines, and the key metric by its name.

The counts of all images are collected from all processes and summed before the division. Scores are the same for every
distribution of the images over processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler

from ..checks import check_choice
from ..engines import engine_items
from ..io.arrays import as_array
from .images import ImageMetric
from .membranes import VInfo, VRand
from .objects import (
    det_counts,
    det_from_counts,
    instance_counts,
    instance_scores_from_counts,
    seg_counts,
    seg_from_counts,
)
from .pixels import MeanDice, MeanIoU, split_target

MEASURES = ("precision", "recall", "f1", "mean_matched_iou")


class ObjectMetric(ImageMetric):
    """Collect the counts of every image, over all processes, and reduce them to one number.

    Call it with predicted and reference label images, both (B, 1, H, W), or lists of images (1, H, W). A reference
    (B, 2, H, W) holds a mask or weight map as second channel, for functions `count` with three arguments.

    Args:
        count: function (result (H, W), reference (H, W)[, valid (H, W)]) -> counts (K,).
        score: function from counts (..., K) to values (...).

    Example:
        >>> metric = ObjectMetric()  # SEG
        >>> _ = metric(torch.tensor([[[[1, 1, 0]]]]), torch.tensor([[[[4, 4, 4]]]]))
        >>> round(float(metric.aggregate()), 4)
        0.6667
    """

    def __init__(
        self,
        count: Callable[..., np.ndarray] = seg_counts,
        score: Callable[[np.ndarray], np.ndarray] = seg_from_counts,
    ) -> None:
        super().__init__(_image_counts, count)
        self.score = score

    def per_image(self, numbers: np.ndarray) -> np.ndarray:
        """Compute the score of every image from counts (N, K)."""
        return self.score(numbers)

    def over_images(self, numbers: np.ndarray) -> np.ndarray:
        """Compute the score of all objects of all images from counts (N, K)."""
        return self.score(numbers.sum(axis=0))


def _image_counts(pred: Any, target: Any, count: Callable[..., np.ndarray]) -> np.ndarray:
    """Count the objects of an image as engines hold it: predicted label image and target, each (C, H, W)."""
    result = as_array(pred)
    if len(result) != 1:
        raise ValueError(
            f"expected a label image with 1 channel, got the shape {result.shape}. Put InstancesFromScoresd into the "
            "postprocessing and name its output"
        )
    reference, valid = split_target(as_array(target))
    return count(result[0], reference, *(() if valid is None else (valid,))).astype(np.float64)


class ObjectMetricHandler(IgniteMetricHandler):
    """Give an `ObjectMetric` the images that an engine loaded and predicted, by key.

    MONAI's own handlers see only the engine's output, without the reference.

    Args:
        metric: the metric.
        pred_key: predicted label image (1, H, W), as `scripts.transforms.InstancesFromScoresd` writes it. Use a name
            of its own: under the key of the reference, a forgotten postprocessing would compare the reference with
            itself.
        reference_key: reference label image (1, H, W), objects as in the file. The gap between touching objects that
            training needs must not be in it, since every object would lose pixels.
        valid_key: mask or weight map (1, H, W), 0 = not annotated.
    """

    def __init__(
        self,
        metric: ObjectMetric,
        pred_key: str = "pred_instances",
        reference_key: str = "reference",
        valid_key: str | None = None,
    ) -> None:
        super().__init__(metric_fn=metric)
        self.pred_key = pred_key
        self.reference_key = reference_key
        self.valid_key = valid_key

    def iteration_completed(self, engine: Engine) -> None:
        """Count the objects of the images of this iteration."""
        for item in engine_items(engine):
            missing = [key for key in (self.pred_key, self.reference_key, self.valid_key) if key and key not in item]
            if missing:
                raise KeyError(f"{type(self).__name__}: no {', '.join(missing)} among {', '.join(sorted(item))}")
            target = torch.as_tensor(item[self.reference_key])
            if self.valid_key:
                valid = torch.as_tensor(item[self.valid_key]).to(target.device) != 0
                target = torch.cat([target, valid.to(target.dtype)])
            self.update(([torch.as_tensor(item[self.pred_key])], [target]))


class SegScore(ObjectMetricHandler):
    """SEG of the Cell Tracking Challenge. Arguments as in `ObjectMetricHandler`.

    Example::

        key_val_metric:
          val_seg: {_target_: scripts.metrics.SegScore}
    """

    def __init__(self, pred_key: str = "pred_instances", reference_key: str = "reference") -> None:
        super().__init__(ObjectMetric(seg_counts, seg_from_counts), pred_key, reference_key)


class DetScore(ObjectMetricHandler):
    """DET of the Cell Tracking Challenge. The reference are the markers of all cells."""

    def __init__(self, pred_key: str = "pred_instances", reference_key: str = "markers") -> None:
        super().__init__(ObjectMetric(det_counts, det_from_counts), pred_key, reference_key)


class InstanceScore(ObjectMetricHandler):
    """Precision, recall, F1 or mean IoU of the objects that match at one IoU threshold.

    Args:
        threshold: 0.5 <= threshold < 1. A match has a greater IoU.
        measure: "precision", "recall", "f1" or "mean_matched_iou".
        pred_key, reference_key, valid_key: as in `ObjectMetricHandler`. A negative reference is not annotated.

    Raises:
        ValueError: unknown measure, or a threshold out of range.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        measure: str = "f1",
        pred_key: str = "pred_instances",
        reference_key: str = "reference",
        valid_key: str | None = None,
    ) -> None:
        check_choice("measure", measure, MEASURES)
        if not 0.5 <= threshold < 1:
            raise ValueError(f"threshold must be from 0.5 to below 1, got {threshold}")
        metric = ObjectMetric(partial(_counts_at, threshold), partial(_score, measure))
        super().__init__(metric, pred_key, reference_key, valid_key)


def _counts_at(
    threshold: float, result: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None
) -> np.ndarray:
    return instance_counts(result, reference, valid, [threshold])[0]


def _score(measure: str, counts: np.ndarray) -> np.ndarray:
    return instance_scores_from_counts(counts)[measure]


_HANDLERS: dict[str, Callable[[int], IgniteMetricHandler]] = {  # of the number of classes
    "mean_dice": MeanDice,
    "mean_iou": MeanIoU,
    "v_rand": lambda _: VRand(),
    "v_info": lambda _: VInfo(),
    "seg": lambda _: SegScore(),
    "instance_f1": lambda _: InstanceScore(),
}


def key_metric(name: str, class_names: Sequence[str], prefix: str = "val_") -> dict[str, IgniteMetricHandler]:
    """Make the key metric of an engine, which decides the weights to keep. More is better.

    | name | measure | for | compares |
    |---|---|---|---|
    | mean_dice, mean_iou | mean over the classes, then over the images | regions | `pred`, `label` |
    | v_rand, v_info | ISBI 2012 challenge, thinned, highest over thresholds; class 1 = cells | membranes | the same |
    | seg | Cell Tracking Challenge | objects | `pred_instances`, `reference` |
    | instance_f1 | F1 at an IoU of 0.5 | objects | the same |

    `pred_instances` comes from `InstancesFromScoresd`, `reference` from `InstanceLabelsd`.

    Args:
        name: as in the table.
        class_names: of all classes.
        prefix: put before the name: "val_" gives `val_seg`.

    Returns:
        {prefix and name: handler}, for `key_val_metric`.

    Raises:
        ValueError: unknown name.

    Example:
        >>> list(key_metric("seg", ["background", "cell"]))
        ['val_seg']
    """
    check_choice("key_metric", name, _HANDLERS)
    return {f"{prefix}{name}": _HANDLERS[name](len(class_names))}
