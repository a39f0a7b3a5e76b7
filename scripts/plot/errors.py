"""Find what is wrong in a segmentation, pixel by pixel or object by object, for pictures of the errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..data.annotation import annotated_pixels
from ..metrics.overlap import overlaps

MATCHED = 0.5  # IoU above which two objects are the same
CORRECT, MISSED, FALSE, CONFUSED, UNKNOWN, FOUND, OUTLINE = range(7)


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
        kinds: uint8 (H, W). `CORRECT` 0 (background), `MISSED` 1 (objects of the label without a match), `FALSE` 2
            (predicted objects without a match), `CONFUSED` 3 (both, as where objects are merged or split), `UNKNOWN` 4
            (not annotated), `FOUND` 5 (matched objects), `OUTLINE` 6 (in one of two matched objects only).
        missed, false, objects: numbers of missed objects, of false objects, and of objects in the label.
    """

    kinds: np.ndarray
    missed: int
    false: int
    objects: int


def object_errors(result: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None) -> ObjectErrors:
    """Find missed and false objects. Objects match if their IoU is above 0.5, as in the scores.

    Args:
        result: instance map, integer (H, W), 0 = background.
        reference: instance map, integer (H, W). Negative: not annotated.
        valid: (H, W), for example the weight map. 0: not annotated.

    Example:
        >>> found = object_errors(np.array([[1, 1, 0, 0, 2]]), np.array([[7, 7, 0, 8, 0]]))
        >>> found.kinds, found.missed, found.false, found.objects
        (array([[5, 5, 0, 1, 2]], dtype=uint8), 1, 1, 2)
    """
    annotated = annotated_pixels(reference, valid)
    table = overlaps(result, reference, None if annotated.all() else annotated)
    matches = table.iou > MATCHED
    found = np.isin(reference, table.reference_ids[table.reference[matches]])
    hits = np.zeros(len(table.result_ids), bool)
    hits[table.result[matches]] = True
    counted = 2 * table.result_areas > table.result_whole_areas  # the others are mostly outside of the annotated part
    hit = np.isin(result, table.result_ids[hits])
    missed, false = (reference > 0) & ~found, np.isin(result, table.result_ids[~hits & counted])
    kinds = [UNKNOWN, CONFUSED, MISSED, FALSE, FOUND, OUTLINE]  # in this order, the first that is true
    true = [~annotated, missed & false, missed, false, found & hit, found | hit]
    numbers = len(table.reference_ids) - int(matches.sum()), int((~hits & counted).sum()), len(table.reference_ids)
    return ObjectErrors(np.select(true, kinds, CORRECT).astype(np.uint8), *numbers)
