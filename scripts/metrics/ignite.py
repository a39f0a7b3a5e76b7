"""SEG, DET and the instance scores as metrics of MONAI engines, one of which can be the key metric.

The counts of every image are kept, gathered from all processes, summed, and only then divided, so that a score is the
same however the images are shared out.

    key_val_metric:
      val_seg:
        _target_: scripts.metrics.SegScore
        pred_key: pred_instances
        reference_key: reference

The metric that decides which weights are kept, chosen by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric

from scripts.checks import check_choice
from scripts.engines import engine_items
from scripts.io.arrays import as_array
from scripts.metrics.membranes import VInfo, VRand
from scripts.metrics.objects import (
    det_counts,
    det_from_counts,
    instance_counts,
    instance_scores_from_counts,
    seg_counts,
    seg_from_counts,
)
from scripts.metrics.pixels import MeanDice, MeanIoU, split_target

MEASURES = ("precision", "recall", "f1", "mean_matched_iou")


class ObjectMetric(CumulativeIterationMetric):
    """Accumulate the counts of every image, over all ranks, and reduce them to one number.

    Called with predicted label images (B, 1, H, W) and reference label images (B, 1, H, W), or (B, 2, H, W) with a mask
    or weight map stacked on them where `count` takes one; or with lists of the same without the batch axis.

    Args:
        count: function (result (H, W), reference (H, W)[, valid (H, W)]) -> counts (K,).
        score: function from counts (..., K) to values (...).
    """

    def __init__(
        self,
        count: Callable[..., np.ndarray] = seg_counts,
        score: Callable[[np.ndarray], np.ndarray] = seg_from_counts,
    ) -> None:
        super().__init__()
        self.count = count
        self.score = score

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **_: object) -> torch.Tensor:
        if y is None:
            raise ValueError(f"{type(self).__name__} compares with a reference, got none")
        if y_pred.shape[1] != 1:
            raise ValueError(
                f"expected label images with 1 channel, got the shape {tuple(y_pred.shape)} (images first); put "
                "InstancesFromScoresd into the postprocessing and name its output"
            )
        counts = []
        for result, target in zip(as_array(y_pred), as_array(y), strict=True):
            reference, valid = split_target(target)
            counts.append(self.count(result[0], reference, *(() if valid is None else (valid,))))
        return torch.from_numpy(np.stack(counts).astype(np.float64))  # (B, K)

    def get_buffer(self) -> torch.Tensor:
        """The score of every image by itself, float32 (N, 1), as `monai.handlers.MetricsSaver` lists them."""
        counts = self._counts()
        return torch.zeros(0, 1) if counts is None else torch.from_numpy(self.score(counts).astype(np.float32))[:, None]

    def aggregate(self) -> torch.Tensor:
        """The score of all objects of all images seen since the last reset, a scalar; NaN without any."""
        counts = self._counts()
        return torch.tensor(float("nan") if counts is None else float(self.score(counts.sum(axis=0))))

    def _counts(self) -> np.ndarray | None:
        buffer = super().get_buffer()
        return None if buffer is None else buffer.numpy()  # (N, K)


class ObjectMetricHandler(IgniteMetricHandler):
    """Feed an `ObjectMetric` from what an engine loaded and what came out of it, by key.

    MONAI's own handlers see the output alone, in which the reference instances are missing.

    Args:
        metric: what to accumulate.
        pred_key: predicted label image (1, H, W), as `scripts.transforms.InstancesFromScoresd` writes it. A name of its
            own: under the key of the reference, a forgotten postprocessing would score the reference with itself.
        reference_key: reference label image (1, H, W), objects as in the file. A gap that was put between touching
            objects for training must not be in it, since it would be missing from every object.
        valid_key: mask or weight map (1, H, W), 0: not annotated.
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
        """Count the images of this iteration."""
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
    """SEG of the Cell Tracking Challenge; arguments as `ObjectMetricHandler`."""

    def __init__(self, pred_key: str = "pred_instances", reference_key: str = "reference") -> None:
        super().__init__(ObjectMetric(seg_counts, seg_from_counts), pred_key, reference_key)


class DetScore(ObjectMetricHandler):
    """DET of the Cell Tracking Challenge; the reference are the markers of all cells."""

    def __init__(self, pred_key: str = "pred_instances", reference_key: str = "markers") -> None:
        super().__init__(ObjectMetric(det_counts, det_from_counts), pred_key, reference_key)


class InstanceScore(ObjectMetricHandler):
    """Precision, recall, F1 or mean IoU of the instances that match at one IoU threshold.

    Args:
        threshold: 0.5 <= threshold < 1; a match has a greater IoU.
        measure: "precision", "recall", "f1" or "mean_matched_iou".
        pred_key: as in `ObjectMetricHandler`.
        reference_key: as in `ObjectMetricHandler`; negative: not annotated.
        valid_key: as in `ObjectMetricHandler`.
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
KEY_METRICS = tuple(_HANDLERS)


def key_metric(name: str, class_names: Sequence[str], prefix: str = "val_") -> dict[str, IgniteMetricHandler]:
    """The key metric of an engine, of which more is better.

    Args:
        name: "mean_dice", "mean_iou": means over the classes, then over the images, for regions. "v_rand", "v_info": of
            the ISBI 2012 challenge after thinning, for membranes, highest over the thresholds. "seg": of the Cell
            Tracking Challenge, "instance_f1": F1 at an IoU of 0.5, for objects as a whole.
            The first two compare `pred` and `label`, the next two the same with class 1 as the cells, the last two
            `pred_instances`, as `InstancesFromScoresd` writes them, and `reference`, as `InstanceLabelsd` does.
        class_names: of all classes.
        prefix: put before the name: "val_" gives `val_seg`.

    Returns:
        {prefix and name: handler}, for `key_val_metric`.

    Raises:
        ValueError: no such metric.
    """
    check_choice("key_metric", name, _HANDLERS)
    return {f"{prefix}{name}": _HANDLERS[name](len(class_names))}
