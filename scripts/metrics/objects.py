"""Scores of objects: SEG and DET of the Cell Tracking Challenge, instance precision, recall and F1 over IoU thresholds.

Every score comes from counts of all frames together. Every object of the data set counts the same, in any frame.

References:
    SEG: doi 10.1093/bioinformatics/btu080. DET: doi 10.1371/journal.pone.0144959. Why a match with an IoU above 0.5 is
    unique: arXiv 1801.00868, Sec. 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..data.annotation import annotated_pixels
from .overlap import Overlaps, overlaps
from .pixels import ratio

Frames = Iterable[np.ndarray]  # label images (H, W), a list, a stack or a generator

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
SPLIT_COST, MISS_COST, FALSE_COST = 5, 10, 1  # the challenge's weights of NS, FN and FP


def seg_jaccards_of(table: Overlaps) -> np.ndarray:
    """Compute the part of each reference object in SEG.

    The part is the Jaccard index with the result object that covers more than half of the reference object, and 0
    without such an object. Other result objects cost nothing, so a partly annotated reference can be scored, as in the
    challenge. A result object counts as a whole, also on pixels that are not annotated.

    Args:
        table: `overlaps` of a frame, without a mask of annotated pixels and without gaps between touching objects.

    Returns:
        float64 (R,), in the order of the object numbers.

    Example:
        >>> from scripts.metrics import overlaps
        >>> seg_jaccards_of(overlaps(np.array([[1, 1, 1, 0, 2, 0]]), np.array([[5, 5, 0, 0, 6, 6]])))
        array([0.66666667, 0.        ])
    """
    jaccards = np.zeros(len(table.reference_ids))
    jaccards[table.reference[table.covered]] = table.iou[table.covered]
    return jaccards


def seg_counts(result: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Compute the sum of `seg_jaccards_of` and the number of reference objects, float64 (2,), see `overlaps`.

    Example:
        >>> seg_counts(np.array([[1, 1, 1, 0]]), np.array([[5, 5, 5, 6]]))
        array([1., 2.])
    """
    jaccards = seg_jaccards_of(overlaps(result, reference))
    return np.array([jaccards.sum(), len(jaccards)])


def seg_from_counts(counts: np.ndarray) -> np.ndarray:
    """Compute SEG from `seg_counts` (..., 2): the mean over reference objects. NaN without objects.

    Example:
        >>> seg_from_counts(np.array([[1.5, 2], [0, 0]]))
        array([0.75,  nan])
    """
    return ratio(counts[..., 0], counts[..., 1])


def seg_score(results: Frames, references: Frames) -> float:
    """Measure SEG of the Cell Tracking Challenge: the mean of `seg_jaccards_of` over all objects of all frames.

    Args:
        results: label images of the annotated frames.
        references: gold or silver label images of the same frames.

    Returns:
        0 .. 1, NaN without reference objects.

    Raises:
        ValueError: no frames, different numbers of frames, or as `overlaps`.

    Example:
        >>> seg_score([np.array([[1, 1, 0]]), np.array([[1, 1, 0]])], [np.array([[4, 4, 0]]), np.array([[4, 4, 4]])])
        0.8333333333333333
    """
    return float(seg_from_counts(_total(seg_counts, results, references)))


def det_counts(result: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """Count the operations that correct the detections of a frame.

    A result object detects a marker if it covers more than half of the marker.

    Args:
        result: label image as in `overlaps`.
        markers: label image of the same shape, one marker per cell, for all cells (the challenge's `TRA` folder).

    Returns:
        int64 (4,): splits (a result object on k > 1 markers needs k - 1), markers not detected, result objects on no
        marker, markers.

    Example:
        >>> det_counts(np.array([[1, 1, 1, 0, 2]]), np.array([[1, 0, 2, 3, 0]]))
        array([1, 1, 1, 3])
    """
    table = overlaps(result, markers)
    markers_on = np.bincount(table.result[table.covered], minlength=len(table.result_ids))
    detected = markers_on.sum()
    objects = len(table.reference_ids)
    return np.array([detected - np.count_nonzero(markers_on), objects - detected, (markers_on == 0).sum(), objects])


def det_from_counts(counts: np.ndarray) -> np.ndarray:
    """Compute DET = 1 - min(AOGM-D, AOGM-D0) / AOGM-D0 from `det_counts` (..., 4). NaN without markers.

    Example:
        >>> float(det_from_counts(np.array([1, 0, 0, 2])))  # a split costs 5, the two markers of an empty result 20
        0.75
    """
    cost = counts[..., :3] @ np.array([SPLIT_COST, MISS_COST, FALSE_COST])
    of_nothing = MISS_COST * counts[..., 3]  # AOGM-D0: the cost of an empty result
    return 1 - ratio(np.minimum(cost, of_nothing), of_nothing)


def det_score(results: Frames, markers: Frames) -> float:
    """Measure DET of the Cell Tracking Challenge over all frames of a sequence.

    Args:
        results: label images.
        markers: label images of the markers in the same frames.

    Returns:
        0 .. 1, NaN without markers.

    Raises:
        ValueError: as `seg_score`.

    Example:
        >>> det_score([np.array([[1, 1, 1]])], [np.array([[4, 0, 5]])])  # two cells in one object
        0.75
    """
    return float(det_from_counts(_total(det_counts, results, markers)))


def instance_counts(
    result: np.ndarray,
    reference: np.ndarray,
    valid: np.ndarray | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> np.ndarray:
    """Count matches, false and missed objects of a frame. Objects match if their IoU is above a threshold.

    Above an IoU of 0.5 more than half of either object lies in the other, so no object is in two matches.

    Pixels that are not annotated (reference below 0, or `valid` 0) belong to no object. A result object without a match
    is left out, instead of false, unless more than half of it is annotated.

    Args:
        result: label image as in `overlaps`.
        reference: label image of the same shape, negative = not annotated.
        valid: mask or weight map of the same shape, 0 = not annotated.
        thresholds: T values in 0.5 <= t < 1.

    Returns:
        float64 (T, 4): matches (true positives), false positives, false negatives, sum of the IoU of the matches.

    Raises:
        ValueError: a threshold is out of range, or as `overlaps`.

    Example:
        >>> instance_counts(np.array([[1, 1, 1, 0, 2]]), np.array([[1, 1, 1, 1, 0]]), thresholds=[0.5, 0.75])
        array([[1.  , 1.  , 0.  , 0.75],
               [0.  , 2.  , 1.  , 0.  ]])
    """
    annotated = annotated_pixels(reference, valid)
    return instance_counts_of(overlaps(result, reference, None if annotated.all() else annotated), thresholds)


def instance_counts_of(table: Overlaps, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """Compute `instance_counts` from the table of a frame in which the annotated pixels count.

    Example:
        >>> from scripts.metrics import overlaps
        >>> instance_counts_of(overlaps(np.array([[1, 1]]), np.array([[5, 5]])), thresholds=[0.5])
        array([[1., 0., 0., 1.]])
    """
    limits = np.asarray(thresholds, dtype=float)
    if limits.ndim != 1 or not ((limits >= 0.5) & (limits < 1)).all():
        raise ValueError(f"thresholds must be a list of values from 0.5 to below 1, got {thresholds}")
    rows = []
    for limit in limits:
        missed, false = unmatched(table, limit)
        matches = len(missed) - missed.sum()
        rows.append([matches, false.sum(), missed.sum(), table.iou[table.iou > limit].sum()])
    return np.array(rows, float).reshape(len(limits), 4)


def unmatched(table: Overlaps, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the objects without a match: missed objects of the reference, bool (R,), and false results, bool (S,).

    Args:
        table: `overlaps` of a frame in which the annotated pixels count. Results that are not annotated by more than
            half are never false.
        threshold: 0.5 <= t < 1. Objects match if their IoU is above.

    Example:
        >>> from scripts.metrics import overlaps
        >>> unmatched(overlaps(np.array([[1, 1, 0, 2]]), np.array([[5, 5, 0, 0]])), 0.5)
        (array([False]), array([False,  True]))
    """
    matched = table.iou > threshold
    missed = np.ones(len(table.reference_ids), bool)
    missed[table.reference[matched]] = False
    false = 2 * table.result_areas > table.result_whole_areas
    false[table.result[matched]] = False
    return missed, false


def instance_scores_from_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute precision, recall, F1 and mean IoU as in `instance_scores` from `instance_counts` (..., 4).

    Example:
        >>> {name: float(score) for name, score in instance_scores_from_counts(np.array([2, 0, 2, 1.5])).items()}
        {'precision': 1.0, 'recall': 0.5, 'f1': 0.6666666666666666, 'mean_matched_iou': 0.75}
    """
    matches, false, missed, iou = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    return {
        "precision": ratio(matches, matches + false),
        "recall": ratio(matches, matches + missed),
        "f1": ratio(2 * matches, 2 * matches + false + missed),
        "mean_matched_iou": ratio(iou, matches),
    }


def instance_scores(
    results: Frames,
    references: Frames,
    valid: Frames | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, np.ndarray]:
    """Measure precision, recall, F1 and mean IoU of the matches, over all objects of all frames, at every threshold.

    Args:
        results: label images.
        references: label images, negative = not annotated.
        valid: masks or weight maps, 0 = not annotated.
        thresholds: T values in 0.5 <= t < 1. A match has a greater IoU.

    Returns:
        Columns of length T: `threshold`, `precision` TP / (TP + FP), `recall` TP / (TP + FN), `f1`
        2 TP / (2 TP + FP + FN), `mean_matched_iou`, and the numbers `matches`, `false`, `missed`. NaN for 0 / 0.

    Raises:
        ValueError: as `seg_score` and `instance_counts`.

    Example:
        >>> scores = instance_scores([np.array([[1, 1, 1, 0, 2]])], [np.array([[1, 1, 1, 1, 0]])])
        >>> scores["threshold"][:3], scores["recall"][:3]
        (array([0.5, 0.6, 0.7]), array([1., 1., 1.]))
    """

    def count(result: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        return instance_counts(result, reference, mask, thresholds)

    counts = _total(count, results, references, *([] if valid is None else [valid]))  # (T, 4)
    numbers = {name: counts[:, k].astype(int) for k, name in enumerate(("matches", "false", "missed"))}
    return {"threshold": np.array(thresholds), **instance_scores_from_counts(counts), **numbers}


def _total(count: Callable[..., np.ndarray], *frames: Frames) -> np.ndarray:
    """Add up the counts of all frames."""
    counts = [count(*frame) for frame in zip(*frames, strict=True)]
    if not counts:
        raise ValueError("no frames given. A score needs at least one")
    return np.sum(counts, axis=0)
