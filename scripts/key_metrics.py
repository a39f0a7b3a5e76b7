"""The metric that decides which weights are kept, chosen by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monai.handlers import IgniteMetricHandler

from scripts.em_metrics import VInfo, VRand
from scripts.metrics import MeanDice, MeanIoU
from scripts.object_metric_handlers import InstanceScore, SegScore

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
    if name not in _HANDLERS:
        raise ValueError(f"key_metric must be one of {', '.join(KEY_METRICS)}, got {name!r}")
    return {f"{prefix}{name}": _HANDLERS[name](len(class_names))}
