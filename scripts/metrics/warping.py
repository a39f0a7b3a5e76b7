"""The warping error of the ISBI 2012 EM challenge: what is still wrong once borders may move but not break.

The truth is warped towards the thresholded proposal, one pixel after the other, as long as a differing pixel is
*simple*: turning it neither joins nor parts cells (4-connected) nor membrane (8-connected). A border shifted by up to
its own width warps away at no cost; one shifted farther does not, since the pixels between its two places do not differ
and stay. Of the pixels left, those that stand for a merger or a split are counted, so that the error is the share of
pixels that would have to be corrected.

References: V. Jain et al., "Boundary learning by optimization with topological constraints", CVPR 2010, doi
10.1109/CVPR.2010.5539950, and the challenge's program, Fiji's Trainable Segmentation (`WarpingError`,
`getMinimumSplitsAndMergersErrorValue(0.0, 0.9, 0.1, false, 20)`), whose order of pixels and classification are kept.

Warp one truth to many proposals at once, pixels of all of them in the same calls of numpy.

By definition the pixels are turned one after the other, in the order of their priority, and in sweeps: whoever was not
simple is asked again once all others have been. What a pixel does in a sweep depends on its 8 neighbours alone, on
those that come before it as they are in this sweep, on the others as the last sweep left them. So a sweep is settled by
asking many pixels at once and asking again those who saw a neighbour change its mind; nothing depends on itself, so
that the end is the same as one after the other. A later sweep asks only those who have not yet seen a neighbour turn.

The planes are bits of one number per pixel, plane t is bit t: a bitwise operation works on all of them, whose orders
may differ. While many pixels change, whole planes are worked on, then lists of pixels, then single ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from scripts.metrics.membranes import THRESHOLDS, checked_probability
from scripts.metrics.thinning import cell_regions

# the ring around a pixel as (dy, dx): right, above, left, below, and then the corner after each of them
RING = ((0, 1), (-1, 0), (0, -1), (1, 0), (-1, 1), (-1, -1), (1, -1), (1, 1))
_BACK = (2, 3, 0, 1, 6, 7, 4, 5)  # a neighbour has this pixel at this place of its own ring
_BEFORE = (1, 2, 5, 6)  # neighbours that come first where priorities are equal: columns from left to right
_DENSE = 1 / 40  # share of pixels that change above which whole planes are faster than lists of pixels
_MANY = 1 / 10  # share of pixels that turn in a sweep above which the next one begins with whole planes
_FEW = 8  # pixels that are faster one by one than in lists

Target = tuple[np.ndarray, "np.ndarray | None"]


def is_simple(ring: Any) -> Any:
    """Whether turning a pixel changes no number of pieces; cells are 4-, membrane is 8-connected.

    It is so where Yokoi's connectivity number is 1: cells touch the pixel over one stretch of the ring, which is not
    the whole ring (S. Yokoi, J. Toriwaki, T. Fukumura, Comput. Graph. Image Process. 4, 63-73, 1975).

    Args:
        ring: 8 numbers, or integer arrays of one shape (a list or the first axis), whose bits are 1 where the neighbour
            is a cell: right, above, left, below, then the corners above right, above left, below left, below right.

    Returns:
        Like one of them, bit by bit.
    """
    a, b, c, d = stretches(ring)
    return (a ^ b ^ c ^ d) & ~((a & b) | (c & d))  # exactly one


def stretches(ring: Any) -> list[Any]:
    """Where stretches of cells that touch a pixel end; as many bits are 1 as there are stretches (whole ring: none).

    Args:
        ring: as in `is_simple`, or bool.

    Returns:
        4 numbers or arrays like those of the ring.
    """
    # at an edge whose next corner and next edge are not both cells
    return [ring[k] & ~(ring[k + 4] & ring[(k + 1) % 4]) for k in range(4)]


def warps(truth: np.ndarray, targets: Iterable[Target], at_once: int = 16) -> Iterator[np.ndarray]:
    """`scripts.metrics.warping.warp` of one truth to many proposals.

    Args:
        truth: bool (H, W), True = cell.
        targets: proposal, bool (H, W), and priority, (H, W) or None, of each.
        at_once: how many of them are warped together, 1 .. 16, in some 130 bytes per pixel, up to 8 in some 80.

    Returns:
        bool (H, W) for each of them, in their order.

    Raises:
        ValueError: the shapes differ or are not two-dimensional.
    """
    remaining = iter(targets)
    for first in remaining:
        planes = _Planes(truth, chain([first], islice(remaining, at_once - 1)), np.uint8 if at_once <= 8 else np.uint16)
        image, bits = planes.warped(), planes.bits
        del planes  # its lists are large
        for bit in bits:
            yield (image & bit) != 0


class _Planes:
    """Up to 16 planes on their way from the truth to their proposals.

    All arrays are flat, of the padded image, and their bits are planes; `bits` has that of every plane.

    Attributes:
        image: the pixels as the last sweep left them, 1 = cell.
        waiting: pixels that still differ from the proposal.
        turned: pixels that are turned in this sweep, as far as it is settled.
        met: indices of all pixels that are, or were for a while.
    """

    def __init__(self, truth: np.ndarray, targets: Iterable[Target], kind: Any) -> None:
        if truth.ndim != 2:
            raise ValueError(f"expected two planes (H, W) of one shape, got {truth.shape}")
        self.stride = truth.shape[1] + 2
        size = (truth.shape[0] + 2) * self.stride
        self.inner = slice(self.stride + 1, max(size - self.stride - 1, self.stride + 1))  # from first to last pixel
        self.offsets = [dy * self.stride + dx for dy, dx in RING]
        self.image, self.waiting, self.turned = (np.zeros(size, kind) for _ in range(3))
        self.bits: list[Any] = []
        self.met: list[np.ndarray] = []
        self._box(self.image)[...] = np.where(truth, ~kind(0), kind(0))
        self.comes_before = np.zeros((8, size), kind)  # whether the neighbour does, for each place of the ring
        for plane, (proposal, priority) in enumerate(targets):
            if proposal.shape != truth.shape:
                raise ValueError(f"expected two planes (H, W) of one shape, got {truth.shape} and {proposal.shape}")
            self.bits.append(kind(1 << plane))
            self._box(self.waiting)[...] |= (proposal != truth) * self.bits[-1]
            self._compare(self.bits[-1], priority)
        for place in _BEFORE:
            of_neighbour = self._beside(self.comes_before[_BACK[place]], place)
            np.invert(self.comes_before[place, self.inner], out=of_neighbour)
        self._list_listeners()

    def warped(self) -> np.ndarray:
        """Turn pixels until none is left that is simple; the image (H, W)."""
        self._turn()
        return self._box(self.image)

    def _compare(self, bit: Any, priority: np.ndarray | None) -> None:
        """Which neighbours come before a pixel, at the first places of the ring; at the others it is the reverse."""
        if priority is None:
            self.comes_before[list(_BEFORE)] |= bit
            return
        padded = np.pad(priority, 1).ravel()
        if padded.dtype.kind == "f":
            padded = np.fmax(padded, -np.inf, dtype=padded.dtype)  # what is not a number is last, and stays in order
        for place in _BEFORE:
            before = self._beside(padded, place) >= padded[self.inner]
            self.comes_before[place, self.inner] |= before * bit

    def _list_listeners(self) -> None:
        """Which neighbours have to be told when a pixel turns: of those who wait, at once who comes after it."""
        size = self.image.size
        self.rings, self.now, self.later = (
            np.zeros((size, 8), self.image.dtype) for _ in range(3)
        )  # rows, one for a pixel
        for place, back in enumerate(_BACK):
            waits = self._beside(self.waiting, place)
            comes_after = self._beside(self.comes_before[back], place) & waits
            self.now[self.inner, place] = comes_after
            self.later[self.inner, place] = comes_after ^ waits
        # where the flat rings of a pixel's neighbours have the pixel, relative to its own row
        self.entries = np.array([8 * offset + back for offset, back in zip(self.offsets, _BACK, strict=True)])
        self.number = np.zeros(size, np.int32)

    def _turn(self) -> None:
        """All sweeps, until one turns nothing."""
        pixels, bits = self._begin()
        while True:
            while pixels.size:
                if len(pixels) < _FEW:
                    pixels, bits = self._follow(pixels, bits)
                else:
                    pixels, bits = self._ask(self._tell(pixels, bits, self.now))
            pixels = self._once(np.concatenate(self.met))
            bits = self.turned.take(pixels)
            if not bits.any():
                return
            self.image[pixels] ^= bits
            self.waiting[pixels] ^= bits
            self.turned[pixels] = 0
            if len(pixels) > _MANY * self.image.size:
                pixels, bits = self._begin()
            else:
                self.met = []
                pixels, bits = self._ask(self._tell(pixels, bits, self.later))

    def _begin(self) -> tuple[np.ndarray, np.ndarray]:
        """Settle a sweep on whole planes until few pixels change, and list the rings; these pixels, and their bits."""
        seen, few = np.empty((8, self.image[self.inner].size), self.image.dtype), int(_DENSE * self.image.size)
        while True:
            for place in range(8):
                np.bitwise_and(self._beside(self.turned, place), self.comes_before[place, self.inner], out=seen[place])
                seen[place] ^= self._beside(self.image, place)
            turned = is_simple(seen) & self.waiting[self.inner]
            change = turned ^ self.turned[self.inner]
            self.turned[self.inner] = turned
            pixels = np.flatnonzero(change != 0)
            if len(pixels) <= few:
                break
        self.rings[self.inner] = seen.T
        self.met = [np.flatnonzero(self.turned)]
        return pixels + self.inner.start, change.take(pixels)

    def _tell(self, pixels: np.ndarray, bits: np.ndarray, whom: np.ndarray) -> np.ndarray:
        """Change these bits of pixels in the rings of their neighbours; those who see it, each once."""
        told = (whom.take(pixels, axis=0) & bits[:, None]).ravel()
        hits = np.flatnonzero(told != 0)
        entries = (8 * pixels).take(hits >> 3) + self.entries.take(hits & 7)
        rings = self.rings.reshape(-1)
        rings[entries] = rings.take(entries) ^ told.take(hits)
        return self._once(entries >> 3)

    def _ask(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Settle pixels anew; those who change their mind, and the bits in which they do."""
        seen = np.ascontiguousarray(self.rings.take(pixels, axis=0).T)
        turned = is_simple(seen) & self.waiting.take(pixels)
        change = turned ^ self.turned.take(pixels)
        hits = np.flatnonzero(change != 0)
        pixels = pixels.take(hits)
        self.turned[pixels] = turned.take(hits)
        self.met.append(pixels)
        return pixels, change.take(hits)

    def _follow(self, pixels: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`_tell` at once and `_ask`, pixel by pixel, until no change is left or they are no longer few; these."""
        now, rings = self.now.reshape(-1).data, self.rings.reshape(-1).data
        waiting, turned, entries = self.waiting.data, self.turned.data, self.entries.tolist()
        changes = dict(zip(pixels.tolist(), bits.tolist(), strict=True))
        met: set[int] = set()
        while 0 < len(changes) < 2 * _FEW:
            asked = set()
            for pixel, change in changes.items():
                first = 8 * pixel
                for entry, listens in zip(entries, now[first : first + 8].tolist(), strict=True):
                    if told := listens & change:
                        rings[first + entry] ^= told
                        asked.add((first + entry) >> 3)
            changes = {}
            for pixel in asked:
                turns = is_simple(rings[8 * pixel : 8 * pixel + 8].tolist()) & waiting[pixel]
                if change := turns ^ turned[pixel]:
                    turned[pixel] = turns
                    changes[pixel] = change
            met.update(changes)
        self.met.append(np.array([*met], np.int64))
        return np.array([*changes], np.int64), np.array([*changes.values()], self.image.dtype)

    def _once(self, pixels: np.ndarray) -> np.ndarray:
        """The pixels without those named again; much faster than sorting."""
        numbers = np.arange(len(pixels), dtype=np.int32)
        self.number[pixels] = numbers
        return pixels[self.number.take(pixels) == numbers]

    def _beside(self, plane: np.ndarray, place: int) -> np.ndarray:
        """A view of the neighbours at a place of the ring, of the pixels in `inner`."""
        return plane[self.inner.start + self.offsets[place] : self.inner.stop + self.offsets[place]]

    def _box(self, plane: np.ndarray) -> np.ndarray:
        """A view (H, W) of the image without its rim."""
        return plane.reshape(-1, self.stride)[1:-1, 1:-1]


_EIGHT = np.ones((3, 3), bool)
_CROSS_IN_EACH = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
_WINDOWS_AT_ONCE = 1024  # some megabytes; labelled in one call, each on its own


@dataclass(frozen=True)
class WarpingError:
    """Pixels of splits and of mergers, each int (T,), over the thresholds (T,), in `pixels` pixels altogether."""

    thresholds: np.ndarray
    splits: np.ndarray
    mergers: np.ndarray
    pixels: int

    @property
    def errors(self) -> np.ndarray:
        """(Splits + mergers) / pixels at every threshold, (T,)."""
        return (self.splits + self.mergers) / self.pixels

    @property
    def best(self) -> int:
        """Index of the first of the lowest errors."""
        return int(self.errors.argmin())

    @property
    def best_threshold(self) -> float:
        """Where the error is lowest, without the rounding errors of adding up 0.1."""
        return round(float(self.thresholds[self.best]), 6)

    @property
    def error(self) -> float:
        """The lowest error, what the challenge reports."""
        return float(self.errors[self.best])


def warp(truth: np.ndarray, proposal: np.ndarray, priority: np.ndarray | None = None) -> np.ndarray:
    """Turn simple pixels of the truth into what the proposal says until none is left; beyond the image is membrane.

    Args:
        truth: bool (H, W), True = cell.
        proposal: bool (H, W), True = cell.
        priority: (H, W), pixels of high priority are turned first, columns from left to right where it is equal; None:
            equal everywhere. What is left over can depend on the order.

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
    (warped,) = warps(truth, [(proposal, priority)], at_once=1)
    return warped


def splits_and_mergers(warped: np.ndarray, proposal: np.ndarray, radius: int = 20) -> tuple[int, int]:
    """Count the pixels left over by `warp` that stand for a split or a merger.

    By the regions of the warped truth among its 8 neighbours: a pixel is a merger if it is membrane and these are two
    or more, and a split if it is a cell and these are two or more, or fall apart without it within `radius`. All
    others (holes and objects that come or go) are not counted.

    Args:
        warped: bool (H, W).
        proposal: bool (H, W).
        radius: how far around, in pixels, a region may hold together in another way.

    Returns:
        Pixels of splits, pixels of mergers.
    """
    rows, columns = np.nonzero(warped != proposal)
    around = _ring(np.pad(cell_regions(warped), 1, constant_values=-1), rows, columns)  # (8, N), -1 beyond the image
    objects = _count_regions(np.maximum(around, 0))
    is_cell = warped[rows, columns]
    mergers = int((~is_cell & (objects >= 2)).sum())
    splits = int((is_cell & (objects >= 2)).sum())
    unsure = np.flatnonzero(is_cell & (objects == 1) & (around == 0).any(axis=0))
    if unsure.size:
        parts = _parts_a_cell(warped, rows[unsure], columns[unsure], radius)
        splits += int(parts.sum())
        unsure = unsure[~parts]
    windows = sliding_window_view(np.pad(warped, radius), (2 * radius + 1, 2 * radius + 1))
    for some in np.array_split(unsure, 1 + len(unsure) // _WINDOWS_AT_ONCE):
        without = windows[rows[some], columns[some]]  # a copy, (N, 2 radius + 1, 2 radius + 1)
        without[:, radius, radius] = False
        pieces = ndimage.label(without, _CROSS_IN_EACH)[0][:, radius - 1 : radius + 2, radius - 1 : radius + 2]
        splits += int((_count_regions(pieces.reshape(-1, 9).T) >= 2).sum())
    return splits, mergers


def warping_error(
    planes: Iterable[tuple[np.ndarray, np.ndarray]], thresholds: np.ndarray = THRESHOLDS[:-1], radius: int = 20
) -> WarpingError:
    """The warping error of a stack: the lowest over thresholds of the pixels of splits and mergers over all pixels.

    Args:
        planes: (probability, truth) of every plane, each (H, W): the probability of a cell, 0 .. 1, and not 0 = cell.
        thresholds: (T,), by default 0.0, 0.1 ... 0.9, as the challenge leaves 1.0 out here.
        radius: as in `splits_and_mergers`.

    Raises:
        ValueError: the shapes differ, a value is no probability, or there is no plane.
    """
    counts, pixels = np.zeros((len(thresholds), 2), np.int64), 0
    for probability, truth in planes:
        levels, cells = checked_probability(probability, truth), truth != 0
        pixels += cells.size
        # the surest pixels turn first
        targets = ((levels > threshold, np.abs(levels - threshold).astype(np.float32)) for threshold in thresholds)
        together = warps(cells, targets, at_once=min(len(thresholds), 16))
        for row, threshold, warped in zip(counts, thresholds, together, strict=True):
            row += splits_and_mergers(warped, levels > threshold, radius)
    if not pixels:
        raise ValueError("expected at least one plane of a probability map and its truth, got none")
    splits, mergers = counts.T
    return WarpingError(thresholds, splits, mergers, pixels)


def _parts_a_cell(cells: np.ndarray, rows: np.ndarray, columns: np.ndarray, radius: int) -> np.ndarray:
    """Where a pixel of a cell closes a curve of membrane, which parts the cell in its window without labelling that.

    It does if two gaps between the stretches of the ring that touch it belong to one piece of membrane: of the cell, a
    stretch then lies on either side. So it does if two gaps belong to pieces that leave the window, as nothing holds a
    cell together outside of it. Where every gap is of another piece, as at a small hole, there is a way round.

    Returns:
        bool (N,), for the pixels at (rows, columns).
    """
    cells = np.pad(cells, 1)
    membranes = ndimage.label(~cells, _EIGHT)[0]  # piece 1 is beyond the image and what hangs together with that
    around = _ring(membranes, rows, columns)
    boxes = np.array([[y.start, x.start, -y.stop, -x.stop] for y, x in ndimage.find_objects(membranes)])
    rims = np.stack([rows, columns, -rows, -columns]) + np.array([[2], [2], [-1], [-1]]) - radius  # of the windows
    leaves = np.zeros(around.shape, bool)
    for edge, rim in zip(np.insert(boxes, 0, 0, axis=0).T, rims, strict=True):  # of piece 0, which is the cells, any
        leaves |= edge.take(around) < rim
    pieces = _count_regions(np.where(leaves & (around != 0), 1, around))
    return pieces < np.sum(stretches(_ring(cells, rows, columns)), axis=0)


def _ring(padded: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values of a padded plane at the 8 neighbours of the pixels of the image at (rows, columns), (8, N)."""
    stride = padded.shape[1]
    offsets = np.array([dy * stride + dx for dy, dx in RING])
    return padded.ravel().take((rows + 1) * stride + columns + 1 + offsets[:, None])


def _count_regions(numbers: np.ndarray) -> np.ndarray:
    """How many different numbers above 0 are in each column, (M, N) -> (N,)."""
    ordered = np.sort(numbers, axis=0)
    is_new = np.diff(ordered, axis=0, prepend=0) > 0
    return is_new.sum(axis=0)
