"""Exact percentiles of values that do not fit in memory, by counting.

Values become unsigned keys in the same order. The first pass over all values counts the first 16 bits of the keys. The
next pass counts the following 16 bits, of keys with the first bits of a wanted rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_WIDTH = 16  # bits in a pass: 65536 counts


def to_keys(values: np.ndarray) -> np.ndarray:
    """Convert numbers to unsigned integers of the same size and order.

    Args:
        values: any shape; integers or floating, without NaN.

    Example:
        >>> to_keys(np.array([-1.5, -0.5, 2.0], np.float16))
        array([16895, 18431, 49152], dtype=uint16)
    """
    bits = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    sign = bits.dtype.type(1 << (8 * values.dtype.itemsize - 1))
    if values.dtype.kind == "u":
        return bits
    return bits ^ sign if values.dtype.kind == "i" else np.where(bits & sign, ~bits, bits | sign)


def from_key(key: int, dtype: np.dtype) -> float:
    """Convert a key of `to_keys` to its number.

    Example:
        >>> from_key(49152, np.dtype(np.float16))
        2.0
    """
    bits = np.array(key, f"u{dtype.itemsize}")
    sign = bits.dtype.type(1 << (8 * dtype.itemsize - 1))
    if dtype.kind == "f":
        bits = bits ^ sign if bits & sign else ~bits
    elif dtype.kind == "i":
        bits = bits ^ sign
    return float(np.asarray(bits).view(dtype))


def count_keys(values: np.ndarray, prefixes: Sequence[Sequence[int]], known: int) -> np.ndarray:
    """Count the next bits of keys. Counts of several blocks are added.

    Args:
        values: (C, n), integers or floating, without NaN.
        prefixes: for each channel, the first `known` bits of the keys to count.
        known: bits before the counted ones.

    Returns:
        (C, P, 2**16) int64, of 8-bit values (C, 1, 256). P is the largest number of prefixes of a channel.

    Example:
        >>> count_keys(np.array([[3, 3, 7]], np.uint8), [[0]], known=0)[0, 0, :8]
        array([0, 0, 0, 2, 0, 0, 0, 1])
    """
    bits = 8 * values.dtype.itemsize
    width = min(_WIDTH, bits - known)
    counts = np.zeros((len(values), max(map(len, prefixes)), 1 << width), np.int64)
    for channel, wanted in enumerate(prefixes):
        keys = to_keys(values[channel])
        for place, prefix in enumerate(wanted):
            chosen = keys[keys >> (bits - known) == prefix] & ((1 << (bits - known)) - 1) if known else keys
            digits = (chosen >> (bits - known - width)).astype(np.intp)
            counts[channel, place] = np.bincount(digits, minlength=1 << width)
    return counts


class PercentileSearch:
    """Find percentiles of C channels, and their smallest and largest values, from the counts of `count_keys`.

    Args:
        dtype: of the values.
        count: number of values of a channel.
        channels: C.
        percentiles: 0 .. 100.

    Example:
        >>> values = np.array([[5, 1, 3]], np.uint8)
        >>> search = PercentileSearch(values.dtype, count=3, channels=1, percentiles=(50, 75))
        >>> while not search.done:
        ...     search.add(count_keys(values, search.prefixes, search.known))
        >>> search.percentile(50), search.percentile(75)
        (array([3.]), array([4.]))
    """

    def __init__(self, dtype: np.dtype, count: int, channels: int, percentiles: Sequence[float]) -> None:
        self.dtype = dtype
        self.count = count
        self.known = 0
        ranks = {0, count - 1, *(rank for percent in percentiles for rank in self._ranks(percent))}
        self._found = [dict.fromkeys(ranks, (0, 0)) for _ in range(channels)]  # rank -> known bits, smaller values

    @property
    def done(self) -> bool:
        """True if all bits are known."""
        return self.known == 8 * self.dtype.itemsize

    @property
    def prefixes(self) -> list[list[int]]:
        """First bits of the keys to count, for each channel."""
        return [sorted({prefix for prefix, _ in found.values()}) for found in self._found]

    def add(self, counts: np.ndarray) -> None:
        """Continue the search with the counts of all values for `prefixes` and `known`."""
        width = min(_WIDTH, 8 * self.dtype.itemsize - self.known)
        for found, prefixes, tables in zip(self._found, self.prefixes, counts, strict=True):
            upto = np.cumsum(tables, axis=1)
            for rank, (prefix, below) in found.items():
                table = upto[prefixes.index(prefix)]
                digit = int(np.searchsorted(table, rank - below, side="right"))
                found[rank] = (prefix << width | digit, below + (int(table[digit - 1]) if digit else 0))
        self.known += width

    def percentile(self, percent: float) -> np.ndarray:
        """Get a percentile of each channel, (C,) float64, interpolated linearly as by `np.percentile`."""
        low, high = self._ranks(percent)
        share = percent / 100 * (self.count - 1) - low
        return (1 - share) * self._at(low) + share * self._at(high)

    def _at(self, rank: int) -> np.ndarray:
        return np.array([from_key(found[rank][0], self.dtype) for found in self._found])

    def _ranks(self, percent: float) -> tuple[int, int]:
        place = percent / 100 * (self.count - 1)
        return math.floor(place), math.ceil(place)
