"""Sum the distances from a pixel to its two nearest cells: d1 + d2 of Eq. 2 (arXiv 1505.04597).

The distances are exact. The time grows with the number of pixels, not with pixels times cells. As in a separable
distance transform, rows come first and columns second:

1. Two sweeps over a row find, for each pixel, the nearest pixels of two different cells in the same row.
2. A pixel compares its own row with the rows k = 1, 2, ... above and below. Row k is at least k pixels away. The
   search ends when k reaches the distance to the second cell, or the cutoff.
"""

from __future__ import annotations

import math

import numpy as np

from ..compiled import compiled

_MAX_CUTOFF = 2**11  # px; squared distances up to here are whole numbers in float32
_FAR = 2**30  # squared px, beyond any cutoff
_NONE = -1  # no such pixel in this row
_PADDING = 16  # columns; rows of 2^n bytes would share few lines of the processor's cache


def two_nearest_cells(cells: np.ndarray, cutoff: float, where: np.ndarray | None = None) -> np.ndarray:
    """Sum the Euclidean distances from each pixel to the nearest and the second nearest cell.

    The distance to a cell is the distance to its nearest pixel, 0 on the cell.

    Args:
        cells: integer (H, W), at most 2^31 - 1. Values above 0 are cells, the rest is background.
        cutoff: in pixels. Larger sums are not computed.
        where: bool (H, W), the pixels to compute. None: all.

    Returns:
        float32 (H, W): d1 + d2 in pixels up to `cutoff`. `inf` above the cutoff, outside `where`, and with fewer than
        two cells.

    Raises:
        ValueError: the cutoff or a cell's number is too large.

    Example:
        >>> two_nearest_cells(np.array([[7, 0, 0, 2, 0]]), cutoff=5)
        array([[3., 3., 3., 3., 5.]], dtype=float32)
    """
    if not 0 <= cutoff <= _MAX_CUTOFF:
        raise ValueError(f"cutoff must lie in 0..{_MAX_CUTOFF} px, got {cutoff}. Choose a smaller sigma.")
    if cells.max(initial=0) > np.iinfo(np.int32).max:
        raise ValueError(f"cell numbers must be below 2^31, got {cells.max()}. Renumber the cells from 1.")
    total = np.full(cells.shape, np.inf, dtype=np.float32)
    padded = np.pad(np.maximum(cells, 0).astype(np.int32, order="C"), ((0, 0), (0, _PADDING)))
    first, second = np.full((2, *padded.shape), _NONE, dtype=np.int32)
    _search_rows(padded, first, second)
    where = np.ones(cells.shape, dtype=bool) if where is None else np.ascontiguousarray(where)
    _search_columns(padded, first, second, where, np.float32(cutoff), total)
    return total


@compiled
def _search_rows(cells: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Find the nearest pixels of two different cells in the row of each pixel.

    Args:
        cells: int32 (H, W).
        first: int32 (H, W), full of `_NONE`. Filled with the column of the nearest cell pixel.
        second: int32 (H, W), full of `_NONE`. Filled with the column of the nearest pixel of a different cell.
    """
    height, width = cells.shape
    for y in range(height):
        row = cells[y]
        for columns in (range(width), range(width - 1, -1, -1)):
            last = before = _NONE  # the last cell pixel of the sweep, and the last pixel of a different cell
            for x in columns:
                if row[x] > 0:
                    if last != _NONE and row[last] != row[x]:
                        before = last
                    last = x
                for found in (last, before):
                    if found == _NONE:
                        continue
                    a, b = first[y, x], second[y, x]
                    nearer = a == _NONE or abs(found - x) < abs(a - x)
                    if a != _NONE and row[found] == row[a]:
                        first[y, x] = found if nearer else a
                    elif nearer:
                        first[y, x], second[y, x] = found, a
                    elif b == _NONE or abs(found - x) < abs(b - x):
                        second[y, x] = found


@compiled
def _search_columns(
    cells: np.ndarray, first: np.ndarray, second: np.ndarray, where: np.ndarray, cutoff: np.float32, total: np.ndarray
) -> None:
    """Fill `total` (H, W) wherever `where` is true."""
    height, width = total.shape
    for y in range(height):
        for x in range(width):
            if where[y, x]:
                total[y, x] = _sum_at(y, x, cells, first, second, cutoff)


@compiled
def _sum_at(y: int, x: int, cells: np.ndarray, first: np.ndarray, second: np.ndarray, cutoff: np.float32) -> np.float32:
    """Sum the distances from one pixel to its two nearest cells; inf above the cutoff."""
    label1, square1, square2 = 0, _FAR, _FAR  # the nearest cell, and the squared distances to both
    k = 0
    while k * k < square2 and k + min(k, math.sqrt(square1)) <= cutoff:  # rows from k on are at least k away
        for row in (y - k, y + k):
            if not 0 <= row < cells.shape[0]:
                continue
            for column in (first[row, x], second[row, x]):
                if column == _NONE:
                    break
                label, square = cells[row, column], (column - x) ** 2 + k * k
                if label == label1:
                    square1 = min(square1, square)
                elif square < square1:
                    label1, square1, square2 = label, square, square1
                elif square < square2:
                    square2 = square
        k += 1
    total = np.float32(math.sqrt(square1)) + np.float32(math.sqrt(square2))
    return total if total <= cutoff else np.float32(np.inf)
