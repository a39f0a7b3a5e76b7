"""Find what is wrong in a segmentation, pixel by pixel or object by object, for pictures of the errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..data.annotation import annotated_pixels
from ..metrics.mistakes import MATCHED, Mistakes, judge_objects, mistakes_of
from ..metrics.overlap import Overlaps, overlaps
from .overlays import BLUE, GREEN, GREY, PURPLE, RED, YELLOW

CORRECT, MISSED, FALSE, CONFUSED, UNKNOWN, FOUND, OUTLINE, MERGED, SPLIT = range(9)
PIXEL_COLOURS = {MISSED: RED, FALSE: BLUE, CONFUSED: PURPLE, UNKNOWN: GREY}  # of `error_map`
OBJECT_COLOURS = {  # of `object_errors`
    MISSED: RED,
    FALSE: BLUE,
    MERGED: PURPLE,
    SPLIT: YELLOW,
    CONFUSED: GREEN,
    OUTLINE: "#8A8A8A",
    UNKNOWN: GREY,
}
OBJECT_NAMES = {
    MISSED: "missed object",
    FALSE: "false object",
    MERGED: "merged objects",
    SPLIT: "split object",
    CONFUSED: "wrong shape",
    OUTLINE: "outline differs",
    UNKNOWN: "not annotated",
}
MATCH = "Objects match if their IoU is above .5; missed and false objects have no match."


def error_map(prediction: np.ndarray, label: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Classify every pixel as correct or as a kind of error.

    Args:
        prediction: class map, integer (H, W).
        label: class map, integer (H, W). Negative: not annotated.
        valid: (H, W), for example the weight map. 0: not annotated.

    Returns:
        uint8 (H, W). `CORRECT` 0, `MISSED` 1 (only the prediction is 0), `FALSE` 2 (only the label is 0), `CONFUSED` 3
        (two different classes except 0), `UNKNOWN` 4 (not annotated).

    Example:
        >>> error_map(np.array([[0, 0, 1, 2]]), np.array([[0, 1, 0, 1]]))
        array([[0, 1, 2, 3]], dtype=uint8)
    """
    kinds = [UNKNOWN, CORRECT, FALSE, MISSED]  # in this order, the first that is true
    true = [~annotated_pixels(label, valid), prediction == label, label == 0, prediction == 0]
    return np.select(true, kinds, CONFUSED).astype(np.uint8)


class ObjectErrors(NamedTuple):
    """Errors of an instance map: a kind for every pixel, and numbers of objects.

    Args:
        kinds: uint8 (H, W). `CORRECT` 0 (background), `MISSED` 1, `FALSE` 2, `CONFUSED` 3 (both), `UNKNOWN` 4 (not
            annotated), `FOUND` 5 (matched objects), `OUTLINE` 6 (in one of two matched objects only), `MERGED` 7,
            `SPLIT` 8.
        mistakes: numbers of objects.
    """

    kinds: np.ndarray
    mistakes: Mistakes


def object_errors(result: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None) -> ObjectErrors:
    """Find missed, false, merged and split objects, by `scripts.metrics.mistakes.DEFINITIONS`.

    Args:
        result: instance map, integer (H, W), 0 = background.
        reference: instance map, integer (H, W). Negative: not annotated.
        valid: (H, W), for example the weight map. 0: not annotated.

    Example:
        >>> found = object_errors(np.array([[1, 1, 0, 0, 2]]), np.array([[7, 7, 0, 8, 0]]))
        >>> found.kinds, found.mistakes.missed, found.mistakes.false
        (array([[5, 5, 0, 1, 2]], dtype=uint8), 1, 1)
    """
    annotated = annotated_pixels(reference, valid)
    table = overlaps(result, reference, None if annotated.all() else annotated)
    judged = judge_objects(table)

    def of_truth(chosen: np.ndarray) -> np.ndarray:
        return np.isin(reference, table.reference_ids[chosen])

    def of_result(chosen: np.ndarray) -> np.ndarray:
        return np.isin(result, table.result_ids[chosen])

    missed, false = of_truth(judged.missed), of_result(judged.false)
    found, hit = (reference > 0) & ~missed, of_result(_matched(table))
    wrong = missed | false
    merged = wrong & of_truth(judged.merged) & of_result(judged.merging)
    split = wrong & of_truth(judged.split) & of_result(judged.parts)
    kinds = [UNKNOWN, MERGED, SPLIT, CONFUSED, MISSED, FALSE, FOUND, OUTLINE]  # in this order, the first that is true
    true = [~annotated, merged, split, missed & false, missed, false, found & hit, found | hit]
    return ObjectErrors(np.select(true, kinds, CORRECT).astype(np.uint8), mistakes_of(table))


def _matched(table: Overlaps) -> np.ndarray:
    matched = np.zeros(len(table.result_ids), bool)
    matched[table.result[table.iou > MATCHED]] = True
    return matched


def pixel_error_names(class_names: Sequence[str]) -> dict[int, str]:
    """Name the kinds of `error_map`. If class 0 is membranes, not background, the errors are those of membranes.

    Example:
        >>> pixel_error_names(["membrane", "cell"])[MISSED]
        'false membrane'
    """
    lines = class_names[0].lower().startswith(("membrane", "border"))
    subject = class_names[0] if lines else class_names[1] if len(class_names) == 2 else "foreground"
    missed, false = f"missed {subject}", f"false {subject}"
    named = {FALSE: missed, MISSED: false} if lines else {FALSE: false, MISSED: missed}
    return {**named, CONFUSED: "other class", UNKNOWN: "not annotated"}
