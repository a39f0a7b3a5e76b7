"""Overlaps of two label images: a table of regions with V_Rand and V_Info (EM challenge), and a table of objects.

V_Rand and V_Info compare the n pixels in regions of the truth. p_ij is the share of these pixels in region i of the
truth and region j of the proposal, a_i = sum_j p_ij, b_j = sum_i p_ij. Each pixel on the membrane of the proposal
(j = 0) counts as a region of one pixel. p_0 is the share of membrane pixels:

    A = sum_i a_i^2     B = sum_j>0 b_j^2 + p_0 / n     AB = sum_i,j>0 p_ij^2 + p_0 / n
    V_Rand: precision AB / B, recall AB / A
    V_Info: precision I / H_A, recall I / H_B, where I = H_A + H_B - H_AB; H_B and H_AB gain p_0 log n

scikit-image's `adapted_rand_error` and `variation_of_information` count the membrane as one region. The former also
drops the pairs of a pixel with itself. Tests show both.

References:
    I. Arganda-Carreras et al., Front. Neuroanat. 9:142, 2015, doi 10.3389/fnana.2015.00142. Special cases are those of
    the challenge's program, Fiji's Trainable Segmentation (`RandError`, `VariationOfInformation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import entr
from skimage.segmentation import relabel_sequential


class Agreement(NamedTuple):
    """Precision (falls with mergers), recall (falls with splits) and F-score, their harmonic mean."""

    precision: float
    recall: float
    f: float


def overlap_table(truth: np.ndarray, found: np.ndarray) -> sparse.csr_array:
    """Count the pixels of every pair of overlapping regions, where the truth is not 0.

    Args:
        truth: integer, of any shape: regions 1 .. A.
        found: integer, of the same shape: regions 1 .. B, 0 = membrane.

    Returns:
        float64 (A + 1, B + 1), sparse. Row 0 is empty.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> overlap_table(np.array([1, 1, 0, 2, 2]), np.array([1, 1, 1, 1, 0])).toarray()
        array([[0., 0.],
               [0., 2.],
               [1., 1.]])
    """
    if truth.shape != found.shape:
        raise ValueError(f"the truth has the shape {truth.shape}, the proposal {found.shape}; they must be equal")
    rows, columns = truth.ravel(), found.ravel()
    is_first = np.ones(rows.size, bool)  # of a run of equal pairs: adding up runs is faster than adding up pixels
    is_first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    starts = np.flatnonzero(is_first)
    pixels = np.diff(starts, append=rows.size).astype(float)
    inside = rows[starts] != 0
    starts = starts[inside]
    shape = (int(rows.max(initial=0)) + 1, int(columns.max(initial=0)) + 1)
    return sparse.coo_array((pixels[inside], (rows[starts], columns[starts])), shape=shape).tocsr()  # adds up pairs


def v_rand(table: sparse.csr_array) -> Agreement:
    """Compute the Rand scores of an `overlap_table`, NaN if the table is empty.

    Example:
        >>> v_rand(overlap_table(np.array([1, 1, 0, 2, 2]), np.array([1, 1, 1, 1, 1])))  # a merger
        Agreement(precision=0.5, recall=1.0, f=0.6666666666666666)
    """
    return agreement(*rand_pairs(table))


def v_info(table: sparse.csr_array) -> Agreement:
    """Compute the information theoretic scores of an `overlap_table`, NaN if the table is empty.

    A proposal of a single region has no entropy. As in the challenge's program, precision is then 1 and recall 0. For a
    truth of a single region precision is 0 and recall 1. `f` is 0 in both cases, even if both are the same region.

    Example:
        >>> halves = v_info(overlap_table(np.array([1, 2, 3, 4]), np.array([1, 1, 2, 2])))  # 1 bit of 2 is found
        >>> [round(score, 6) for score in halves]
        [0.5, 1.0, 0.666667]
    """
    n = float(table.data.sum())
    if n == 0:
        return Agreement(np.nan, np.nan, np.nan)
    of_truth, of_found, of_both, membrane = _pixels(table)
    singletons = membrane / n * log(n)
    h_truth = float(entr(of_truth / n).sum())
    h_found = float(entr(of_found / n).sum()) + singletons
    shared = max(h_truth + h_found - float(entr(of_both / n).sum()) - singletons, 0.0)
    if h_found == 0 or h_truth == 0:
        return Agreement(1.0, 0.0, 0.0) if h_found == 0 else Agreement(0.0, 1.0, 0.0)
    return _with_f(shared / h_truth, shared / h_found)


def rand_pairs(table: sparse.csr_array) -> tuple[float, float, float]:
    """Count the ordered pairs of pixels of an `overlap_table`, pairs of a pixel with itself included.

    Returns:
        Pairs in one region of both, of the proposal only, of the truth only: n^2 (AB, B - AB, A - AB).

    Example:
        >>> rand_pairs(overlap_table(np.array([1, 1, 0, 2, 2]), np.array([1, 1, 1, 1, 1])))
        (8.0, 8.0, 0.0)
    """
    of_truth, of_found, of_both, membrane = _pixels(table)
    both = float((of_both**2).sum() + membrane)
    in_found = float((of_found**2).sum() + membrane)
    in_truth = float((of_truth**2).sum())
    return both, in_found - both, in_truth - both


def agreement(both: float, found_only: float, truth_only: float) -> Agreement:
    """Compute precision, recall and F-score of true positives, false positives and false negatives.

    As in the challenge's program, precision is 1 if `found_only` is 0, and recall is 1 if `truth_only` is 0. All three
    scores are NaN if all counts are 0.

    Example:
        >>> agreement(both=3, found_only=1, truth_only=0)
        Agreement(precision=0.75, recall=1.0, f=0.8571428571428571)
    """
    if both + found_only + truth_only == 0:
        return Agreement(np.nan, np.nan, np.nan)
    precision = both / (both + found_only) if found_only else 1.0
    recall = both / (both + truth_only) if truth_only else 1.0
    return _with_f(precision, recall)


def _pixels(table: sparse.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Count the pixels of each true region, each found region, each overlapping pair, and of the found membrane."""
    by_column = table.tocsc()
    of_truth = np.bincount(by_column.indices, by_column.data, table.shape[0])
    of_found = np.bincount(table.indices, table.data, table.shape[1])
    return of_truth, of_found[1:], by_column.data[by_column.indptr[1] :], float(of_found[0])  # column 0 is membrane


def _with_f(precision: float, recall: float) -> Agreement:
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return Agreement(precision, recall, f)


@dataclass(frozen=True)
class Overlaps:
    """Pixels that the objects of two label images share: R reference objects, S result objects, P overlapping pairs.

    Objects are in the order of their numbers. All arrays are int64. Example: see `overlaps`.
    """

    reference_ids: np.ndarray  # (R,)
    reference_areas: np.ndarray  # (R,) annotated pixels
    result_ids: np.ndarray  # (S,)
    result_areas: np.ndarray  # (S,) annotated pixels
    result_whole_areas: np.ndarray  # (S,) all pixels
    reference: np.ndarray  # (P,) index of the reference object
    result: np.ndarray  # (P,) index of the result object
    pixels: np.ndarray  # (P,) |R n S|

    @property
    def iou(self) -> np.ndarray:
        """|R n S| / |R u S| of the pairs, float64 (P,)."""
        return self.pixels / (self.reference_areas[self.reference] + self.result_areas[self.result] - self.pixels)

    @property
    def covered(self) -> np.ndarray:
        """Pairs with |R n S| > |R| / 2, bool (P,), the challenge's match. At most one for each reference object."""
        return 2 * self.pixels > self.reference_areas[self.reference]


def overlaps(result: np.ndarray, reference: np.ndarray, annotated: np.ndarray | None = None) -> Overlaps:
    """Count the pixels that each object of one label image shares with each object of another.

    Args:
        result: label image of whole numbers in any number type, at least two axes, 0 = background.
        reference: label image of the same shape, 0 or less = no object.
        annotated: bool of the same shape. Other pixels belong to no object. None: all pixels count.

    Returns:
        Numbers and areas of all objects, and the pixels of all overlapping pairs.

    Raises:
        ValueError: the shapes differ, there is only one axis, or a value is no object number.

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
    result_ids, found = _renumbered(found)
    whole_areas = result_areas = np.bincount(found.ravel())[1:]
    if annotated is not None:
        found, truth = np.where(annotated, found, 0), np.where(annotated, truth, 0)
        result_areas = np.bincount(found.ravel(), minlength=1 + len(result_ids))[1:]
    reference_ids, truth = _renumbered(truth)
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


def _renumbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Renumber the objects 1, 2, ... in ascending order. Gives the old numbers, int64 (N,), and the image, int32."""
    if labels.size == 0:
        return np.zeros(0, np.int64), np.zeros(labels.shape, np.int32)
    renumbered, _, old = relabel_sequential(np.maximum(labels, 0))
    return np.asarray(old, dtype=np.int64)[1:], renumbered.astype(np.int32, copy=False)


def _object_numbers(labels: np.ndarray, name: str) -> np.ndarray:
    """Check a label image, and convert to integers."""
    if labels.ndim < 2:
        raise ValueError(
            f"{name} must be a label image (H, W), got the shape {labels.shape}. Is it in a list of frames?"
        )
    numbers = whole_numbers(labels, name)
    if numbers.max(initial=0) >= 2**31:
        raise ValueError(f"{name} must hold object numbers below 2^31, got {numbers.max()}. Relabel the objects")
    return numbers


def whole_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Convert classes or object numbers of any number type to integers.

    Raises:
        ValueError: a value is no whole number. The message has the array's `name`.

    Example:
        >>> whole_numbers(np.array([0.0, 2.0]), "label")
        array([0, 2])
    """
    numbers = values if values.dtype.kind in "iu" else values.astype(np.int64)
    if not np.array_equal(numbers, values):
        raise ValueError(f"{name} must hold whole numbers, got values such as {values[numbers != values][0]}")
    return numbers
