"""Warp one truth to many proposals at once, pixels of all of them in the same calls of numpy.

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
from itertools import chain, islice
from typing import Any

import numpy as np

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
    """`scripts.warping.warp` of one truth to many proposals.

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
