"""The warping error of the ISBI 2012 EM challenge: mergers and splits, without the cost of shifted borders.

The truth is warped towards the thresholded proposal: differing pixels are turned, one by one, if they are *simple*.
Turning a simple pixel neither joins nor splits cells (4-connected) or membrane (8-connected). A border that is shifted
by up to its own width warps away at no cost. A border that is shifted farther does not, because the pixels between its
two positions are equal in both and stay. Of the pixels that still differ after warping, those of mergers and splits are
counted. The error is their share of all pixels.

References:
    V. Jain et al., "Boundary learning by optimization with topological constraints", CVPR 2010, doi
    10.1109/CVPR.2010.5539950. S. Yokoi, J. Toriwaki, T. Fukumura, Comput. Graph. Image Process. 4, 63-73, 1975 (simple
    pixels). The order of pixels and the rules for splits and mergers are those of the challenge's program, Fiji's
    Trainable Segmentation (`WarpingError`, `getMinimumSplitsAndMergersErrorValue(0.0, 0.9, 0.1, false, 20)`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..compiled import compiled
from .membranes import THRESHOLDS, checked_probability
from .thinning import cell_regions

EDGES = ((0, 1), (-1, 0), (0, -1), (1, 0))  # the 4 neighbours of a pixel as (dy, dx)
RING = (*EDGES, (-1, 1), (-1, -1), (1, -1), (1, 1))  # the 8 neighbours
BEYOND = -1  # pixels beyond the image, beside regions 1 .. n and membrane 0


@dataclass(frozen=True)
class WarpingError:
    """The warping error over thresholds.

    Args:
        thresholds: (T,).
        splits: pixels of splits at each threshold, int (T,).
        mergers: pixels of mergers at each threshold, int (T,).
        pixels: number of pixels of all planes.

    Example:
        >>> result = WarpingError(np.array([0.4, 0.5]), splits=np.array([3, 1]), mergers=np.array([0, 1]), pixels=1000)
        >>> result.error, result.best_threshold
        (0.002, 0.5)
    """

    thresholds: np.ndarray
    splits: np.ndarray
    mergers: np.ndarray
    pixels: int

    @property
    def errors(self) -> np.ndarray:
        """(Splits + mergers) / pixels at each threshold, (T,)."""
        return (self.splits + self.mergers) / self.pixels

    @property
    def best(self) -> int:
        """Index of the lowest error, the first of equal ones."""
        return int(self.errors.argmin())

    @property
    def best_threshold(self) -> float:
        """Threshold of the lowest error, without the rounding errors of adding up 0.1."""
        return round(float(self.thresholds[self.best]), 6)

    @property
    def error(self) -> float:
        """The lowest error. The challenge reports this number."""
        return float(self.errors[self.best])


def warp(truth: np.ndarray, proposal: np.ndarray, priority: np.ndarray | None = None) -> np.ndarray:
    """Turn simple pixels of the truth into those of the proposal until no simple pixel differs.

    Pixels beyond the image are membrane.

    Args:
        truth: bool (H, W), True = cell.
        proposal: bool (H, W), True = cell.
        priority: (H, W), pixels of high priority are turned first. Pixels of equal priority are turned column by
            column, from the left. None: equal everywhere. The result can depend on the order.

    Returns:
        bool (H, W) with the topology of the truth.

    Raises:
        ValueError: the shapes differ or are not two-dimensional.

    Example:
        >>> truth = np.array([[1, 1, 0, 1, 1]], bool)
        >>> warp(truth, np.array([[1, 0, 0, 1, 1]], bool)).astype(int)  # the border may grow
        array([[1, 0, 0, 1, 1]])
        >>> warp(truth, np.array([[1, 1, 1, 1, 1]], bool)).astype(int)  # but not vanish
        array([[1, 1, 0, 1, 1]])
    """
    if truth.ndim != 2 or truth.shape != proposal.shape:
        raise ValueError(f"expected two planes (H, W) of one shape, got {truth.shape} and {proposal.shape}")
    columns, rows = np.nonzero((truth != proposal).T)  # columns first
    if priority is not None:
        order = np.argsort(-priority[rows, columns].astype(float), kind="stable")
        rows, columns = rows[order], columns[order]
    image = np.pad(truth, 1).astype(np.uint8)
    _turn_simple(image, rows + 1, columns + 1)
    return image[1:-1, 1:-1].astype(bool)


@compiled
def _turn_simple(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Turn the simple pixels among the given (N,), in sweeps until a sweep turns none. All arrays are overwritten.

    `image` is as in `is_simple`, with a rim of 0.
    """
    before, remaining = -1, len(rows)
    while remaining != before:
        before, remaining = remaining, 0
        for k in range(before):
            y, x = rows[k], columns[k]
            if is_simple(image, y, x):
                image[y, x] = 1 - image[y, x]
            else:
                rows[remaining], columns[remaining] = y, x
                remaining += 1


@compiled
def is_simple(image: np.ndarray, y: int, x: int) -> bool:
    """Check whether turning an inner pixel keeps the number of cells (4-connected) and membranes (8-connected).

    `image` is uint8 (H, W), 1 = cell, 0 = membrane. Yokoi's connectivity number is 1 for these pixels: among the 8
    neighbours, exactly one stretch of cells touches the pixel by an edge, and not all neighbours are cells.

    Example:
        >>> image = np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0]], np.uint8)
        >>> is_simple(image, 1, 1)  # between two cells
        False
    """
    right, above, left, below = image[y, x + 1], image[y - 1, x], image[y, x - 1], image[y + 1, x]
    ends = right * (1 - image[y - 1, x + 1] * above)  # 1 if a stretch ends here, counter-clockwise
    ends += above * (1 - image[y - 1, x - 1] * left)
    ends += left * (1 - image[y + 1, x - 1] * below)
    ends += below * (1 - image[y + 1, x + 1] * right)
    return bool(ends == 1)


def splits_and_mergers(warped: np.ndarray, proposal: np.ndarray, radius: int = 20) -> tuple[int, int]:
    """Count the pixels of splits and mergers among the pixels that still differ after `warp`.

    A differing pixel of the warped truth's membrane is a merger if its 8 neighbours belong to two regions or more. A
    differing pixel of a cell is a split in the same case, or if its neighbours are connected within `radius` only
    through this pixel. Other pixels (holes and objects that appear or vanish) are not counted.

    Args:
        warped: bool (H, W), True = cell.
        proposal: bool (H, W), True = cell.
        radius: pixels around the differing pixel in which its neighbours may be connected.

    Returns:
        Pixels of splits, pixels of mergers.

    Example:
        >>> one, two = np.array([[1, 1, 1]], bool), np.array([[1, 0, 1]], bool)
        >>> splits_and_mergers(two, one)
        (0, 1)
    """
    regions = np.pad(cell_regions(warped), 1, constant_values=BEYOND)
    rows, columns = np.nonzero(warped != proposal)
    return _count(regions, rows + 1, columns + 1, radius)


@compiled
def _count(regions: np.ndarray, rows: np.ndarray, columns: np.ndarray, radius: int) -> tuple[int, int]:
    """Count splits and mergers among the given pixels (N,).

    `regions` is int32 (H, W), 0 = membrane, with a rim of `BEYOND`.
    """
    splits, mergers = 0, 0
    seen = np.zeros(regions.shape, np.int64)
    queue = np.empty((regions.size, 2), np.int64)
    for k in range(len(rows)):
        y, x = rows[k], columns[k]
        first, several, beside_membrane = 0, False, False
        for dy, dx in RING:
            region = regions[y + dy, x + dx]
            if region == 0:
                beside_membrane = True
            elif region > 0:
                several = several or (first > 0 and first != region)
                first = region
        if regions[y, x] == 0:
            mergers += several
        elif several or (beside_membrane and first and _is_bridge(regions, y, x, radius, seen, k + 1, queue)):
            splits += 1
    return splits, mergers


@compiled
def _is_bridge(
    regions: np.ndarray, y: int, x: int, radius: int, seen: np.ndarray, mark: int, queue: np.ndarray
) -> bool:
    """Check whether the cell pixels around a pixel are connected within `radius` only through this pixel.

    `seen`, int64 (H, W), gets the number `mark` at every pixel that is reached. `queue`, int64 (N, 2), is overwritten.
    """
    missing = 0  # neighbours that are not yet reached
    for dy, dx in RING:
        if regions[y + dy, x + dx] > 0:
            missing += 1
            queue[0] = y + dy, x + dx
    seen[y, x] = seen[queue[0, 0], queue[0, 1]] = mark
    missing -= 1
    first, end = 0, 1
    while first < end and missing:
        for dy, dx in EDGES:
            j, i = queue[first, 0] + dy, queue[first, 1] + dx
            if regions[j, i] > 0 and seen[j, i] != mark and abs(j - y) <= radius and abs(i - x) <= radius:
                seen[j, i] = mark
                queue[end] = j, i
                end += 1
                missing -= abs(j - y) <= 1 and abs(i - x) <= 1
        first += 1
    return missing > 0


def warping_error(planes: Iterable[tuple[np.ndarray, np.ndarray]]) -> WarpingError:
    """Measure the warping error of a stack: pixels of splits and mergers over all pixels, at each threshold.

    Args:
        planes: (probability, truth) of every plane, each (H, W): probability of a cell, 0 .. 1, and not 0 = cell.

    Returns:
        Counts at the thresholds 0.0, 0.1 ... 0.9, since the challenge leaves 1.0 out here, and the lowest error.

    Raises:
        ValueError: the shapes differ, a value is no probability, or there is no plane.

    Example:
        >>> truth = np.array([[1, 1, 0, 1, 1]])
        >>> result = warping_error([(np.array([[0.9, 0.9, 0.7, 0.9, 0.9]]), truth)])  # a merger at low thresholds
        >>> result.mergers
        array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0])
        >>> result.error
        0.0
    """
    thresholds = THRESHOLDS[:-1]
    counts, pixels = np.zeros((len(thresholds), 2), np.int64), 0
    for probability, truth in planes:
        levels, cells = checked_probability(probability, truth), truth != 0
        pixels += cells.size
        for row, threshold in zip(counts, thresholds, strict=True):
            proposal = levels > threshold
            surest_first = np.abs(levels - threshold).astype(np.float32)
            row += splits_and_mergers(warp(cells, proposal, surest_first), proposal)
    if not pixels:
        raise ValueError("expected at least one plane of a probability map and its truth, got none")
    splits, mergers = counts.T
    return WarpingError(thresholds, splits, mergers, pixels)
