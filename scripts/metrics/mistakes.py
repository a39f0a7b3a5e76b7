"""Judge objects: missed, false, merged and split. Scores, tables, panels and reports share these definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..data.annotation import annotated_pixels
from .objects import unmatched
from .overlap import Overlaps, overlaps

MATCHED = 0.5  # IoU above which two objects are the same
DEFINITIONS = {
    "missed": "an object of the truth that matches no object of the prediction. Objects match if their IoU "
    "(intersection over union) is above .5",
    "false": "an object of the prediction that matches no object of the truth",
    "merged": "an object of the truth that shares an object of the prediction with others: more than half of each lies "
    "inside",
    "split": "an object of the truth that holds two or more objects of the prediction, each by more than half",
}


class Judged(NamedTuple):
    """Objects with mistakes, in the order of `Overlaps`: R objects of the truth, S of the prediction.

    Args:
        missed, merged, split: of the truth, bool (R,). Merged and split objects are often missed, too.
        false: of the prediction, bool (S,).
        merging: objects of the prediction with merged objects, bool (S,).
        parts: objects of the prediction by more than half inside a split object, bool (S,).
    """

    missed: np.ndarray
    merged: np.ndarray
    split: np.ndarray
    false: np.ndarray
    merging: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True)
class Mistakes:
    """Numbers of objects.

    Args:
        truth, found: objects of the truth and of the prediction.
        missed, merged, split: of the truth.
        false: of the prediction.

    Example:
        >>> Mistakes(truth=3, found=2, missed=1) + Mistakes(truth=1, found=1)
        Mistakes(truth=4, found=3, missed=1, false=0, merged=0, split=0)
    """

    truth: int = 0
    found: int = 0
    missed: int = 0
    false: int = 0
    merged: int = 0
    split: int = 0

    def __add__(self, other: Mistakes) -> Mistakes:
        return Mistakes(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def judge_objects(table: Overlaps) -> Judged:
    """Find the objects with mistakes, by `DEFINITIONS`.

    Args:
        table: `overlaps` of a frame in which the annotated pixels count.

    Example:
        >>> from scripts.metrics import overlaps
        >>> judged = judge_objects(overlaps(np.array([[1, 1, 1, 0]]), np.array([[4, 0, 5, 6]])))
        >>> judged.missed, judged.merged
        (array([ True,  True,  True]), array([ True,  True, False]))
    """
    missed, false = unmatched(table, MATCHED)
    held = np.bincount(table.result[table.covered], minlength=len(table.result_ids))
    merged = np.zeros(len(table.reference_ids), bool)
    merged[table.reference[table.covered & (held[table.result] > 1)]] = True
    inside = 2 * table.pixels > table.result_areas[table.result]  # at most one for each object of the prediction
    split = np.bincount(table.reference[inside], minlength=len(table.reference_ids)) > 1
    parts = np.zeros(len(table.result_ids), bool)
    parts[table.result[inside & split[table.reference]]] = True
    return Judged(missed, merged, split, false, held > 1, parts)


def mistakes_of(table: Overlaps) -> Mistakes:
    """Count the objects with mistakes in the table of a frame.

    Example:
        >>> from scripts.metrics import overlaps
        >>> mistakes_of(overlaps(np.array([[1, 1, 0]]), np.array([[4, 4, 6]])))
        Mistakes(truth=2, found=1, missed=1, false=0, merged=0, split=0)
    """
    judged = judge_objects(table)
    counts = (int(getattr(judged, name).sum()) for name in DEFINITIONS)
    return Mistakes(len(table.reference_ids), len(table.result_ids), *counts)


def count_mistakes(result: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None) -> Mistakes:
    """Count the objects with mistakes in an image.

    Args:
        result: objects of the prediction, integer (H, W). 0 is background.
        reference: objects of the truth, integer (H, W). 0 is background, negative is not annotated.
        valid: mask or weight map (H, W), 0 = not annotated.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> count_mistakes(np.array([[1, 1, 1, 0]]), np.array([[4, 0, 5, 6]])).merged
        2
    """
    annotated = annotated_pixels(reference, valid)
    return mistakes_of(overlaps(result, reference, None if annotated.all() else annotated))
