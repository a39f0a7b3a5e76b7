"""Divide the planes of an image into blocks, which are segmented, written and counted one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

Span = tuple[int, int]  # [start, stop) of pixels along an axis


class Block(NamedTuple):
    """A block of a plane.

    Args:
        number: place in the order of all blocks: plane by plane, row by row.
        plane: number of the plane.
        row, column: place of the block in the grid of its plane.
        rows, columns: pixels [start, stop) of the block in its plane.
    """

    number: int
    plane: int
    row: int
    column: int
    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


@dataclass(frozen=True)
class BlockGrid:
    """All blocks of an image of P planes, each H x W.

    Args:
        planes: number of planes.
        height, width: of each plane, in pixels.
        size: height and width of a block. The last blocks of an axis may be smaller.

    Example:
        >>> grid = BlockGrid(planes=1, height=5, width=7, size=4)
        >>> [(block.rows, block.columns) for block in grid]
        [((0, 4), (0, 4)), ((0, 4), (4, 7)), ((4, 5), (0, 4)), ((4, 5), (4, 7))]
        >>> grid.window(grid[0], halo=2)
        ((0, 5), (0, 6))
    """

    planes: int
    height: int
    width: int
    size: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of blocks in a plane."""
        return ceil(self.height / self.size), ceil(self.width / self.size)

    def __len__(self) -> int:
        rows, columns = self.shape
        return self.planes * rows * columns

    def __getitem__(self, number: int) -> Block:
        if not 0 <= number < len(self):
            raise IndexError(f"block {number} of {len(self)}")
        rows, columns = self.shape
        plane, place = divmod(number, rows * columns)
        row, column = divmod(place, columns)
        return Block(number, plane, row, column, self._span(row, self.height), self._span(column, self.width))

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    def at(self, plane: int, row: int, column: int) -> Block:
        """Get the block at a place of the grid."""
        rows, columns = self.shape
        if not (0 <= plane < self.planes and 0 <= row < rows and 0 <= column < columns):
            raise IndexError(f"block ({row}, {column}) of plane {plane} in a grid of {rows} x {columns}")
        return self[(plane * rows + row) * columns + column]

    def around(self, block: Block) -> list[Block]:
        """List the up to 8 blocks that share an edge or a corner with a block, in order."""
        rows, columns = self.shape
        return [
            self.at(block.plane, row, column)
            for row in range(max(block.row - 1, 0), min(block.row + 2, rows))
            for column in range(max(block.column - 1, 0), min(block.column + 2, columns))
            if (row, column) != (block.row, block.column)
        ]

    def window(self, block: Block, halo: int) -> tuple[Span, Span]:
        """Get rows and columns of a block with `halo` pixels on all sides, within the plane."""
        return (
            (max(block.rows[0] - halo, 0), min(block.rows[1] + halo, self.height)),
            (max(block.columns[0] - halo, 0), min(block.columns[1] + halo, self.width)),
        )

    def _span(self, place: int, length: int) -> Span:
        return place * self.size, min((place + 1) * self.size, length)
