"""Find the objects of a block, and give the final labels of a block once the objects of all blocks are joined."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..io.files import replacing
from ..io.names import shown
from ..transforms.objects import field_of_interest, instances_from_scores
from ..transforms.separation import close_gaps, split_at_necks
from .grid import Block, BlockGrid, Span

HALO = 256  # pixels
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # rows, columns of blocks
ReadLabels = Callable[[int, Span, Span], np.ndarray]  # plane, rows, columns -> labels


@dataclass(frozen=True)
class BlockSeam:
    """Objects of a block at its seams, as needed to join them with the objects of other blocks.

    The labels of a block are numbered in three groups: `inside`, then the crossing objects, then `off_field`.

    Args:
        inside: number of objects without a pixel beside another block. Their labels are 1 .. inside.
        off_field: number of these objects wholly within `field_border` of the plane's edge. Removed after gaps are
            closed.
        areas: int64 (C,). Pixels in this block of the C crossing objects, which touch another block.
        in_field: bool (C,). Crossing objects with a pixel in this block beyond `field_border`.
        border: uint32 (2h + 2w + 4,). Labels of the block's outermost pixels, facing each of `DIRECTIONS`: h or w
            pixels on a side, 1 at a corner.
        ring: uint32 (2h + 2w + 4,). Labels of the pixels just beyond the block, in the numbers of this block, in the
            same order. 0: background, an object without a pixel in this block, or outside of the plane.
    """

    inside: int
    off_field: int
    areas: np.ndarray
    in_field: np.ndarray
    border: np.ndarray
    ring: np.ndarray

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BlockSeam:
        """Read the seam from a file of `BlockObjects`, without the labels.

        Raises:
            ValueError: the file is damaged. The message names the file.
        """
        arrays = load_arrays(path, [field.name for field in fields(cls)])
        return cls(int(arrays.pop("inside")), int(arrays.pop("off_field")), **arrays)


@dataclass(frozen=True)
class BlockObjects:
    """Objects of a block before they are joined with the objects of other blocks.

    Args:
        labels: uint32 (h, w), 0 = background. Numbers of this block.
        seam: what joining needs.

    Example:
        >>> from scripts.large import BlockGrid, block_objects
        >>> grid = BlockGrid(planes=1, height=1, width=4, size=2)
        >>> block_objects(np.array([[0, 1, 1]]), grid, grid[0], halo=1).save("0.npz")
        >>> BlockObjects.load("0.npz").labels
        array([[0, 1]], dtype=uint32)
    """

    labels: np.ndarray
    seam: BlockSeam

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the objects as a compressed npz file. The file appears completely or not at all."""
        save_arrays(path, {"labels": self.labels, **vars(self.seam)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BlockObjects:
        """Read the objects from a file of `save`.

        Raises:
            ValueError: the file is damaged. The message names the file.
        """
        return cls(load_arrays(path, ["labels"])["labels"], BlockSeam.load(path))


def block_objects(
    scores: np.ndarray,
    grid: BlockGrid,
    block: Block,
    halo: int = HALO,
    *,
    threshold: float = 0.5,
    min_area: int = 0,
    connectivity: int = 1,
    fill_holes: int = 0,
    split: float = 0,
    field_border: int = 0,
) -> BlockObjects:
    """Find the objects of a block and its halo, as `scripts.transforms.objects.instances_from_scores` does in a plane.

    Joined by `join`, the objects equal those of the whole plane, with two exceptions. A hole is filled if it lies
    within the halo; holes smaller than the halo always do. An object with constrictions is cut as in the whole plane if
    the object lies within the halo.

    Args:
        scores: (H, W) of the block's window `grid.window(block, halo)`. Probabilities or classes, as in
            `instances_from_scores`.
        grid: all blocks.
        block: the block.
        halo: pixels of `scores` around the block, at least 1.
        threshold, connectivity, fill_holes, split: as in `instances_from_scores`.
        min_area: as in `instances_from_scores`. Smaller objects inside the block are removed here, others by `join`.
        field_border: as in `instances_from_scores`, but objects are removed by `final_labels`.

    Returns:
        The objects, with the numbers of this block.

    Raises:
        ValueError: as `instances_from_scores`. The scores do not fit the window, or the halo is below 1.

    Example:
        >>> from scripts.large import BlockGrid
        >>> grid = BlockGrid(planes=1, height=2, width=8, size=4)
        >>> scores = np.array([[1, 0, 0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1]])
        >>> found = block_objects(scores[:, :6], grid, grid[0], halo=2)
        >>> found.labels
        array([[1, 0, 0, 2],
               [0, 0, 0, 0]], dtype=uint32)
        >>> found.seam.inside, found.seam.areas
        (1, array([1]))
    """
    rows, columns = grid.window(block, halo)
    expected = (rows[1] - rows[0], columns[1] - columns[0])
    if halo < 1:
        raise ValueError(f"the halo of a block must be 1 px or more, got {halo}")
    if scores.shape != expected:
        raise ValueError(
            f"block {block.number} needs the scores of rows {rows} and columns {columns}, {expected[0]} x {expected[1]}"
            f" px, got the shape {scores.shape}"
        )
    field = field_of_interest(grid.height, grid.width, field_border)
    top, left = block.rows[0] - rows[0], block.columns[0] - columns[0]
    height, width = block.shape
    own = np.s_[top : top + height, left : left + width]

    found = instances_from_scores(scores, threshold, 0, connectivity, fill_holes)
    there = _present(found[own], found.max(initial=0))
    found = np.where(there, np.cumsum(there), 0)[found]  # objects of the halo alone need no cuts
    found = split_at_necks(found, split)

    count = int(found.max(initial=0))
    outermost = outermost_labels(found[own], grid, block)
    crosses = _present(outermost, count)
    areas = np.bincount(found[own].ravel(), minlength=count + 1)
    inside = (areas >= max(min_area, 1)) & ~crosses
    inside[0] = False
    in_field = _present(found[own][_overlap(block, field)], count)
    renumber = np.zeros(count + 1, np.uint32)
    groups = [np.flatnonzero(group) for group in (inside & in_field, crosses, inside & ~in_field)]
    ordered = np.concatenate(groups)
    renumber[ordered] = np.arange(1, len(ordered) + 1)
    return BlockObjects(
        renumber[found[own]],
        BlockSeam(
            inside=len(groups[0]),
            off_field=len(groups[2]),
            areas=areas[groups[1]],
            in_field=in_field[groups[1]],
            border=renumber[outermost],
            ring=renumber[_ring(np.pad(found, 1)[top : top + height + 2, left : left + width + 2])],
        ),
    )


def final_labels(
    read: ReadLabels, grid: BlockGrid, block: Block, gap: int = 0, objects: int | None = None, margin: int = 0
) -> np.ndarray:
    """Close gaps in a block and remove objects outside the field of interest, exactly as in the whole plane.

    An exception: an object reaches from the border zone into the field only by the closing of a gap. The object is
    removed here, and stays in `instances_from_scores`.

    Args:
        read: returns the joined numbers of a window of a plane: `read(plane, rows, columns)`, see `JoinedLabels`. The
            window reaches `margin + closing_halo(gap)` pixels beyond the block.
        grid: all blocks.
        block: the block.
        gap: as in `scripts.transforms.objects.instances_from_scores`.
        objects: number of objects of the plane, `Joined.objects[plane]`. Higher numbers are outside the field of
            interest and removed. None: all stay.
        margin: pixels around the block in the result, within the plane. `measure_block` needs 2.

    Returns:
        Array of the type of `read` for the window `grid.window(block, margin)`: (h, w) without margin.

    Example:
        >>> from scripts.large import BlockGrid
        >>> grid = BlockGrid(planes=1, height=1, width=8, size=4)
        >>> numbers = np.array([[1, 1, 0, 0, 2, 2, 0, 3]], np.uint32)
        >>> final_labels(lambda plane, rows, columns: numbers[slice(*rows), slice(*columns)], grid, grid[0], gap=2)
        array([[1, 1, 1, 2]], dtype=uint32)
    """
    rows, columns = grid.window(block, margin + closing_halo(gap))
    labels = close_gaps(read(block.plane, rows, columns), gap)
    (top, bottom), (left, right) = grid.window(block, margin)
    labels = labels[top - rows[0] : bottom - rows[0], left - columns[0] : right - columns[0]]
    return labels if objects is None else np.where(labels > objects, labels.dtype.type(0), labels)


def closing_halo(gap: int) -> int:
    """Get the pixels around a block that decide how its gaps are closed.

    With the next even width W: `close_gaps` looks 2 W pixels along rows and columns for both objects of a gap, and a
    label grows over W / 2 pixels, the first of which may be W / 2 - 1 pixels away.

    Example:
        >>> closing_halo(0), closing_halo(1), closing_halo(2), closing_halo(4)
        (0, 4, 4, 9)
    """
    width = gap + gap % 2
    return 2 * width + width // 2 - 1 if width else 0


def save_arrays(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Write arrays as a compressed npz file. The file appears completely or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_arrays(path: str | os.PathLike[str], names: list[str]) -> dict[str, np.ndarray]:
    """Read some arrays of an npz file.

    Raises:
        ValueError: the file is damaged, or has no such array. The message names the file.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{shown(Path(path))} is damaged: no arrays {', '.join(names)} ({error}). Delete the file and process its "
            "block again."
        ) from error


def side(direction: int, height: int, width: int) -> slice:
    """Find the pixels towards `DIRECTIONS[direction]` in the border or ring of a block of height x width pixels.

    Example:
        >>> side(1, height=3, width=4)
        slice(1, 5, None)
    """
    lengths = [1, width, 1, height, height, 1, width, 1]
    start = sum(lengths[:direction])
    return slice(start, start + lengths[direction])


def outermost_labels(labels: np.ndarray, grid: BlockGrid, block: Block) -> np.ndarray:
    """List the labels of a block's outermost pixels facing each of `DIRECTIONS`, 0 at the edge of the plane.

    Args:
        labels: of the block, (h, w).
        grid: all blocks.
        block: the block.

    Returns:
        Array like `labels`, (2h + 2w + 4,). A corner appears three times.

    Example:
        >>> from scripts.large import BlockGrid
        >>> grid = BlockGrid(planes=1, height=2, width=4, size=2)
        >>> outermost_labels(np.array([[1, 2], [3, 4]]), grid, grid[0])  # the next block is on the right
        array([0, 0, 0, 0, 0, 0, 2, 4, 0, 0, 0, 0])
    """
    top, bottom, left, right = labels[0], labels[-1], labels[:, 0], labels[:, -1]
    outermost = np.concatenate([top[:1], top, top[-1:], left, right, bottom[:1], bottom, bottom[-1:]])
    rows, columns = grid.shape
    for number, (row, column) in enumerate(DIRECTIONS):
        if not (0 <= block.row + row < rows and 0 <= block.column + column < columns):
            outermost[side(number, *block.shape)] = 0
    return outermost


def _ring(labels: np.ndarray) -> np.ndarray:
    """List the outermost pixels of a block with one pixel more on each side, towards each of `DIRECTIONS`."""
    top, bottom, left, right = labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]
    return np.concatenate([top[:1], top[1:-1], top[-1:], left, right, bottom[:1], bottom[1:-1], bottom[-1:]])


def _present(labels: np.ndarray, highest: int) -> np.ndarray:
    """Find the labels above 0 that appear, bool (1 + highest)."""
    there = np.zeros(highest + 1, bool)
    there[labels.ravel()] = True
    there[0] = False
    return there


def _overlap(block: Block, window: tuple[Span, Span]) -> tuple[slice, slice]:
    """Find the pixels of a window of the plane within a block."""
    (top, bottom), (left, right) = window
    return (
        slice(max(top - block.rows[0], 0), max(bottom - block.rows[0], 0)),
        slice(max(left - block.columns[0], 0), max(right - block.columns[0], 0)),
    )
