"""How well two numberings of regions agree: V_Rand and V_Info of the ISBI 2012 EM challenge, from one sparse table.

Only pixels in a region of the truth count ("foreground restricted"). With p_ij the share of these n pixels that are in
region i of the truth and region j of the proposal, a_i = sum_j p_ij and b_j = sum_i p_ij, a pixel on the proposal's
membrane (j = 0) is taken for a region of its own; p_0 is the share of such pixels:

    A = sum_i a_i^2     B = sum_j>0 b_j^2 + p_0 / n     AB = sum_i,j>0 p_ij^2 + p_0 / n
    V_Rand: precision AB / B, recall AB / A
    V_Info: precision I / H_A, recall I / H_B, where I = H_A + H_B - H_AB is shared; H_B and H_AB gain p_0 log n

scikit-image's `adapted_rand_error` and `variation_of_information` differ: the membrane is one region for them, and the
former drops the pairs of a pixel with itself (tests show both).

References: I. Arganda-Carreras et al., Front. Neuroanat. 9:142, 2015, doi 10.3389/fnana.2015.00142, and the challenge's
program, Fiji's Trainable Segmentation (`RandError`, `VariationOfInformation`), whose edge cases are kept.

Which objects of two label images overlap by how many pixels: one sparse contingency table per frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import NamedTuple

import numpy as np
from scipy import sparse
from skimage.segmentation import relabel_sequential


class Agreement(NamedTuple):
    """Precision falls with mergers, recall with splits, `f` is their harmonic mean."""

    precision: float
    recall: float
    f: float


def overlap_table(truth: np.ndarray, found: np.ndarray) -> sparse.csr_array:
    """Count the pixels of every pair of regions that overlap, where the truth is not 0.

    Args:
        truth: integer, of any shape: regions 1 .. A, 0 is left out.
        found: integer, of the same shape: regions 1 .. B, 0 is membrane.

    Returns:
        float64 (A + 1, B + 1) sparse, row 0 empty: counts, of overlapping pairs alone.

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
    is_first = np.ones(rows.size, bool)  # of a run of one pair: there are far fewer runs than pixels
    np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
    is_first[1:] |= columns[1:] != columns[:-1]
    starts = np.flatnonzero(is_first)
    pixels = np.diff(starts, append=rows.size).astype(float)
    inside = rows[starts] != 0
    starts = starts[inside]
    shape = (int(rows.max(initial=0)) + 1, int(columns.max(initial=0)) + 1)
    table = sparse.coo_array((pixels[inside], (rows[starts], columns[starts])), shape=shape)
    return table.tocsr()  # adds up equal places


def v_rand(table: sparse.csr_array) -> Agreement:
    """The Rand scores of an `overlap_table`; NaN where it is empty.

    Example:
        >>> v_rand(overlap_table(np.array([1, 1, 0, 2, 2]), np.array([1, 1, 1, 1, 1])))  # a merger
        Agreement(precision=0.5, recall=1.0, f=0.6666666666666666)
    """
    return agreement(*rand_pairs(table))


def v_info(table: sparse.csr_array) -> Agreement:
    """The information theoretic scores of an `overlap_table`; NaN where it is empty.

    A proposal of one single region has no entropy; the challenge's program then sets precision 1, recall 0, and for a
    truth of one single region precision 0, recall 1: `f` is 0 in both cases, even where they agree.

    Example:
        >>> halves = v_info(overlap_table(np.array([1, 2, 3, 4]), np.array([1, 1, 2, 2])))  # one bit of two is found
        >>> [round(score, 6) for score in halves]
        [0.5, 1.0, 0.666667]
    """
    n = float(table.data.sum())
    if n == 0:
        return Agreement(np.nan, np.nan, np.nan)
    of_truth, of_found, of_both, zeros = _pixels(table)
    singletons = zeros / n * log(n)
    h_truth = _entropy(of_truth / n)
    h_found = _entropy(of_found / n) + singletons
    shared = h_truth + h_found - _entropy(of_both / n) - singletons
    if h_found == 0 or h_truth == 0:
        return Agreement(1.0, 0.0, 0.0) if h_found == 0 else Agreement(0.0, 1.0, 0.0)
    precision, recall = max(shared, 0.0) / h_truth, max(shared, 0.0) / h_found
    return Agreement(precision, recall, _harmonic_mean(precision, recall))


def rand_pairs(table: sparse.csr_array) -> tuple[float, float, float]:
    """Ordered pairs of pixels, a pixel with itself included, of an `overlap_table`.

    Returns:
        Pairs in one region of both, of the proposal alone, of the truth alone: n^2 (AB, B - AB, A - AB).

    Example:
        >>> rand_pairs(overlap_table(np.array([1, 1, 0, 2, 2]), np.array([1, 1, 1, 1, 1])))
        (8.0, 8.0, 0.0)
    """
    of_truth, of_found, of_both, zeros = _pixels(table)
    both = float((of_both**2).sum() + zeros)
    in_found = float((of_found**2).sum() + zeros)
    in_truth = float((of_truth**2).sum())
    return both, in_found - both, in_truth - both


def agreement(both: float, found_only: float, truth_only: float) -> Agreement:
    """Precision, recall and F-score of counts; nothing wrong is 1, as in the challenge's program; NaN of no count."""
    if both + found_only + truth_only == 0:
        return Agreement(np.nan, np.nan, np.nan)
    precision = both / (both + found_only) if found_only else 1.0
    recall = both / (both + truth_only) if truth_only else 1.0
    return Agreement(precision, recall, _harmonic_mean(precision, recall))


def _pixels(table: sparse.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Pixels of every region of the truth, of the proposal, of every pair of these, and of the proposal's membrane."""
    by_column = table.tocsc()
    of_truth = np.bincount(by_column.indices, by_column.data, table.shape[0])
    of_found = np.bincount(table.indices, table.data, table.shape[1])
    return of_truth, of_found[1:], by_column.data[by_column.indptr[1] :], float(of_found[0])  # the membrane is column 0


def _entropy(shares: np.ndarray) -> float:
    """- sum p log p over the shares above 0, in nats."""
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _harmonic_mean(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


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
    """Renumber the objects 1, 2, ... in the order of their numbers; numbers below 1 become 0.

    Returns:
        Old numbers, int64 (N,), and the new label image, int32 like `labels`.
    """
    if labels.size == 0:
        return np.zeros(0, np.int64), np.zeros(labels.shape, np.int32)
    renumbered, _, old = relabel_sequential(np.maximum(labels, 0))
    return np.asarray(old, dtype=np.int64)[1:], renumbered.astype(np.int32, copy=False)


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
