"""Compare the segmentations of two networks with the key metric of the task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from scripts.metrics.ignite import key_metric
from scripts.transforms.activations import LikeliestClassd, ProbabilitiesFromScoresd
from scripts.transforms.objects import InstancesFromScoresd

Agreement = Callable[[torch.Tensor, torch.Tensor], float]


def task_agreement(info: Mapping[str, Any]) -> tuple[str, Agreement]:
    """Make a function that compares scores with the key metric of the weights.

    Args:
        info: settings of the weights, see `bundle.experiments.trained.Trained`.

    Returns:
        name of the metric; function (scores (1, K, H, W), scores of the original) -> value, 1 for equal segmentations.
        The segmentation of the original is the reference. NaN: nothing to compare, for example no object.

    Example:
        >>> from scripts.settings import ModelSettings
        >>> name, agreement = task_agreement(ModelSettings(key_metric="seg").model_dump())
        >>> scores = torch.randn(1, 2, 20, 20)
        >>> name, agreement(scores, scores)
        ('seg', 1.0)
    """
    name = info["key_metric"]
    instances = InstancesFromScoresd(
        "prob",
        threshold=info["threshold"],
        min_area=info["min_area"],
        fill_holes=info["fill_holes"],
        split=info["split_necks"],
        gap=info["close_gaps"],
        field_border=info["field_border"],
    )
    on_objects = name in ("seg", "instance_f1")

    def segmented(scores: torch.Tensor) -> dict[Any, Any]:
        item = ProbabilitiesFromScoresd("scores", output_keys="prob")({"scores": scores[0].cpu()})
        return instances(item) if on_objects else {**item, "classes": LikeliestClassd("prob")(item)["prob"]}

    def agreement(scores: torch.Tensor, original: torch.Tensor) -> float:
        (handler,) = key_metric(name, info["class_names"]).values()
        metric: Any = handler.metric_fn
        ours, theirs = segmented(scores), segmented(original)
        if on_objects:
            metric([ours["instances"]], [theirs["instances"]])
        else:
            metric([ours["prob"]], [theirs["classes"]])
        return float(metric.aggregate())

    return name, agreement
