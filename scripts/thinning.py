"""From a mask of cells to numbered regions that only lines one pixel wide part: the thinning before V_Rand and V_Info.

The challenge's program (Fiji's Trainable Segmentation, `WatershedTransform2D` applied to the thresholded proposal)
floods the two-valued image itself, neither the probabilities nor a distance map: the 4-connected cells are the basins,
and all membrane lies on one level, so that the floods advance through it first come, first served. Where two meet, a
pixel stays on the line. scikit-image's `watershed(..., watershed_line=True)` floods likewise, yet in another order and
without lines that spread along lines, so that single pixels differ (a test says so); here the order is the program's.

Reference: L. Vincent and P. Soille, "Watersheds in digital spaces", IEEE PAMI 13(6), 1991, doi 10.1109/34.87344.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_LINE = 0
_OUTSIDE, _WAITING, _QUEUED = -1, -2, -3  # states of a pixel beside the regions 1 .. n


def cell_regions(cells: np.ndarray) -> np.ndarray:
    """Number the 4-connected regions of a mask.

    Args:
        cells: (H, W), not 0 = cell.

    Returns:
        int32 (H, W): 0 is membrane, 1 .. n are the regions.

    Example:
        >>> cell_regions(np.array([[1, 0], [0, 1]]))
        array([[1, 0],
               [0, 2]], dtype=int32)
    """
    return ndimage.label(cells)[0].astype(np.int32, copy=False)  # its default structuring element is 4-connected


def thin_membrane(cells: np.ndarray) -> np.ndarray:
    """Number the regions of a mask and let them grow over the membrane until only a line is left between them.

    Args:
        cells: (H, W), not 0 = cell.

    Returns:
        int32 (H, W): 0 is the line, 1 .. n are the regions, which keep every pixel they had. Without any cell the image
        is one region, as it is one basin for the challenge's program.

    Raises:
        ValueError: `cells` is not two-dimensional.

    Example:
        >>> thin_membrane(np.array([[1, 0, 0, 0, 1, 0, 0]]))
        array([[1, 1, 0, 2, 2, 2, 2]], dtype=int32)
    """
    if cells.ndim != 2:
        raise ValueError(f"cells must be one plane (H, W), got the shape {cells.shape}")
    regions = cell_regions(cells)
    if not regions.any():
        return np.ones_like(regions)
    # columns first, as the program visits the pixels; a rim spares looking for the image's edge
    waiting = np.ascontiguousarray(np.where(regions == 0, _WAITING, regions).T)
    states = np.pad(waiting, 1, constant_values=_OUTSIDE)
    touches = ndimage.binary_dilation(states > 0) & (states == _WAITING)
    _flood(states.ravel(), np.flatnonzero(touches), stride=states.shape[1])
    return np.ascontiguousarray(states[1:-1, 1:-1].T)


def _flood(states: np.ndarray, front: np.ndarray, stride: int) -> None:
    """Settle the waiting pixels in the order of a queue, in place: a front, then those that wait beside it, and so on.

    A front is settled at once. What a pixel becomes then depends on the pixels of its own front that come before it, so
    these are settled again as long as one of them changes; nothing depends on itself, so that the end is the same as
    one after the other.

    Args:
        states: int32, flat: regions, `_LINE`, `_WAITING` or `_OUTSIDE`.
        front: flat indices of the first waiting pixels, in their order.
        stride: from a pixel to the next in the first axis.
    """
    rank = np.zeros(states.size, np.int32)  # of a pixel in its front
    while front.size:
        states[front] = _QUEUED
        rank[front] = np.arange(front.size)
        places = front[:, None] + np.array([-stride, -1, stride, 1])  # (N, 4)
        around = states[places]
        is_waiting, beside = around == _WAITING, np.flatnonzero(around == _QUEUED)
        earlier = rank[places.ravel()[beside]]
        is_before = earlier < beside // 4
        beside, earlier = beside[is_before], earlier[is_before]
        seen = np.maximum(around, _LINE)  # what is not settled plays no part
        settled = _meet(seen)
        while (settled[earlier] != seen.ravel()[beside]).any():
            seen.ravel()[beside] = settled[earlier]
            settled[beside // 4] = _meet(seen[beside // 4])
        states[front] = settled
        queue = places[is_waiting]
        number = np.arange(queue.size, dtype=np.int32)
        rank[queue[::-1]] = number[::-1]  # a pixel that is named several times is queued at the first
        front = queue[rank[queue] == number]


def _meet(neighbours: np.ndarray) -> np.ndarray:
    """The one region among the 4 neighbours of each pixel, int32 (N, 4) -> (N,); the line if there are more or none."""
    a, b, c, d = neighbours.T
    region = np.maximum(np.maximum(a, b), np.maximum(c, d))
    is_alone = ((a == 0) | (a == region)) & ((b == 0) | (b == region)) & ((c == 0) | (c == region))
    return np.where(is_alone & ((d == 0) | (d == region)), region, _LINE)
