"""d1 + d2 of Eq. 2 (arXiv 1505.04597): how far the nearest and the second nearest cell are from a pixel, summed.

Exact in whole squared pixels, with work that grows with the pixels and not with pixels times cells. The pixels of the
two cells that are nearest to a place are also, each in its own row, among the nearest of two different cells there. So
two steps, as in a separable distance transform, are enough:

1. A row is a sequence of runs of equal value. Each run gets its nearest cell on the left and on the right, and the
   nearest cell beyond that is another one; from these each pixel gets the two nearest in its row.
2. A pixel looks at the rows k = 1, 2, ... above and below it, and stops as soon as k exceeds what it already has, or
   the cutoff. Between densely packed cells most pixels stop after a few rows.

The image is worked through in bands of rows, each with a halo of the cutoff, so that memory stays at a few images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MAX_CUTOFF = 2**11
_FAR = 2**12  # "no cell in this row", in pixels: beyond any cutoff, and its square leaves room in int32
_BAND_PIXELS = 2**18  # small enough for the processor's cache; half or twice as many cost about the same


def two_nearest_cells(cells: np.ndarray, cutoff: float, where: np.ndarray | None = None) -> np.ndarray:
    """Sum of the Euclidean distances from a pixel to the nearest pixel of the nearest and of the second nearest cell.

    Args:
        cells: integer (H, W), at most 2^31 - 1; each value above 0 is one cell, all others are none.
        cutoff: in pixels; sums above it are not looked for.
        where: bool (H, W), the pixels to answer for; all of them by default.

    Returns:
        float32 (H, W): d1 + d2 in pixels where it is at most `cutoff`, else `inf` (also outside `where`, and everywhere
        with fewer than two cells).

    Raises:
        ValueError: the cutoff or a cell's number is too large.
    """
    if not 0 <= cutoff <= _MAX_CUTOFF:
        raise ValueError(f"cutoff must lie in 0..{_MAX_CUTOFF} px, got {cutoff}; choose a smaller sigma")
    if cells.max(initial=0) > np.iinfo(np.int32).max:
        raise ValueError(f"cell numbers must be below 2^31, got {cells.max()}; renumber them from 1")
    height, width = cells.shape
    total = np.full(cells.shape, np.inf, dtype=np.float32)
    halo = int(cutoff)
    rows = max(2 * halo, _BAND_PIXELS // max(width, 1), 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - halo, 0), min(bottom + halo, height)
        # Rows without cells above and below the image, so that a look never leaves the band.
        labels = np.zeros((bottom - top + 2 * halo, width), dtype=np.int32)
        inside = labels[first - top + halo : last - top + halo]
        np.maximum(cells[first:last], 0, out=inside, casting="unsafe")
        if inside.any():
            pixels = np.arange((bottom - top) * width) if where is None else np.flatnonzero(where[top:bottom])
            found = _look_up_and_down(_two_nearest_in_row(labels), pixels + halo * width, cutoff, width)
            total[top:bottom].ravel()[pixels] = found  # whole rows: ravel is a view
    return total


@dataclass
class _Rows:
    """What each pixel finds in its own row, flat."""

    label: np.ndarray  # int32: the nearest cell, 0 for none
    nearest: np.ndarray  # int32: squared distance to it
    other: np.ndarray  # int32: squared distance to the nearest pixel of any other cell


def _two_nearest_in_row(labels: np.ndarray) -> _Rows:
    """Step 1, for all pixels of a band (H, W)."""
    flat = labels.ravel()
    begins = np.ones(flat.shape, dtype=bool)  # where a run begins: where the value changes, and on the left edge
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[:: labels.shape[1]] = True
    start = np.flatnonzero(begins).astype(np.int32)
    value, row = flat[start], start // labels.shape[1]
    end = np.append(start[1:], np.int32(flat.size)) - np.int32(1)

    # Four cells for each run, as numbers of runs: the nearest on the left (a cell's run is its own nearest on either
    # side), before it another one, and the same on the right. Where there is none the number is -1: the last places of
    # `value`, `end_of` and `start_of`, which stand for no cell, far away.
    left, left_other = _cells_before(value, row)
    right, right_other = (np.where(x < 0, -1, len(value) - 1 - x)[::-1] for x in _cells_before(value[::-1], row[::-1]))
    value = np.append(value, np.int32(0))
    end_of = np.append(end, np.int32(-_FAR))
    start_of = np.append(start, np.int32(flat.size + _FAR))

    # Background between two different cells is cut in the middle, so that each piece has one nearest cell throughout.
    differ = value[left] != value[right]
    cut = differ & (value[left] > 0) & (value[right] > 0) & (end > start)
    run = np.repeat(np.arange(len(start)), 1 + cut)
    second = np.append(False, run[1:] == run[:-1])
    piece_start = np.where(second, (start[run] + end[run]) // 2 + 1, start[run])
    length = np.diff(piece_start, append=flat.size)
    left, right, left_other, right_other = (x[run] for x in (left, right, left_other, right_other))
    by_left = (value[left] > 0) & ~second
    before = end_of[np.where(by_left | ~differ[run], left_other, left)]  # where the nearest other cell ends and begins
    after = start_of[np.where(by_left & differ[run], right, right_other)]

    x = np.arange(flat.size, dtype=np.int32)
    nearest = np.minimum(x - np.repeat(end_of[left], length), np.repeat(start_of[right], length) - x)
    other = np.minimum(x - np.repeat(before, length), np.repeat(after, length) - x)
    return _Rows(
        label=np.repeat(np.where(by_left, value[left], value[right]), length),
        nearest=np.square(np.clip(nearest, 0, _FAR, out=nearest), out=nearest),  # below 0 inside a cell
        other=np.square(np.minimum(other, _FAR, out=other), out=other),
    )


def _cells_before(value: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each run the last run of a cell up to it, and the last one of another cell before that; -1: none in its row.

    Args:
        value: int32 (runs), in reading order.
        row: int32 (runs), the row that each run lies in.
    """
    number = np.arange(len(value))
    is_cell = value > 0
    last = np.maximum.accumulate(np.where(is_cell, number, -1))
    # Where one cell follows another (background between or not), the former becomes "the other": a number that only
    # grows, so that a running maximum carries it on.
    previous = np.append(-1, last[:-1])
    changes = is_cell & (previous >= 0) & (value[previous] != value)
    other = np.maximum.accumulate(np.where(changes, previous, -1))
    return np.where(row[last] == row, last, -1), np.where(row[other] == row, other, -1)


def _look_up_and_down(rows: _Rows, pixels: np.ndarray, cutoff: float, width: int) -> np.ndarray:
    """Step 2: d1 + d2 for the flat indices `pixels` of the band, inf above the cutoff. float32, as long as `pixels`."""
    label, nearest, other = rows.label, rows.nearest, rows.other

    # The nearest cell. Half the cutoff is far enough, since d2 is never below d1. Both stay squared until the sum.
    d1 = nearest[pixels]
    label1 = label[pixels]
    searching: np.ndarray = np.arange(len(pixels))
    for k in range(1, int(cutoff / 2) + 1):
        searching = searching[np.flatnonzero(d1[searching] > k * k)]
        for step in (-k * width, k * width):
            seen = pixels[searching] + step
            distance = nearest[seen] + np.int32(k * k)
            closer = np.flatnonzero(distance < d1[searching])
            found = searching[closer]
            d1[found] = distance[closer]
            label1[found] = label[seen[closer]]

    # The nearest pixel of any other cell, no farther than what d1 leaves of the cutoff.
    far = np.full(len(pixels), _FAR**2, dtype=np.int32)
    place = np.flatnonzero(d1 <= (cutoff / 2) ** 2)
    pixels, label1 = pixels[place], label1[place]
    reach = np.square(cutoff - np.sqrt(d1[place])).astype(np.int32)
    d2 = np.where(label[pixels] != label1, nearest[pixels], other[pixels])
    for k in range(1, int(cutoff) + 1):
        searching = np.flatnonzero((d2 > k * k) & (reach >= k * k))
        if len(searching) < 0.75 * len(place):  # dropping the pixels that are done has a price too
            far[place] = d2  # final for those that are dropped; the others are written again
            place, pixels, d2, label1, reach = (x[searching] for x in (place, pixels, d2, label1, reach))
        for step in (-k * width, k * width):
            seen = pixels + step
            distance = np.where(label[seen] != label1, nearest[seen], other[seen])
            distance += np.int32(k * k)
            np.minimum(d2, distance, out=d2)
    far[place] = d2
    sums = np.sqrt(d1, dtype=np.float32) + np.sqrt(far, dtype=np.float32)
    sums[sums > cutoff] = np.inf
    return sums
