"""Plan the tiles of the overlap-tile strategy (Fig. 2 of arXiv 1505.04597): how large, where, and how many at once.

Tiles are seamless if the poolings of every tile combine the same pixels as the poolings of a single pass over the
whole image. Therefore every tile starts at a multiple of 2^depth, counted from pixel 0 of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import NamedTuple

import numpy as np
from monai.utils import ensure_tuple_rep

from ..checks import check_choice
from ..networks import geometry
from .orientations import ORIENTATIONS, Orientation, Region, Span

PADDINGS = ("valid", "same", "retain_dim")


class TileRule:
    """Compute the tile lengths that fit a network, and the usable part of the output.

    Args:
        depth: number of 2x2 poolings, 4 in the paper.
        padding: padding of the convolutions. The numbers are for depth 4.
            "valid": none; tiles of 16k + 60 pixels have an output smaller by 2 * 92.
            "same": zeros; tiles of 16k pixels have an output of the same size.
            "retain_dim": none, and the output is interpolated to the size of the tile, 16k + 60.
        margin: pixels of context at each side of a tile. Their output is not used. None: see below.
            "valid": always the loss of the network, 92 at depth 4.
            "same": a multiple of 2^depth, by default 7 * 2^depth (112). The padding's zeros change fewer pixels:
            94 with 2x2 up-convolutions, 109 with 3x3.
            "retain_dim": by default 0. Interpolation moves every pixel, and no margin makes the tiles seamless.

    Raises:
        ValueError: unknown padding, depth below 1, a margin not allowed with `padding`.

    Example:
        >>> rule = TileRule()
        >>> rule.tile_for(385), rule.usable(572), rule.at_most(571)
        (572, 388, 556)
    """

    def __init__(self, depth: int = 4, padding: str = "valid", margin: int | None = None) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1 pooling, got {depth}")
        check_choice("padding", padding, PADDINGS)
        default = {"valid": geometry.margin(depth), "same": 7 * 2**depth, "retain_dim": 0}[padding]
        self.depth = depth
        self.padding = padding
        self.margin = default if margin is None else margin
        self.step = 2**depth
        if padding == "valid" and self.margin != default:
            raise ValueError(f"an unpadded network of depth {depth} loses {default} pixels a side, got margin={margin}")
        if self.margin < 0 or (padding == "same" and self.margin % self.step):
            raise ValueError(
                f"margin must be a multiple of 2^depth = {self.step}, got {margin}. "
                f"The next is {max(0, ceil(self.margin / self.step)) * self.step}"
            )

    def tile_for(self, output: int) -> int:
        """Get the smallest tile length with at least `output` usable pixels: 385 -> 572."""
        wanted = max(1, output) + 2 * self.margin
        if self.padding == "same":
            return ceil(wanted / self.step) * self.step
        return geometry.valid_input_size(wanted, self.depth)

    def at_most(self, length: int) -> int:
        """Get the largest tile length up to `length` that can step over any image, or the smallest: 571 -> 556."""
        smallest = self.tile_for(self.step)
        return smallest + max(0, length - smallest) // self.step * self.step

    def usable(self, tile: int) -> int:
        """Get the usable output pixels of a tile of length `tile`: 572 -> 388."""
        return tile - 2 * self.margin

    def network_output(self, tile: int) -> int:
        """Get the length of the network's whole output: 388 for an unpadded tile of 572, 572 for a padded tile."""
        return self.usable(tile) if self.padding == "valid" else tile

    def check(self, tile: int) -> None:
        """Raise ValueError if the length `tile` does not fit; name the nearest lengths that fit."""
        above = self.tile_for(self.usable(tile))
        if above == tile:
            return
        nearest = [str(length) for length in (above - self.step, above) if length >= self.tile_for(1)]
        raise ValueError(
            f"tile_size {tile} does not fit {self.depth} poolings with padding={self.padding!r}, "
            f"margin={self.margin}. The nearest that fits: {' and '.join(nearest)} (output {self.usable(above)})"
        )


class Tile(NamedTuple):
    """The image pixels for the output of a tile: rows and columns, each [start, stop)."""

    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True)
class TilePlan:
    """Tiles to fill an image, each pixel once. `plan_tiles` makes a plan.

    Attributes:
        tile_size: (height, width) of the network's input in pixels, the same for all tiles.
        margin: pixels of context at each side of a tile. A tile whose output starts at row r reads the image from row
            r - `margin` on.
        tiles: output areas of the tiles in the image, row by row.
    """

    tile_size: tuple[int, int]
    margin: int
    tiles: tuple[Tile, ...]


class TileJob(NamedTuple):
    """A tile of an image, by number, in an orientation."""

    image: int
    orientation: Orientation
    tile: Tile


class TileBatch(NamedTuple):
    """Tiles of the same size (height, width) for a forward pass. As text: "2 tiles of 572 x 572"."""

    tile_size: tuple[int, int]
    jobs: list[TileJob]

    @property
    def pixels(self) -> int:
        """Input pixels of all tiles together."""
        return len(self.jobs) * prod(self.tile_size)

    def __str__(self) -> str:
        height, width = self.tile_size
        return f"{len(self.jobs)} tile{'s' if len(self.jobs) > 1 else ''} of {height} x {width}"


def plan_tiles(
    image_size: Sequence[int],
    rule: TileRule | None = None,
    tile_size: int | Sequence[int] | None = None,
    max_pixels: int | None = None,
    authors_stride: bool = False,
) -> TilePlan:
    """Lay tiles over an image.

    Args:
        image_size: (H, W), each at least 1.
        rule: lengths that fit the network; None: the paper's.
        tile_size: input length of a tile, for both axes or (height, width). None: the least work within `max_pixels`.
        max_pixels: largest height * width of a tile if `tile_size` is None; None: no limit.
        authors_stride: step by the whole output (388), as the paper does. The seams show, because the pooling
            grid shifts from tile to tile. False: step by the largest multiple of 2^depth in the output (384).

    Raises:
        ValueError: an empty image, a tile that does not fit or has too little output to step, `max_pixels` too small.

    Example:
        >>> plan_tiles((512, 512)).tile_size  # one tile
        (700, 700)
        >>> [tile.columns for tile in plan_tiles((300, 512), tile_size=572).tiles]
        [(0, 384), (384, 512)]
    """
    rule = rule or TileRule()
    height, width = (int(n) for n in image_size)
    if min(height, width) < 1:
        raise ValueError(f"an image needs at least one pixel, got {height} x {width}")
    phase = 1 if authors_stride else rule.step
    if tile_size is None:
        tile_size = _least_work((height, width), rule, phase, max_pixels)
    tile_height, tile_width = ensure_tuple_rep(tile_size, 2)
    rows = _spans(height, tile_height, rule, phase)
    columns = _spans(width, tile_width, rule, phase)
    return TilePlan((tile_height, tile_width), rule.margin, tuple(Tile(r, c) for r, c in product(rows, columns)))


def smallest_tile(
    image_size: Sequence[int],
    rule: TileRule,
    tile_size: int | Sequence[int] | None = None,
    authors_stride: bool = False,
) -> tuple[int, int]:
    """Get (height, width) of the smallest tile for an image, or of the tile given by `tile_size`.

    Example:
        >>> smallest_tile((512, 3), TileRule())
        (204, 188)
    """
    if tile_size is None:
        tile_size = [rule.tile_for(1 if authors_stride else min(n, rule.step)) for n in image_size]
    return ensure_tuple_rep(tile_size, 2)


def plan_batches(
    shape: Sequence[int],
    rule: TileRule,
    tile_size: int | Sequence[int] | None,
    max_pixels: int,
    sw_batch_size: int | None = None,
    orientations: int = 1,
    authors_stride: bool = False,
    region: Region | None = None,
) -> list[TileBatch]:
    """Plan the tiles of all images and orientations in as few forward passes as the limits allow.

    Args:
        rule, tile_size, authors_stride: as in `plan_tiles`.
        shape: (B, C, H, W) of the images.
        max_pixels: most input pixels of a forward pass. A single tile of a given `tile_size` may have more.
        sw_batch_size: most tiles per forward pass; None: as many as `max_pixels` allows.
        orientations: 1, 4 or 8.
        region: the pixels wanted. None: whole images. Tiles keep to the pooling grid of the whole image.

    Example:
        >>> [str(batch) for batch in plan_batches((3, 1, 512, 512), TileRule(), None, max_pixels=10**6)]
        ['2 tiles of 700 x 700', '1 tile of 700 x 700']
    """
    image_size = (shape[-2], shape[-1])
    by_size: dict[tuple[int, int], list[TileJob]] = {}
    region = region or Region((0, image_size[0]), (0, image_size[1]))
    for orientation in ORIENTATIONS[orientations]:
        rows, columns = region.turned(orientation, image_size)
        top, left = (span[0] // rule.step * rule.step for span in (rows, columns))
        wanted = (rows[1] - top, columns[1] - left)
        plan = plan_tiles(wanted, rule, tile_size, max_pixels // (sw_batch_size or 1), authors_stride)
        tiles = [Tile(_moved(tile.rows, top), _moved(tile.columns, left)) for tile in plan.tiles]
        jobs = by_size.setdefault(plan.tile_size, [])
        jobs += [TileJob(image, orientation, tile) for image in range(shape[0]) for tile in tiles]
    batches = []
    for size, jobs in by_size.items():
        count = sw_batch_size or max(1, max_pixels // prod(size))
        batches += [TileBatch(size, jobs[first : first + count]) for first in range(0, len(jobs), count)]
    return batches


def _moved(span: Span, by: int) -> Span:
    return span[0] + by, span[1] + by


def _spans(size: int, tile: int, rule: TileRule, phase: int) -> list[tuple[int, int]]:
    """Get the pixels [start, stop) of an axis of `size` pixels for tiles of length `tile`."""
    rule.check(tile)
    output = rule.usable(tile)
    if output >= size:
        return [(0, size)]
    step = output // phase * phase
    if step < 1:
        raise ValueError(
            f"tile_size {tile} gives {output} pixels of output, too few for a seamless step of {phase} over {size}. "
            f"The smallest that serves is {rule.tile_for(phase)}"
        )
    starts = range(0, size - output + step, step)
    return list(zip(starts, [*starts[1:], size], strict=True))


def _least_work(image_size: tuple[int, int], rule: TileRule, phase: int, max_pixels: int | None) -> tuple[int, int]:
    """Get (height, width) of the tile with the fewest input pixels in all; of equals, the largest tile."""
    (heights, row_work), (widths, column_work) = (_candidates(n, rule, phase) for n in image_size)
    allowed = np.outer(heights, widths) <= (np.inf if max_pixels is None else max_pixels)
    if not allowed[0, 0]:
        raise ValueError(f"a tile may have {max_pixels} pixels, but the smallest has {heights[0]} x {widths[0]}")
    work = np.outer(row_work, column_work)
    row, column = np.argwhere(allowed & (work == work[allowed].min()))[-1]
    return heights[row], widths[column]


def _candidates(size: int, rule: TileRule, phase: int) -> tuple[list[int], list[int]]:
    """Get the tile lengths for an axis of `size` pixels, ascending, and the pixels that tiles of each length read."""
    lengths = list(range(rule.tile_for(min(size, phase)), rule.tile_for(size) + 1, rule.step))
    return lengths, [length * len(_spans(size, length, rule, phase)) for length in lengths]
