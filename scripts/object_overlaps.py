"""Which objects of two label images overlap by how many pixels: one sparse contingency table per frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlaps:
    """Which objects overlap by how many pixels: R reference objects, S result objects, P pairs that overlap at all.

    Objects are in the order of their ids. All arrays are int64.
    """

    reference_ids: np.ndarray  # (R,)
    reference_areas: np.ndarray  # (R,) pixels, of the annotated ones
    result_ids: np.ndarray  # (S,)
    result_areas: np.ndarray  # (S,) pixels, of the annotated ones
    result_whole_areas: np.ndarray  # (S,) pixels, annotated or not
    reference: np.ndarray  # (P,) index into the reference objects
    result: np.ndarray  # (P,) index into the result objects
    pixels: np.ndarray  # (P,) |R n S|

    @property
    def iou(self) -> np.ndarray:
        """|R n S| / |R u S| of the pairs, float64 (P,)."""
        return self.pixels / (self.reference_areas[self.reference] + self.result_areas[self.result] - self.pixels)

    @property
    def covered(self) -> np.ndarray:
        """Pairs with |R n S| > |R| / 2, bool (P,): the challenge's match. A reference object is in one such at most."""
        return 2 * self.pixels > self.reference_areas[self.reference]


def overlaps(result: np.ndarray, reference: np.ndarray, annotated: np.ndarray | None = None) -> Overlaps:
    """Count the pixels that each object of one image shares with each of the other.

    Args:
        result: label image, whole numbers in any number type, at least two axes; 0 is background, others are objects.
        reference: label image of the same shape; 0 or less is no object.
        annotated: bool of the same shape; pixels outside are in no object. None: all pixels count.

    Raises:
        ValueError: shapes differ, there is only one axis, or the values are no object numbers.

    Example:
        >>> table = overlaps(np.array([[7, 7, 0, 9]]), np.array([[1, 1, 1, 0]]))
        >>> table.reference_areas, table.result_areas, table.pixels
        (array([3]), array([2, 1]), array([2]))
    """
    for name, array in (("reference", reference), ("annotated", annotated)):
        if array is not None and array.shape != result.shape:
            raise ValueError(f"{name} has the shape {array.shape}, the result {result.shape}; they must be equal")
    found, truth = _object_numbers(result, "result"), _object_numbers(reference, "reference")
    if found.min(initial=0) < 0:
        raise ValueError(f"result must hold object numbers from 0, got {found.min()}")
    result_ids, whole_areas = _count(found)
    result_areas = whole_areas
    if annotated is not None:
        found, truth = found[annotated], truth[annotated]
        seen, areas = _count(found)
        result_areas = np.zeros_like(whole_areas)
        result_areas[np.searchsorted(result_ids, seen)] = areas
    reference_ids, reference_areas = _count(truth)
    both = (found > 0) & (truth > 0)
    pairs, pixels = _count((truth[both] << 32) | found[both])  # a pair of numbers as one
    return Overlaps(
        reference_ids,
        reference_areas,
        result_ids,
        result_areas,
        whole_areas,
        reference=np.searchsorted(reference_ids, pairs >> 32),
        result=np.searchsorted(result_ids, pairs & (2**32 - 1)),
        pixels=pixels,
    )


def _count(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers above 0 that occur, in order, and how often."""
    return np.unique(numbers[numbers > 0], return_counts=True)


def _object_numbers(labels: np.ndarray, name: str) -> np.ndarray:
    """A label image as int64, checked."""
    if labels.ndim < 2:
        raise ValueError(
            f"{name} must be a label image (H, W), got the shape {labels.shape}; is it in a list of frames?"
        )
    numbers = labels.astype(np.int64)
    if labels.dtype.kind not in "biu" and not np.array_equal(numbers, labels):
        raise ValueError(f"{name} must hold whole numbers, got values such as {labels[numbers != labels][0]}")
    if numbers.max(initial=0) >= 2**31:
        raise ValueError(f"{name} must hold object numbers below 2^31, got {numbers.max()}; relabel the objects")
    return numbers
