"""Count the mistakes of a segmentation by objects: missed, false, merged and split objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics.overlap import Overlaps, overlaps
from ..plot.overlays import BLUE, GREY, PURPLE, RED, YELLOW

CORRECT, MISSING, EXTRA, MERGED, UNKNOWN, SPLIT = range(6)  # values of `error_picture`
COLOURS = {MISSING: RED, EXTRA: BLUE, MERGED: PURPLE, UNKNOWN: GREY, SPLIT: YELLOW}
MEANINGS = {
    MISSING: "in the truth alone",
    EXTRA: "in the prediction alone",
    MERGED: "merged objects",
    UNKNOWN: "not annotated",
    SPLIT: "split object",
}
DEFINITIONS = (
    "merged: an object of the prediction that covers more than half of two or more objects of the truth. "
    "split: an object of the truth with two or more objects of the prediction mostly inside. "
    "missed: an object of the truth that no object of the prediction covers by more than half. "
    "false: an object of the prediction that is not mostly inside any object of the truth and covers none"
)


@dataclass(frozen=True)
class Mistakes:
    """Numbers of objects.

    Args:
        truth, found: objects of the truth and of the prediction.
        missed, split: of the truth.
        false, merged: of the prediction.
        in_merged: objects of the truth inside merged objects.

    Example:
        >>> Mistakes(truth=3, found=2, missed=1) + Mistakes(truth=1, found=1)
        Mistakes(truth=4, found=3, missed=1, split=0, false=0, merged=0, in_merged=0)
    """

    truth: int = 0
    found: int = 0
    missed: int = 0
    split: int = 0
    false: int = 0
    merged: int = 0
    in_merged: int = 0

    def __add__(self, other: Mistakes) -> Mistakes:
        return Mistakes(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def count_mistakes(result: np.ndarray, reference: np.ndarray) -> tuple[Mistakes, np.ndarray]:
    """Count the mistakes of an image, by `DEFINITIONS`, and show their places.

    Args:
        result: objects of the prediction, integer (H, W). 0 is background.
        reference: objects of the truth, integer (H, W). 0 is background, negative is not annotated.

    Returns:
        the counts, and a map uint8 (H, W): `CORRECT` 0, `MISSING` 1, `EXTRA` 2, `MERGED` 3, `UNKNOWN` 4, `SPLIT` 5.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> mistakes, places = count_mistakes(np.array([[1, 1, 1, 0]]), np.array([[4, 0, 5, 6]]))
        >>> mistakes.merged, mistakes.missed, places
        (1, 1, array([[3, 2, 3, 1]], dtype=uint8))
    """
    annotated = reference >= 0
    table = overlaps(result, reference, annotated)
    merged, split, missed, false = _lists(table)
    places = np.zeros(result.shape, np.uint8)
    truth, found = reference > 0, result > 0
    both = truth & found
    places[both & np.isin(reference, table.reference_ids[split])] = SPLIT
    places[both & np.isin(result, table.result_ids[merged])] = MERGED
    places[truth & ~found] = MISSING
    places[found & ~truth] = EXTRA
    places[~annotated] = UNKNOWN
    inside = table.covered & np.isin(table.result, merged)
    mistakes = Mistakes(
        truth=int((table.reference_areas > 0).sum()),
        found=int((table.result_areas > 0).sum()),
        missed=len(missed),
        split=len(split),
        false=len(false),
        merged=len(merged),
        in_merged=int(inside.sum()),
    )
    return mistakes, places


def _lists(table: Overlaps) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """List the indices of merged results, split references, missed references and false results."""
    covered = np.bincount(table.result[table.covered], minlength=len(table.result_ids))
    mostly_inside = 2 * table.pixels > table.result_areas[table.result]
    parts = np.bincount(table.reference[mostly_inside], minlength=len(table.reference_ids))
    met = np.isin(np.arange(len(table.reference_ids)), table.reference[table.covered])
    placed = np.isin(np.arange(len(table.result_ids)), table.result[mostly_inside | table.covered])
    counts = table.result_areas > 0  # wholly outside of the annotated pixels: not judged
    return (
        np.flatnonzero(covered > 1),
        np.flatnonzero(parts > 1),
        np.flatnonzero(~met),
        np.flatnonzero(~placed & counts),
    )
