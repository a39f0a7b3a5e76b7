"""Fit the settings that turn scores into objects to annotated images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..transforms.objects import instances_from_scores
from .membranes import THRESHOLDS, thinned_curves
from .objects import THRESHOLDS as IOUS
from .objects import instance_counts_of, instance_scores_from_counts, seg_from_counts, seg_jaccards_of
from .overlap import overlaps
from .pixels import nan_mean

FITTED = ("threshold", "fill_holes", "close_gaps", "min_area", "split_necks")  # in the order of the search
MEMBRANES = ("v_rand", "v_info")
OBJECTS, PIXELS = 2000, 2**24  # to fit to, in a minute or two on a core. Fits to fewer nuclei lost .01 of F1
ROUNDS = 2
SEARCHED, STATED = slice(0, 2), 2  # parts of a score
DIGITS = 3  # of the measure. Settings that differ less are compared by the overlap of the objects

Score = tuple[float, float, float]  # what is searched for; SEG; the stated measure


@dataclass(frozen=True)
class ObjectFit:
    """Settings of objects, and the measure before and after the fit.

    Args:
        settings: the fitted names of `FITTED`, and their values.
        measure: `instance_f1`, `seg`, `v_rand` or `v_info`.
        before, after: value of the measure with the settings at the start, and with the fitted settings.
        images: number of images.
        searched: what was maximised, before and after: for `instance_f1` its mean over the IoU .5 to .9, for `seg` the
            mean of SEG and F1.

    Example:
        >>> ObjectFit({"threshold": 0.6}, "seg", 0.7, 0.8, images=4).after
        0.8
    """

    settings: dict[str, Any]
    measure: str
    before: float
    after: float
    images: int
    searched: tuple[float, float] | None = None


def enough_images(references: Sequence[np.ndarray]) -> list[int]:
    """Choose images with enough objects to fit to, evenly among all.

    Args:
        references: label images (H, W), 0 and less = no object.

    Returns:
        numbers of the images, ascending: all, unless they have more than 2000 objects or 16 megapixels. Images without
        objects are then left out.

    Example:
        >>> enough_images([np.arange(1001).reshape(7, 143)] * 4)
        [0, 3]
    """
    objects = np.array([len(np.unique(reference[reference > 0])) for reference in references], dtype=int)
    share = min(1.0, OBJECTS / max(1, objects.sum()), PIXELS / max(1, sum(reference.size for reference in references)))
    if share == 1:
        return list(range(len(references)))
    known = np.flatnonzero(objects)
    wanted = max(1, round(len(known) * share))
    return (
        sorted({int(k) for k in known[np.linspace(0, len(known) - 1, wanted).round().astype(int)]})
        if len(known)
        else []
    )


def enough_of_an_image(reference: np.ndarray) -> tuple[slice, slice]:
    """Choose the middle of an image with more objects or pixels than are needed, else the whole image.

    Example:
        >>> enough_of_an_image(np.arange(8000).reshape(80, 100) + 1)
        (slice(20, 60, None), slice(25, 75, None))
    """
    objects = len(np.unique(reference[reference > 0]))
    share = min(1.0, OBJECTS / max(1, objects), PIXELS / max(1, reference.size)) ** 0.5
    cuts = [round(length * (1 - share) / 2) for length in reference.shape]
    return slice(cuts[0], reference.shape[0] - cuts[0]), slice(cuts[1], reference.shape[1] - cuts[1])


def fit_objects(
    probabilities: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    start: Mapping[str, Any],
    measure: str = "instance_f1",
    fixed: Collection[str] = (),
    least_gap: int = 0,
) -> ObjectFit:
    """Find the settings with the best objects: one setting after another, from a few values each, in two rounds.

    For `instance_f1`, F1 is averaged over the IoU .5, .6, ... .9: F1 at .5 alone chooses objects that are too small.
    For `seg`, the mean of SEG and F1 at .5: SEG does not count false objects, and thousands of specks could stay. The
    Cell Tracking Challenge ranks by the mean of SEG and DET for the same reason. Among equal settings (to three
    digits), the larger SEG wins, then the start. For `v_rand` and `v_info`, the threshold alone is fitted, as in the
    challenge.

    Args:
        probabilities: of images (H, W), floating, 0 .. 1.
        references: label images (H, W), 0 = background, negative = not annotated. For `v_rand` and `v_info`: cells.
        start: `threshold`, `min_area`, `fill_holes`, `split_necks`, `close_gaps`, `field_border`, as in
            `scripts.transforms.InstancesFromScoresd`.
        measure: `instance_f1`, `seg`, `v_rand` or `v_info`.
        fixed: names that keep the values of `start`.
        least_gap: smallest `close_gaps` to try, the gap of the training.

    Returns:
        the settings that are not fixed, and the measure. NaN without objects, with the settings of `start`.

    Example:
        >>> scores, cells = np.array([[0.9, 0.6, 0.9, 0.1]]), np.array([[1, 0, 2, 0]])
        >>> start = dict(threshold=0.5, min_area=0, fill_holes=0, split_necks=0, close_gaps=0, field_border=0)
        >>> fit_objects([scores], [cells], start).settings["threshold"]
        0.6
    """
    tried = [name for name in FITTED if name not in fixed]
    if measure in MEMBRANES:
        return _fit_membranes(probabilities, references, start, measure, tried)
    examples = list(zip(probabilities, references, strict=True))
    known: dict[tuple[Any, ...], Score] = {}

    def score(settings: Mapping[str, Any]) -> Score:
        key = tuple(settings.values())
        if key not in known:
            known[key] = _score(examples, settings, measure)
        return known[key]

    best = dict(start)
    first = score(best)
    before = first[STATED]
    values = _values(references, least_gap)
    for name in tried * ROUNDS if np.isfinite(before) else ():
        best = _climb(best, name, values[name], score)
    last = score(best)
    return ObjectFit(
        {name: best[name] for name in tried}, measure, before, last[STATED], len(examples), (first[0], last[0])
    )


def _climb(
    settings: dict[str, Any], name: str, values: Sequence[float], score: Callable[[Mapping[str, Any]], Score]
) -> dict[str, Any]:
    """Try larger, then smaller values, until the score falls twice. All thresholds are tried."""
    best, start = settings, settings[name]
    larger, smaller = [v for v in values if v > start], [v for v in reversed(values) if v < start]
    for direction in (larger, smaller):
        falls = 0
        for value in direction:
            way = {**settings, name: value}
            falls += score(way)[SEARCHED] < score(best)[SEARCHED] and name != "threshold"
            best = way if score(way)[SEARCHED] > score(best)[SEARCHED] else best
            if falls == 2:
                break
    return best


def _values(references: Sequence[np.ndarray], least_gap: int) -> dict[str, list[Any]]:
    """List the values to try of each setting, ascending. Areas and holes follow the smallest annotated objects."""
    areas = [area for r in references for area in np.unique(r[r > 0], return_counts=True)[1]]
    smallest = float(np.percentile(areas, 1)) if areas else 0.0
    return {
        "threshold": [0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8],
        "fill_holes": sorted({round(part * smallest) for part in (0, 0.5, 1, 2)}),
        "close_gaps": [least_gap + more for more in (0, 2, 4)],
        "min_area": sorted({round(part * smallest) for part in (0, 0.25, 0.5, 1)}),
        "split_necks": [0, 1, 2, 3, 5],
    }


def _score(examples: Sequence[tuple[np.ndarray, np.ndarray]], settings: Mapping[str, Any], measure: str) -> Score:
    """Measure the objects of all images. Searched for is the mean of SEG and F1, or F1 averaged over IoU .5 to .9."""
    matches, overlap = np.zeros((len(IOUS), 4)), np.zeros(2)
    for probability, reference in examples:
        found = instances_from_scores(
            probability,
            settings["threshold"],
            settings["min_area"],
            fill_holes=settings["fill_holes"],
            split=settings["split_necks"],
            gap=settings["close_gaps"],
            field_border=settings["field_border"],
        )
        table = overlaps(found, reference)
        jaccards = seg_jaccards_of(table)
        overlap += jaccards.sum(), len(jaccards)
        if (reference < 0).any():
            table = overlaps(found, reference, reference >= 0)
        matches += instance_counts_of(table, IOUS)
    seg = float(seg_from_counts(overlap))
    f1 = instance_scores_from_counts(matches)["f1"]
    if measure == "seg":
        return round((seg + float(f1[0])) / 2, DIGITS), seg, seg
    return round(float(f1.mean()), DIGITS), seg, float(f1[0])


def _fit_membranes(
    probabilities: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    start: Mapping[str, Any],
    measure: str,
    tried: Sequence[str],
) -> ObjectFit:
    """Find the threshold of the best V_Rand or V_Info."""
    row = MEMBRANES.index(measure)
    curves = [thinned_curves(p, r > 0, r >= 0)[row].f for p, r in zip(probabilities, references, strict=True)]
    mean = nan_mean(np.array(curves), axis=0)[1:-1]  # without 0 and 1
    before = float(np.interp(start["threshold"], THRESHOLDS[1:-1], mean))
    if "threshold" not in tried or not np.isfinite(mean).any():
        return ObjectFit({}, measure, before, before, len(curves))
    best = int(np.nanargmax(mean))
    return ObjectFit(
        {"threshold": round(float(THRESHOLDS[1 + best]), 1)}, measure, before, float(mean[best]), len(curves)
    )
