"""The overlap-tile strategy of Fig. 2 (arXiv 1505.04597) as integer arithmetic: which tiles, where, and how large.

Everything counts from pixel 0 of the image. A tile that answers for the pixels from `start` on reads the mirrored image
from `start - margin` on; one pass over the whole mirrored image reads from `-margin` on. So the poolings of both meet
the same pixels exactly where `start` is a multiple of 2^depth: that is the step rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from scripts.checks import check_choice
from scripts.networks import geometry

PADDINGS = ("valid", "same", "retain_dim")


class TileRule:
    """What a network asks of its input size, and how much of its answer may be used.

    Args:
        depth: number of 2x2 poolings, 4 in the paper.
        padding: "valid", unpadded convolutions: tiles of 16k + 60 come out shorter by 2 * 92 (depth 4);
            "same", zero-padded: tiles of 16k come out as large;
            "retain_dim", unpadded and interpolated back: tiles of 16k + 60 come out as large.
        margin: pixels at each side of a tile that its answer does not count for. Fixed for "valid" (92 at depth 4). For
            "same" by default 7 * 2^depth (112), out of reach of the zeros at the tile's edge: with 2x2 up-convolutions
            they spoil 94 pixels, with 3x3 ones 109 (at depth 4). For "retain_dim" by default 0: its interpolation moves
            every pixel, which no cut can mend.

    Raises:
        ValueError: unknown padding, depth below 1, a margin that `padding` does not allow.
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
                f"margin must be a multiple of 2^depth = {self.step} to keep the phase of the pooling, got {margin}; "
                f"the next is {max(0, -(-self.margin // self.step)) * self.step}"
            )

    def tile_for(self, output: int) -> int:
        """The smallest tile length whose usable output has at least `output` pixels: 385 -> 572."""
        wanted = max(1, output) + 2 * self.margin
        if self.padding == "same":
            return -(-wanted // self.step) * self.step
        return geometry.valid_input_size(wanted, self.depth)

    def at_most(self, length: int) -> int:
        """The largest tile length up to `length` that serves images of any size, at least the smallest: 571 -> 556."""
        smallest = self.tile_for(self.step)
        return smallest + max(0, length - smallest) // self.step * self.step

    def usable(self, tile: int) -> int:
        """Usable output pixels of a tile of length `tile`: 572 -> 388."""
        return tile - 2 * self.margin

    def network_output(self, tile: int) -> int:
        """Length of what the network itself gives for a tile: 388 for an unpadded tile of 572, 572 for a padded one."""
        return self.usable(tile) if self.padding == "valid" else tile

    def check(self, tile: int) -> None:
        """Raise ValueError where `tile` does not fit, naming the nearest lengths that do."""
        above = self.tile_for(tile - 2 * self.margin)
        if above == tile:
            return
        below = above - self.step
        lengths = f"{below} and {above}" if below >= self.tile_for(1) and below < tile else f"{above}"
        raise ValueError(
            f"tile_size {tile} does not fit {self.depth} poolings with padding={self.padding!r}, "
            f"margin={self.margin}; the nearest that fits: {lengths} (output {self.usable(above)})"
        )


class Tile(NamedTuple):
    """The image pixels that one tile answers for: rows and columns, each [start, stop)."""

    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True)
class TilePlan:
    """Tiles that together fill an image, each pixel once.

    Attributes:
        tile_size: (height, width) of what the network gets, the same for every tile.
        margin: a tile that answers from row r on is cut from row r - margin on, columns likewise.
        tiles: row by row.
    """

    tile_size: tuple[int, int]
    margin: int
    tiles: tuple[Tile, ...]

    @property
    def work(self) -> int:
        """Pixels that the network sees in all."""
        return len(self.tiles) * self.tile_size[0] * self.tile_size[1]


def plan_tiles(
    image_size: Sequence[int],
    rule: TileRule | None = None,
    tile_size: int | Sequence[int] | None = None,
    max_pixels: int | None = None,
    authors_stride: bool = False,
) -> TilePlan:
    """Lay tiles over an image: 512 x 512 -> one tile of 700, or four of 572 with outputs from 0 and 384 on.

    Args:
        image_size: (H, W), each at least 1.
        rule: of the network; None: the paper's.
        tile_size: input length of a tile, for both axes or (height, width). None: the least work within `max_pixels`.
        max_pixels: largest height * width of a tile where `tile_size` is None; None: no limit.
        authors_stride: step by the whole output (388) as the paper does, instead of by the largest multiple of 2^depth
            in it (384). The pooling grid then shifts from tile to tile, and the seams show.

    Raises:
        ValueError: an empty image, a tile that does not fit or puts out too little to step, `max_pixels` too small.
    """
    rule = rule or TileRule()
    height, width = (int(n) for n in image_size)
    if min(height, width) < 1:
        raise ValueError(f"an image needs at least one pixel, got {height} x {width}")
    phase = 1 if authors_stride else rule.step
    if tile_size is None:
        tile_size = _least_work((height, width), rule, phase, max_pixels)
    tile_height, tile_width = (tile_size, tile_size) if isinstance(tile_size, int) else (int(n) for n in tile_size)
    rows = _spans(height, tile_height, rule, phase)
    columns = _spans(width, tile_width, rule, phase)
    return TilePlan((tile_height, tile_width), rule.margin, tuple(Tile(r, c) for r, c in product(rows, columns)))


def smallest_tile(image_size: Sequence[int], rule: TileRule, authors_stride: bool = False) -> tuple[int, int]:
    """(height, width) of the smallest tile that `plan_tiles` can lay over an image."""
    height, width = (rule.tile_for(1 if authors_stride else min(n, rule.step)) for n in image_size)
    return height, width


def _spans(size: int, tile: int, rule: TileRule, phase: int) -> list[tuple[int, int]]:
    """Pixels [start, stop) of one axis that each tile answers for."""
    rule.check(tile)
    output = rule.usable(tile)
    if output >= size:
        return [(0, size)]
    step = output // phase * phase
    if step < 1:
        raise ValueError(
            f"tile_size {tile} gives {output} pixels of output, too few for a seamless step of {phase} over {size}; "
            f"the smallest that serves is {rule.tile_for(phase)}"
        )
    count = 1 + -(-(size - output) // step)
    starts = [i * step for i in range(count)]
    return list(zip(starts, [*starts[1:], size], strict=True))


def _least_work(image_size: tuple[int, int], rule: TileRule, phase: int, max_pixels: int | None) -> tuple[int, int]:
    """(height, width) of the tile with which the network sees the fewest pixels in all.

    Work is a product of the axes' works, so for each height the best width is a running minimum over those that the
    limit still allows: n log n for n candidate lengths, where trying all pairs would take n^2.
    """
    (heights, row_work), (widths, column_work) = (_candidates(n, rule, phase) for n in image_size)
    limit = int(heights[-1] * widths[-1]) if max_pixels is None else max_pixels
    allowed = np.searchsorted(widths, limit // heights, side="right")  # widths[:allowed[i]] go with heights[i]
    if allowed[0] == 0:
        raise ValueError(f"a tile may have {limit} pixels, but the smallest that serves is {heights[0]} x {widths[0]}")
    best = np.minimum.accumulate(column_work)
    work = np.where(allowed > 0, row_work * best[allowed - 1], np.iinfo(np.int64).max)
    row = _last_least(work)
    column = _last_least(column_work[: allowed[row]])
    return int(heights[row]), int(widths[column])


def _last_least(work: np.ndarray) -> int:
    """Index of the least work; of equals the last, which is the largest tile."""
    return len(work) - 1 - int(np.argmin(work[::-1]))


def _candidates(size: int, rule: TileRule, phase: int) -> tuple[np.ndarray, np.ndarray]:
    """Tile lengths worth considering along an axis, ascending, and the pixels that tiles of each length read in all."""
    tiles = np.arange(rule.tile_for(min(size, phase)), rule.tile_for(size) + 1, rule.step, dtype=np.int64)
    output = tiles - 2 * rule.margin
    step = np.maximum(output // phase * phase, 1)
    count = 1 + np.maximum(0, -(-(size - output) // step))
    return tiles, tiles * count
