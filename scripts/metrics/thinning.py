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

# states of a pixel beside the regions 1 .. n; below `_WAITING` are the places in the queue, the first is highest
_LINE, _OUTSIDE, _WAITING = -1, -2, -3


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
    height, width = cells.shape
    states = np.full((height + 2, width + 2), _OUTSIDE, np.int32)  # a rim spares looking for the image's edge
    inside = states[1:-1, 1:-1]
    inside[...] = cell_regions(cells)
    if not inside.any():
        return np.ones(cells.shape, np.int32)
    inside[inside == 0] = _WAITING
    is_region = states > 0
    touches = is_region[1:-1, :-2] | is_region[:-2, 1:-1] | is_region[1:-1, 2:] | is_region[2:, 1:-1]
    columns, rows = np.nonzero((touches & ~is_region[1:-1, 1:-1]).T)  # columns first, as the program visits the pixels
    _flood(states.ravel(), (rows + 1) * (width + 2) + columns + 1, stride=width + 2)
    return np.maximum(inside, 0)


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
    offsets = np.array([-1, -stride, 1, stride])  # the order in which a pixel names its neighbours
    index = np.zeros(states.size, np.int32)
    queued = _queue_places(front.size)
    states[front] = queued
    while front.size:
        beside = front + offsets[:, None]  # (4, N)
        around = states.take(beside)
        states[front] = settled = _meet(around)
        depends = (around < _WAITING) & (around > queued)  # on one of the same front that comes before
        at = np.flatnonzero(depends)
        late, other = at % front.size, states.take(beside.ravel().take(at))
        index[front.take(late)] = late
        late = late[(other != _LINE) & (other != settled.take(late))]  # what is a line or the same changes nothing
        if late.size:
            _settle_again(states, index, late, front, beside, around, depends)
        named = np.flatnonzero((around == _WAITING).T.ravel())  # pixel by pixel
        queue = front.take(named >> 2) + offsets.take(named & 3)
        queued = _queue_places(queue.size)
        states[queue[::-1]] = queued[::-1]  # a pixel that is named several times is queued at the first
        first = np.flatnonzero(states.take(queue) == queued)
        front, queued = queue.take(first), queued.take(first)


def _settle_again(
    states: np.ndarray,
    index: np.ndarray,
    late: np.ndarray,
    front: np.ndarray,
    beside: np.ndarray,
    around: np.ndarray,
    depends: np.ndarray,
) -> None:
    """Settle pixels of a front with what those they depend on have become, until none of them changes any more.

    Args:
        states: as in `_flood`, in which the whole front is settled as if no pixel depended on another.
        index: int32, flat: where a pixel that depends on another is in the front; of the others, anything.
        late: indices into the front, of the pixels that have to be settled again.
        front: flat indices of the pixels, (N,).
        beside: of their neighbours, (4, N).
        around: the neighbours' states before the front was settled, (4, N).
        depends: whether the pixel depends on that neighbour, bool (4, N).
    """
    while late.size:
        neighbours = beside.take(late, axis=1)
        seen = np.where(depends.take(late, axis=1), states.take(neighbours), around.take(late, axis=1))
        settled, pixels = _meet(seen), front.take(late)
        changed = np.flatnonzero(settled != states.take(pixels))
        states[pixels] = settled
        others = neighbours.take(changed, axis=1).ravel()
        late = index.take(others)
        late = late[front.take(late, mode="clip") == others]  # the index may be of another front


def _queue_places(count: int) -> np.ndarray:
    """The states of this many pixels in a queue, int32."""
    return np.arange(_WAITING - 1, _WAITING - 1 - count, -1, np.int32)


def _meet(neighbours: np.ndarray) -> np.ndarray:
    """The one region among the 4 neighbours of each pixel, int32 (4, N) -> (N,); the line if there are more or none."""
    highest = np.maximum.reduce(neighbours)
    lowest = np.minimum.reduce(neighbours.view(np.uint32)).view(np.int32)  # unsigned, all that is no region is above
    return np.where(lowest == highest, highest, _LINE)
