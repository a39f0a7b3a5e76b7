"""Scores of objects: SEG and DET of the Cell Tracking Challenge, instance precision, recall and F1 over IoU thresholds.

Every score is made of counts per frame, summed over all frames: every object of the data set counts the same, whatever
frame it is in. `scripts.metrics.ignite` adapts the scores to engines.

Sources: SEG: doi 10.1093/bioinformatics/btu080; DET: doi 10.1371/journal.pone.0144959; why a match of IoU > 0.5 is
unique: arXiv 1801.00868, Sec. 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from scripts.data.annotation import annotated_pixels
from scripts.metrics.overlap import Overlaps, overlaps
from scripts.metrics.pixels import ratio

Frames = Iterable[np.ndarray]  # label images (H, W) of one size each, may be read one after the other

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
SPLIT_COST, MISS_COST, FALSE_COST = 5, 10, 1  # the challenge's weights of NS, FN and FP


def seg_jaccards(result: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """What each reference object of a frame adds to SEG.

    That is the Jaccard index with the one result object that covers more than half of it, and 0 where none does. What
    else there is in the result costs nothing, so a partly annotated reference is scored as the challenge does. The
    result object counts whole, also where the reference is negative (not annotated).

    Args:
        result: label image as in `overlaps`.
        reference: label image of the same shape, as in the file: without a gap put between touching objects.

    Returns:
        float64 (R,), in the order of the objects' ids.

    Example:
        >>> seg_jaccards(np.array([[1, 1, 1, 0, 2, 0]]), np.array([[5, 5, 0, 0, 6, 6]]))  # 2/3; half is too little
        array([0.66666667, 0.        ])
    """
    return seg_jaccards_of(overlaps(result, reference))


def seg_jaccards_of(table: Overlaps) -> np.ndarray:
    """`seg_jaccards` from the table of a frame, in which all pixels count."""
    jaccards = np.zeros(len(table.reference_ids))
    jaccards[table.reference[table.covered]] = table.iou[table.covered]
    return jaccards


def seg_counts(result: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Sum of `seg_jaccards` and number of reference objects, float64 (2,)."""
    jaccards = seg_jaccards(result, reference)
    return np.array([jaccards.sum(), len(jaccards)])


def seg_from_counts(counts: np.ndarray) -> np.ndarray:
    """SEG from `seg_counts` (..., 2): the mean over reference objects; NaN without any."""
    return ratio(counts[..., 0], counts[..., 1])


def seg_score(results: Frames, references: Frames) -> float:
    """SEG of the Cell Tracking Challenge: the mean of `seg_jaccards` over all reference objects of all frames.

    Args:
        results: label images of the annotated frames.
        references: their gold (or silver) label images.

    Returns:
        0 .. 1; NaN without a reference object.
    """
    return float(seg_from_counts(_total(seg_counts, results, references)))


def det_counts(result: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """The operations that make the detections of a frame right.

    A marker is detected by the one result object that covers more than half of it.

    Args:
        result: label image as in `overlaps`.
        markers: label image of the same shape, one marker per cell, all cells marked (the challenge's `TRA` folder).

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
    """DET = 1 - min(AOGM-D, AOGM-D0) / AOGM-D0 from `det_counts` (..., 4); NaN without a marker."""
    cost = counts[..., :3] @ np.array([SPLIT_COST, MISS_COST, FALSE_COST])
    from_nothing = MISS_COST * counts[..., 3]  # AOGM-D0: every marker added by hand
    return 1 - ratio(np.minimum(cost, from_nothing), from_nothing)


def det_score(results: Frames, markers: Frames) -> float:
    """DET of the Cell Tracking Challenge over all frames of a sequence.

    Args:
        results: label images of all frames.
        markers: the markers of those frames, see `det_counts`.

    Returns:
        0 .. 1; NaN without a marker.
    """
    return float(det_from_counts(_total(det_counts, results, markers)))


def instance_counts(
    result: np.ndarray,
    reference: np.ndarray,
    valid: np.ndarray | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> np.ndarray:
    """Count the matched and unmatched objects of a frame.

    A result and a reference object match at a threshold t if IoU > t, strictly. For t >= 0.5 more than half of either
    lies in the other, so no object is in two matches and nothing has to be assigned.

    Pixels that are not annotated (reference below 0, or `valid` 0) are in no object. A result object without match is
    left out, instead of being called false, unless more than half of it is annotated.

    Args:
        result: label image as in `overlaps`.
        reference: label image of the same shape; negative: not annotated.
        valid: mask or weight map of the same shape, 0: not annotated.
        thresholds: T values in 0.5 <= t < 1.

    Returns:
        float64 (T, 4): matches (true positives), false positives, false negatives, sum of the IoU of the matches.

    Raises:
        ValueError: a threshold out of range, or as `overlaps`.

    Example:
        >>> instance_counts(np.array([[1, 1, 1, 0, 2]]), np.array([[1, 1, 1, 1, 0]]), thresholds=[0.5, 0.75])
        array([[1.  , 1.  , 0.  , 0.75],
               [0.  , 2.  , 1.  , 0.  ]])
    """
    annotated = annotated_pixels(reference, valid)
    return instance_counts_of(overlaps(result, reference, None if annotated.all() else annotated), thresholds)


def instance_counts_of(table: Overlaps, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """`instance_counts` from the table of a frame, in which the annotated pixels count."""
    limits = np.asarray(thresholds, dtype=float)
    if limits.ndim != 1 or not ((limits >= 0.5) & (limits < 1)).all():
        raise ValueError(f"thresholds must be a list of values from 0.5 to below 1, got {thresholds}")
    iou = table.iou
    matched = iou > limits[:, None]  # (T, P)
    found = np.zeros((len(limits), len(table.result_ids)), dtype=bool)
    at, pair = np.nonzero(matched)
    found[at, table.result[pair]] = True
    matches = matched.sum(axis=1)
    false = (~found & (2 * table.result_areas > table.result_whole_areas)).sum(axis=1)
    return np.stack([matches, false, len(table.reference_ids) - matches, matched @ iou], axis=1)


def instance_scores_from_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The scores of `instance_scores` from `instance_counts` (..., 4), by name."""
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
    """Precision, recall, F1 and mean IoU of the matches, over all objects of all frames, at every threshold.

    Args:
        results: label images.
        references: label images; negative: not annotated.
        valid: their masks or weight maps, 0: not annotated.
        thresholds: T values in 0.5 <= t < 1; an IoU must be greater.

    Returns:
        Columns of length T: `threshold`, `precision` TP / (TP + FP), `recall` TP / (TP + FN), `f1`
        2 TP / (2 TP + FP + FN), `mean_matched_iou`, and the numbers `matches`, `false`, `missed`. NaN for 0 / 0.
    """

    def count(result: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        return instance_counts(result, reference, mask, thresholds)

    counts = _total(count, results, references, *([] if valid is None else [valid]))  # (T, 4)
    numbers = {name: counts[:, k].astype(int) for k, name in enumerate(("matches", "false", "missed"))}
    return {"threshold": np.array(thresholds), **instance_scores_from_counts(counts), **numbers}


def _total(count: Callable[..., np.ndarray], *frames: Frames) -> np.ndarray:
    """Counts of all frames together."""
    counts = [count(*frame) for frame in zip(*frames, strict=True)]
    if not counts:
        raise ValueError("no frames given; a score needs one at least")
    return np.sum(counts, axis=0)
