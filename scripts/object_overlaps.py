"""Which objects of two label images overlap by how many pixels: one sparse contingency table per frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.region_scores import overlap_table


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
    result_ids, found = _places(found)
    whole_areas = result_areas = np.bincount(found.ravel())[1:]
    if annotated is not None:
        found, truth = np.where(annotated, found, 0), np.where(annotated, truth, 0)
        result_areas = np.bincount(found.ravel(), minlength=1 + len(result_ids))[1:]
    reference_ids, truth = _places(truth)
    pairs = overlap_table(truth, found)[1:, 1:].tocoo()
    return Overlaps(
        reference_ids,
        np.bincount(truth.ravel())[1:],
        result_ids,
        result_areas,
        whole_areas,
        reference=pairs.row.astype(np.int64),
        result=pairs.col.astype(np.int64),
        pixels=pairs.data.astype(np.int64),
    )


def _places(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers above 0 that occur, in order, and the place of each pixel's number among them, from 1; 0: none.

    Looked up in a list of all numbers, which is much faster than sorting, unless the list would outgrow the image.

    Returns:
        int64 (N,), int32 like `numbers`.
    """
    numbers = np.maximum(numbers, 0)
    last = int(numbers.max(initial=0))
    if last > numbers.size:
        ids, places = np.unique(numbers, return_inverse=True)
        has_none = int(ids[0] == 0)
        return ids[has_none:].astype(np.int64), (places.reshape(numbers.shape) + 1 - has_none).astype(np.int32)
    is_there = np.zeros(last + 1, bool)
    is_there[numbers] = True
    is_there[0] = False
    return np.flatnonzero(is_there), np.where(is_there, np.cumsum(is_there), 0).astype(np.int32)[numbers]


def _object_numbers(labels: np.ndarray, name: str) -> np.ndarray:
    """A label image as integers, checked."""
    if labels.ndim < 2:
        raise ValueError(
            f"{name} must be a label image (H, W), got the shape {labels.shape}; is it in a list of frames?"
        )
    numbers = labels if labels.dtype.kind in "iu" else labels.astype(np.int64)
    if labels.dtype.kind not in "biu" and not np.array_equal(numbers, labels):
        raise ValueError(f"{name} must hold whole numbers, got values such as {labels[numbers != labels][0]}")
    if numbers.max(initial=0) >= 2**31:
        raise ValueError(f"{name} must hold object numbers below 2^31, got {numbers.max()}; relabel the objects")
    return numbers
