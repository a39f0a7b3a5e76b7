"""Scale the grey values of blocks as `scripts.transforms.normalize_image` scales those of the whole plane.

The statistics of a plane come from one pass over its blocks. Exact percentiles of 32-bit values take a second pass, of
64-bit values three more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
import torch

from ..io.image_file import ImageFileError
from ..transforms.intensity import check_normalization, flattened
from .grid import Block, BlockGrid, Span
from .percentiles import PercentileSearch, count_keys
from .source import LargeImage

_TRUNCATED = 4.0  # standard deviations: where scipy cuts off its Gaussian
_JSON_LISTS = ("offsets", "scales", "divisors", "maxima")
_SAFE = (1e-18, 1e18)  # larger and smaller values are divided by the largest: their squares leave the range of float32
_OVERFLOWING = np.errstate(over="ignore", invalid="ignore")  # large values are divided in another pass
Run = Callable[[Callable[[Block], Any], Iterable[Block]], Iterable[Any]]


@dataclass(frozen=True)
class GreyValues:
    """Scale grey values: (value / divisor - light - offset) / scale, for each channel.

    Args:
        offsets: value that becomes 0, for each channel: the mean, or the middle of the percentiles.
        scales: change of the value that becomes 1: the standard deviation, or half the distance of the percentiles.
            0: the channel becomes 0.
        flatten: standard deviation in pixels of the Gaussian that estimates uneven light. 0: no light is subtracted.
        divisors: 1, or the largest absolute value of a channel whose squares leave the range of float32.
            Empty: 1 for all.
        maxima: largest grey value of each block of the plane, in the order of the blocks, over all channels. Empty if
            unknown.

    Raises:
        ValueError: numbers that are not finite, negative scales, or lists of different lengths.

    Example:
        >>> from PIL import Image
        >>> from scripts.large import open_source
        >>> Image.fromarray(np.array([[10, 20], [30, 40]], np.uint8)).save("cells.png")
        >>> GreyValues(offsets=(25.0,), scales=(5.0,)).normalize(open_source("cells.png"), 0, (0, 2), (0, 1))
        array([[[-3.],
                [ 1.]]], dtype=float32)
    """

    offsets: tuple[float, ...]
    scales: tuple[float, ...]
    flatten: float = 0.0
    divisors: tuple[float, ...] = ()
    maxima: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_normalization(flatten=self.flatten)
        if not self.divisors:
            object.__setattr__(self, "divisors", (1.0,) * len(self.offsets))
        if not len(self.offsets) == len(self.scales) == len(self.divisors) > 0:
            raise ValueError(
                f"expected an offset and a scale for each channel, got {len(self.offsets)} offsets and "
                f"{len(self.scales)} scales"
            )
        for channel, (offset, scale) in enumerate(zip(self.offsets, self.scales, strict=True)):
            if not (math.isfinite(offset) and 0 <= scale < math.inf):
                raise ValueError(
                    f"channel {channel}: expected a finite offset and a scale from 0, got {offset}, {scale}"
                )

    def normalize(self, image: LargeImage, plane: int, rows: Span, columns: Span) -> np.ndarray:
        """Read a region and scale its grey values. `flatten` also reads the pixels around it.

        Args:
            image: with a channel for each offset.
            plane: number of the plane.
            rows, columns: pixels [start, stop) within the plane.

        Returns:
            (C, h, w) in float32.

        Raises:
            ImageFileError: pixels cannot be read, or are NaN or infinite. The message names the place.
            ValueError: another number of channels.
        """
        if image.header.channels != len(self.offsets):
            raise ValueError(
                f"{image.path} has {image.header.channels} channels, but grey values are given for {len(self.offsets)}"
            )
        pixels, inner = _read(image, plane, rows, columns, self.flatten)
        result = np.zeros((len(pixels), rows[1] - rows[0], columns[1] - columns[0]), np.float32)
        for channel, (offset, scale) in enumerate(zip(self.offsets, self.scales, strict=True)):
            if scale:
                values = _values(pixels[channel], self.divisors[channel], self.flatten)[inner]
                result[channel] = (values - offset) / scale
        return result

    def equals(self, other: GreyValues) -> bool:
        """Check whether both are of the same pixels. Rounding may differ between processors.

        Example:
            >>> GreyValues((25.0,), (5.0,)).equals(GreyValues((25.0,), (5.001,)))
            False
        """
        mine, others = (np.concatenate([getattr(one, key) for key in _JSON_LISTS]) for one in (self, other))
        return mine.shape == others.shape and bool(np.allclose(mine, others, rtol=1e-12, atol=0))

    def as_json(self) -> dict[str, Any]:
        """Get the numbers as a dictionary for JSON. `from_json` reads it without rounding.

        Example:
            >>> GreyValues((25.0,), (5.0,)).as_json()["offsets"]
            [25.0]
        """
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> GreyValues:
        """Make grey values from a dictionary of `as_json`.

        Raises:
            ValueError: missing or wrong numbers.

        Example:
            >>> GreyValues.from_json({"offsets": [25], "scales": [5]}).scales
            (5.0,)
        """
        try:
            lists = {key: tuple(float(value) for value in content.get(key, ())) for key in _JSON_LISTS}
            flatten = float(content.get("flatten", 0.0))
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected lists of numbers 'offsets' and 'scales', got {content!r} ({error})") from None
        return cls(**lists, flatten=flatten)


@dataclass(frozen=True)
class BlockStatistics:
    """Statistics of the grey values of a block, or of several blocks. C channels.

    Args:
        count: number of pixels.
        lowest, highest: (C,) float64, of the grey values.
        mean, squares: (C,) float64, of the values: mean, and sum of the squared distances from the mean.
        counts: (C, 1, keys) int64, how often values begin with each key, for percentiles. None: not counted.

    Example:
        >>> halves = [BlockStatistics.of(np.array([[values]])) for values in ([1.0, 2.0], [3.0, 6.0])]
        >>> both = halves[0].merge(halves[1])
        >>> both.mean, both.squares / both.count, both.highest
        (array([3.]), array([3.5]), array([6.]))
    """

    count: int
    lowest: np.ndarray
    highest: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    counts: np.ndarray | None = None

    @classmethod
    def of(cls, pixels: np.ndarray, values: np.ndarray | None = None, counted: bool = False) -> BlockStatistics:
        """Compute the statistics of a block.

        Args:
            pixels: (C, h, w) grey values, any number type, finite.
            values: (C, h, w) to use for mean, squares and counts: pixels after the light was subtracted.
                None: the pixels.
            counted: count keys, for percentiles.
        """
        flat = pixels.reshape(len(pixels), -1)
        of = flat if values is None else values.reshape(len(values), -1)
        ends = [np.asarray(end(flat, axis=1), np.float64) for end in (np.min, np.max)]
        moments = np.array([_moments(channel) for channel in of])
        counts = count_keys(of, [[0]] * len(of), known=0) if counted else None
        return cls(flat.shape[1], ends[0], ends[1], moments[:, 0], moments[:, 1], counts)

    @_OVERFLOWING
    def merge(self, other: BlockStatistics) -> BlockStatistics:
        """Compute the statistics of both. Sums are about the means, so large offsets cost no digits.

        References:
            Chan, Golub, LeVeque: Updating Formulae and a Pairwise Algorithm for Computing Sample Variances. 1979.
        """
        count = self.count + other.count
        delta = other.mean - self.mean
        return BlockStatistics(
            count,
            np.minimum(self.lowest, other.lowest),
            np.maximum(self.highest, other.highest),
            self.mean + delta * (other.count / count),
            self.squares + other.squares + delta**2 * (self.count * other.count / count),
            None if self.counts is None or other.counts is None else self.counts + other.counts,
        )


def plane_statistics(
    image: LargeImage,
    plane: int,
    grid: BlockGrid,
    method: str = "z_score",
    flatten: float = 0.0,
    lower: float = 1.0,
    upper: float = 99.0,
    run: Run = map,
) -> GreyValues:
    """Find the scale of a plane's grey values, block by block.

    Args:
        image: the image.
        plane: number of the plane.
        grid: blocks of the image. Their size has no influence on the result but rounding.
        method, flatten, lower, upper: as in `scripts.transforms.normalize_image`. Percentiles are exact: of values
            up to 16 bit after one pass over the image, up to 32 bit and with `flatten` after two, of 64 bit after
            four. With `flatten`, values are rounded to float32 before percentiles are counted.
        run: applies a function to all blocks, with results in order: `map`, or `map` of an executor for several
            threads or processes.

    Returns:
        Scale of each channel. `normalize` of a block then equals `normalize_image` of the plane within rounding.

    Raises:
        ImageFileError: pixels cannot be read, or are NaN or infinite. The message names the place.
        ValueError: as `normalize_image`.

    Example:
        >>> from PIL import Image
        >>> from scripts.large import BlockGrid, open_source
        >>> Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save("cells.png")
        >>> plane_statistics(open_source("cells.png"), 0, BlockGrid(1, 3, 4, size=2)).offsets
        (5.5,)
    """
    check_normalization(method, lower, upper, flatten)
    blocks = [grid.at(plane, row, column) for row in range(grid.shape[0]) for column in range(grid.shape[1])]
    counted = method == "percentile"

    def statistics(divisors: Sequence[float]) -> tuple[BlockStatistics, tuple[float, ...]]:
        step = partial(_statistics, image, flatten, divisors, counted)
        parts: Iterator[BlockStatistics] = iter(run(step, blocks))
        total = next(parts)
        maxima = [float(total.highest.max())]
        for part in parts:
            total = total.merge(part)
            maxima.append(float(part.highest.max()))
        return total, tuple(maxima)

    ones = [1.0] * image.header.channels
    total, maxima = statistics(ones)
    constant = total.lowest == total.highest
    largest = np.maximum(np.abs(total.lowest), np.abs(total.highest))
    divisors = np.where(constant | ((largest > _SAFE[0]) & (largest < _SAFE[1])), 1.0, largest)
    if (divisors != 1).any() and (flatten or not counted):
        total, _ = statistics(divisors.tolist())
    offset, scale = total.mean, np.sqrt(total.squares / total.count)
    if total.counts is not None:
        search = PercentileSearch(
            np.dtype(np.float32) if flatten else image.dtype, total.count, len(ones), (lower, upper)
        )
        search.add(total.counts)
        while not search.done:
            step = partial(
                _count, image, flatten, divisors.tolist() if flatten else ones, search.prefixes, search.known
            )
            search.add(reduce(np.add, run(step, blocks)))
        least, low, high, most = (
            search.percentile(percent) / (1.0 if flatten else divisors) for percent in (0, lower, upper, 100)
        )
        equal = low == high  # nearly all pixels are background
        low, high = np.where(equal, least, low), np.where(equal, most, high)
        offset, scale = low / 2 + high / 2, high / 2 - low / 2
    return GreyValues(
        tuple(np.where(constant, 0.0, offset).tolist()),
        tuple(np.where(constant, 0.0, scale).tolist()),
        flatten,
        tuple(divisors.tolist()),
        maxima,
    )


@_OVERFLOWING
def _statistics(
    image: LargeImage, flatten: float, divisors: Sequence[float], counted: bool, block: Block
) -> BlockStatistics:
    pixels, values = _block(image, flatten, divisors, block)
    return BlockStatistics.of(pixels, values, counted)


def _count(
    image: LargeImage,
    flatten: float,
    divisors: Sequence[float],
    prefixes: Sequence[Sequence[int]],
    known: int,
    block: Block,
) -> np.ndarray:
    pixels, values = _block(image, flatten, divisors, block)
    numbers = pixels if values is None else values
    return count_keys(numbers.reshape(len(numbers), -1), prefixes, known)


def _block(
    image: LargeImage, flatten: float, divisors: Sequence[float], block: Block
) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey values (C, h, w) of a block. Values to count, if they differ: float64, or float32 with `flatten`."""
    pixels, inner = _read(image, block.plane, block.rows, block.columns, flatten)
    if not flatten and set(divisors) == {1.0}:
        return pixels, None
    values = [_values(channel, divisor, flatten)[inner] for channel, divisor in zip(pixels, divisors, strict=True)]
    return pixels[(slice(None), *inner)], np.stack(values).astype(np.float32 if flatten else np.float64)


def _read(
    image: LargeImage, plane: int, rows: Span, columns: Span, flatten: float
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Pixels (C, h, w) of a region and, for `flatten`, around it; rows and columns of the region in them."""
    header, halo = image.header, int(_TRUNCATED * flatten + 0.5)
    around = (
        (max(rows[0] - halo, 0), min(rows[1] + halo, header.height)),
        (max(columns[0] - halo, 0), min(columns[1] + halo, header.width)),
    )
    pixels = image.read(plane, *around)
    if pixels.dtype.kind not in "uif":
        raise ImageFileError(f"{image.path} has pixels of the type {pixels.dtype}, expected integers or real numbers")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        channel, row, column = (int(place) for place in np.argwhere(~np.isfinite(pixels))[0])
        where = f"row {around[0][0] + row}, column {around[1][0] + column}, channel {channel}"
        raise ImageFileError(
            f"{image.path}, plane {plane}: the grey value in {where}, is {pixels[channel, row, column]}. Normalisation "
            "would spread it over the image: replace NaN and infinite values in the file, for example by the mean"
        )
    inner = tuple(
        slice(part[0] - all_[0], part[1] - all_[0]) for part, all_ in zip((rows, columns), around, strict=True)
    )
    return pixels, inner  # type: ignore[return-value]


def _values(channel: np.ndarray, divisor: float, flatten: float) -> np.ndarray:
    """Values (h, w) in float64 of grey values: divided, and without the light."""
    values = channel.astype(np.float64) / divisor
    return flattened(torch.from_numpy(values), flatten).numpy() if flatten else values


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean, and sum of the squared distances from the mean."""
    if values.dtype in (np.uint8, np.uint16):  # a table of all values is several times as fast
        numbers = np.bincount(values)
        values, weights = np.arange(len(numbers), dtype=np.float64), numbers
    else:
        values, weights = values.astype(np.float64), None
    mean = float(np.average(values, weights=weights))
    distances = (values - mean) ** 2
    return mean, float(distances.sum() if weights is None else distances @ weights)
