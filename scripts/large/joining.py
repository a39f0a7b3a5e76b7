"""Join the objects of blocks over their seams, and number the objects of each plane."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from ..compiled import compiled
from .grid import Block, BlockGrid, Span
from .objects import DIRECTIONS, BlockSeam, load_arrays, save_arrays, side

HIGHEST = np.iinfo(np.uint32).max  # of a label


@dataclass(frozen=True)
class Joined:
    """Numbers of the objects of all B blocks, 1 .. n in each of P planes.

    First come the objects inside a block, in the order of blocks, then the objects of several blocks. Higher numbers
    than `objects` belong to objects outside the field of interest, see `final_labels`.

    Args:
        objects: int64 (P,). Number of objects in each plane.
        inside, before_inside: int64 (B,). Number of objects inside each block, and of the objects numbered before.
        off_field, before_off_field: int64 (B,). Likewise for objects outside the field of interest.
        crossing: uint32 (C,). Numbers of the crossing objects of all blocks, 0 = removed.
        ends: int64 (B,). Place in `crossing` after the objects of each block.

    Example:
        >>> from scripts.large import BlockGrid, block_objects, join
        >>> grid = BlockGrid(planes=1, height=1, width=4, size=2)
        >>> windows = [np.array([[0, 1, 1]]), np.array([[1, 1, 1]])]
        >>> joined = join(grid, [block_objects(w, grid, block, halo=1).seam for w, block in zip(windows, grid)])
        >>> joined.objects, joined.mapping(1)
        (array([1]), array([0, 1], dtype=uint32))
    """

    objects: np.ndarray
    inside: np.ndarray
    before_inside: np.ndarray
    off_field: np.ndarray
    before_off_field: np.ndarray
    crossing: np.ndarray
    ends: np.ndarray

    def mapping(self, block: int) -> np.ndarray:
        """Get the number of each label of a block.

        Args:
            block: number of the block.

        Returns:
            uint32 (1 + labels of the block,), 0 for the background and removed objects.
        """
        start, stop = self.ends[block - 1] if block else 0, self.ends[block]
        parts = (
            [0],
            self.before_inside[block] + np.arange(1, self.inside[block] + 1),
            self.crossing[start:stop],
            self.before_off_field[block] + np.arange(1, self.off_field[block] + 1),
        )
        return np.concatenate(parts).astype(np.uint32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the numbers as a compressed npz file. The file appears completely or not at all."""
        save_arrays(path, vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Joined:
        """Read the numbers from a file of `save`.

        Raises:
            ValueError: the file is damaged. The message names the file.
        """
        return cls(**load_arrays(path, [field.name for field in fields(cls)]))


def join(grid: BlockGrid, seams: Iterable[BlockSeam], min_area: int = 0) -> Joined:
    """Join the objects of all blocks, and number them in each plane.

    A pixel at a seam has a label in two blocks: in the border of its own block and in the ring of the other. Both are
    the same object. Memory holds two numbers for each crossing object of a plane, and the seams of a row of blocks.

    Args:
        grid: all blocks.
        seams: of all blocks, in the order of `grid`. May be a generator.
        min_area: in pixels. Smaller objects are removed.

    Returns:
        The numbers of all objects.

    Raises:
        ValueError: there are fewer or more seams than blocks, a seam has another size than its block, or a plane has
            more than 2^32 - 1 objects.

    Example:
        >>> from scripts.large import BlockGrid, block_objects
        >>> grid = BlockGrid(planes=1, height=2, width=8, size=4)
        >>> scores = np.array([[1, 0, 0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1]])
        >>> windows = [scores[:, :6], scores[:, 2:]]
        >>> blocks = [block_objects(window, grid, block, halo=2) for window, block in zip(windows, grid)]
        >>> joined = join(grid, [block.seam for block in blocks])
        >>> [joined.mapping(block.number)[found.labels].tolist() for found, block in zip(blocks, grid)]
        [[[1, 0, 0, 3], [0, 0, 0, 0]], [[3, 0, 2, 2], [0, 0, 2, 2]]]
    """
    objects = np.zeros(grid.planes, np.int64)
    inside, off_field, lengths, before_inside, before_off_field = np.zeros((5, len(grid)), np.int64)
    crossing = array("I")
    remaining = iter(seams)
    blocks = len(grid) // grid.planes
    for plane in range(grid.planes):
        own = slice(plane * blocks, (plane + 1) * blocks)
        found = _Crossing()
        for number in range(own.start, own.stop):
            seam = next(remaining, None)
            if seam is None:
                raise ValueError(f"there are seams of {number} blocks, the grid has {len(grid)} blocks")
            found.add(grid, grid[number], seam)
            inside[number], off_field[number], lengths[number] = seam.inside, seam.off_field, len(seam.areas)
        within = int(inside[own].sum())
        kept, others = found.count(min_area)
        highest = within + kept + others + int(off_field[own].sum())
        if highest > HIGHEST:
            raise ValueError(f"plane {plane} has {highest} objects, labels go up to {HIGHEST}; raise min_area")
        objects[plane] = within + kept
        before_inside[own] = np.cumsum(inside[own]) - inside[own]
        before_off_field[own] = within + kept + others + np.cumsum(off_field[own]) - off_field[own]
        crossing.frombytes(found.numbers(min_area, within, within + kept).view(np.uint8).data)
    if next(remaining, None) is not None:
        raise ValueError(f"there are more seams than the {len(grid)} blocks of the grid")
    ends = np.cumsum(lengths)
    return Joined(objects, inside, before_inside, off_field, before_off_field, np.frombuffer(crossing, np.uint32), ends)


class JoinedLabels:
    """Read the joined numbers in any window of a plane.

    Args:
        grid: all blocks.
        load: returns the labels of a block, in the block's numbers: `lambda block: BlockObjects.load(path).labels`.
        joined: the numbers.
        cached: blocks held in memory, uint32. The default serves a block and its 8 neighbours.

    Example:
        >>> from scripts.large import BlockGrid, block_objects, final_labels, join
        >>> grid = BlockGrid(planes=1, height=1, width=6, size=3)
        >>> scores = np.array([[1, 0, 1, 1, 0, 1]])
        >>> blocks = [block_objects(scores, grid, block, halo=3) for block in grid]
        >>> joined = join(grid, [block.seam for block in blocks])
        >>> read = JoinedLabels(grid, lambda block: blocks[block.number].labels, joined)
        >>> read(0, (0, 1), (1, 6))
        array([[0, 3, 3, 0, 2]], dtype=uint32)
        >>> final_labels(read, grid, grid[0], gap=1)
        array([[1, 3, 3]], dtype=uint32)
    """

    def __init__(self, grid: BlockGrid, load: Callable[[Block], np.ndarray], joined: Joined, cached: int = 9) -> None:
        self.grid = grid
        self._block = lru_cache(maxsize=cached)(lambda number: joined.mapping(number)[load(grid[number])])

    def __call__(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        """Get uint32 (rows, columns) of a window within a plane."""
        window = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), np.uint32)
        size = self.grid.size
        for row in range(rows[0] // size, -(-rows[1] // size)):
            for column in range(columns[0] // size, -(-columns[1] // size)):
                block = self.grid.at(plane, row, column)
                (to_rows, of_rows), (to_columns, of_columns) = (
                    _shared(rows, block.rows),
                    _shared(columns, block.columns),
                )
                window[to_rows, to_columns] = self._block(block.number)[of_rows, of_columns]
        return window


def _shared(window: Span, block: Span) -> tuple[slice, slice]:
    """Find the shared pixels along an axis, within the window and within the block."""
    start, stop = max(window[0], block[0]), min(window[1], block[1])
    return slice(start - window[0], stop - window[0]), slice(start - block[0], stop - block[0])


class _Crossing:
    """Crossing objects of a plane: a forest with a node for each label of a block, and the areas of the nodes."""

    def __init__(self) -> None:
        self.parents, self.areas, self.in_field = array("q"), array("q"), array("B")
        self.earlier: dict[int, tuple[BlockSeam, int]] = {}  # block number -> seam, node of label 0; of a row of blocks

    def add(self, grid: BlockGrid, block: Block, seam: BlockSeam) -> None:
        """Add the objects of the next block, and join them with the objects of earlier blocks."""
        _check(block, seam)
        first, count = len(self.parents), len(seam.areas)
        self.parents.frombytes(np.arange(first, first + count).view(np.uint8).data)
        self.areas.frombytes(np.ascontiguousarray(seam.areas, np.int64).view(np.uint8).data)
        self.in_field.frombytes(np.ascontiguousarray(seam.in_field, np.uint8).data)
        zero = first - seam.inside - 1
        parents = np.frombuffer(self.parents, np.int64)
        for direction, (row, column) in enumerate(DIRECTIONS[:4]):
            there = (block.row + row, block.column + column)
            if there[0] < 0 or not 0 <= there[1] < grid.shape[1]:
                continue
            neighbour = grid.at(block.plane, *there)
            other, other_zero = self.earlier[neighbour.number]
            here, back = side(direction, *block.shape), side(7 - direction, *neighbour.shape)
            _unite(parents, seam.ring[here], zero, other.border[back], other_zero)
            _unite(parents, seam.border[here], zero, other.ring[back], other_zero)
        self.earlier[block.number] = (seam, zero)
        self.earlier.pop(block.number - grid.shape[1] - 1, None)

    def count(self, min_area: int) -> tuple[int, int]:
        """Count the objects of at least `min_area` pixels in the field of interest, and the others. Call once."""
        return _add_up(*self._forest(), min_area)

    def numbers(self, min_area: int, before: int, before_others: int) -> np.ndarray:
        """Number the counted objects: for each node uint32, 0 = removed.

        Args:
            min_area: as in `count`.
            before: last number before the objects in the field of interest.
            before_others: last number before the others.
        """
        return _number(*self._forest(), min_area, before, before_others)

    def _forest(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (
            np.frombuffer(self.parents, np.int64),
            np.frombuffer(self.areas, np.int64),
            np.frombuffer(self.in_field, np.uint8),
        )


def _check(block: Block, seam: BlockSeam) -> None:
    """Refuse a seam of another block, or a damaged one."""
    pixels = 2 * sum(block.shape) + 4
    if not len(seam.border) == len(seam.ring) == pixels:
        raise ValueError(
            f"block {block.number} of {block.shape[0]} x {block.shape[1]} px has a border of {pixels} px, its seam has "
            f"{len(seam.border)} and a ring of {len(seam.ring)}. Find the objects of the block again."
        )
    used = np.concatenate([seam.border, seam.ring])
    used = used[used > 0]
    last = seam.inside + len(seam.areas)
    if len(seam.areas) != len(seam.in_field) or (used.size and not seam.inside < used.min() <= used.max() <= last):
        raise ValueError(
            f"block {block.number} has crossing objects {seam.inside + 1} to {last}, its seam has {used.min()} to "
            f"{used.max()}. Find the objects of the block again."
        )


@compiled
def _unite(parents: np.ndarray, labels: np.ndarray, zero: int, other_labels: np.ndarray, other_zero: int) -> None:
    """Join the objects with labels at the same pixels. A node's parent never comes after the node."""
    for i in range(len(labels)):
        again = i > 0 and labels[i] == labels[i - 1] and other_labels[i] == other_labels[i - 1]
        if labels[i] > 0 and other_labels[i] > 0 and not again:
            a, b = zero + np.int64(labels[i]), other_zero + np.int64(other_labels[i])
            while parents[a] != a:
                parents[a] = parents[parents[a]]
                a = parents[a]
            while parents[b] != b:
                parents[b] = parents[parents[b]]
                b = parents[b]
            parents[max(a, b)] = min(a, b)


@compiled
def _add_up(parents: np.ndarray, areas: np.ndarray, in_field: np.ndarray, min_area: int) -> tuple[int, int]:
    """Make the root the parent of every node, with the area of all its nodes, and count the roots.

    Returns:
        number of roots with at least `min_area` in the field of interest, and of those outside.
    """
    for i in range(len(parents)):
        root = parents[parents[i]]
        parents[i] = root
        if root != i:
            areas[root] += areas[i]
            in_field[root] |= in_field[i]
    kept = others = 0
    for i in range(len(parents)):
        if parents[i] == i and areas[i] >= min_area and in_field[i]:
            kept += 1
        elif parents[i] == i and areas[i] >= min_area:
            others += 1
    return kept, others


@compiled
def _number(
    parents: np.ndarray, areas: np.ndarray, in_field: np.ndarray, min_area: int, before: int, before_others: int
) -> np.ndarray:
    """Number the roots after `before` in the field of interest, after `before_others` outside, and all nodes alike."""
    numbers = np.zeros(len(parents), np.uint32)
    for i in range(len(parents)):
        if parents[i] != i:
            numbers[i] = numbers[parents[i]]
        elif areas[i] >= min_area and in_field[i]:
            before += 1
            numbers[i] = before
        elif areas[i] >= min_area:
            before_others += 1
            numbers[i] = before_others
    return numbers
