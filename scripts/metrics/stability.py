"""Predict how many objects of an image are wrong, without ground truth: how much they change with the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..transforms.objects import instances_from_scores
from .objects import instance_counts

SHIFT = 0.2  # of the threshold; chosen on fluorescent nuclei


def object_instability(probability: np.ndarray, threshold: float = 0.5, **options: Any) -> float:
    """Compare the objects of a lower and a higher threshold. Merged, split, lost and blurred objects count.

    The score is 1 - F1 of the two label images, averaged over the IoU thresholds 0.5, 0.6, ... 0.9. A certain object is
    added to both sides, so that a single uncertain object does not decide.

    Args:
        probability: of an object, float (H, W).
        threshold: of the objects. Compared are the thresholds 0.2 above and below, at most half the way to 0 and 1.
        options: further arguments of `scripts.transforms.objects.instances_from_scores`.

    Returns:
        0: the same objects, or none. Nearly 1: no object stays.

    Example:
        >>> round(object_instability(np.array([[0.9, 0.9, 0.0, 0.6]])), 3)  # the second object is lost
        0.2
    """
    low, high = max(threshold - SHIFT, threshold / 2), min(threshold + SHIFT, (1 + threshold) / 2)
    few, many = (instances_from_scores(probability, level, **options) for level in (high, low))
    counts = instance_counts(few, many)
    matches, false, missed = counts[:, 0] + 1, counts[:, 1], counts[:, 2]
    return float(1 - np.mean(2 * matches / (2 * matches + false + missed)))
