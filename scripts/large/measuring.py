"""Measure the objects of blocks, and write a table of the objects of a plane."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.measures import ObjectMeasures
from ..metrics.shapes import ObjectsCSV, measures_table, summary_table
from .grid import Block, BlockGrid
from .objects import load_arrays, outermost_labels, save_arrays

MARGIN = 2  # pixels around a block that decide the outlines of its objects
_ROWS = 2**16  # of a table, written at once


@dataclass(frozen=True)
class BlockMeasures:
    """Measures of the objects in a block.

    Args:
        whole: objects without a pixel beside another block.
        parts: parts of the other objects.
        class_pixels: int64 (K,). Pixels of each class. Empty without a class map.
        grey_dtype: type of the grey values.

    Example:
        >>> from scripts.large import BlockGrid, measure_block
        >>> grid = BlockGrid(planes=1, height=1, width=4, size=2)
        >>> measure_block(np.array([[0, 5, 5, 0]]), grid, grid[0]).save("0.npz")
        >>> BlockMeasures.load("0.npz").parts.areas
        array([1.])
    """

    whole: ObjectMeasures
    parts: ObjectMeasures
    class_pixels: np.ndarray
    grey_dtype: np.dtype

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the measures as a compressed npz file. The file appears completely or not at all."""
        save_arrays(
            path,
            {
                **{f"whole_{name}": values for name, values in self.whole._asdict().items()},
                **{f"parts_{name}": values for name, values in self.parts._asdict().items()},
                "class_pixels": self.class_pixels,
                "grey": np.zeros(0, self.grey_dtype),
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BlockMeasures:
        """Read the measures from a file of `save`.

        Raises:
            ValueError: the file is damaged. The message names the file.
        """
        names = [f"{group}_{name}" for group in ("whole", "parts") for name in ObjectMeasures._fields]
        arrays = load_arrays(path, [*names, "class_pixels", "grey"])
        half = len(names) // 2
        whole, parts = (ObjectMeasures(*(arrays[name] for name in some)) for some in (names[:half], names[half:]))
        return cls(whole, parts, arrays["class_pixels"], arrays["grey"].dtype)


def measure_block(
    labels: np.ndarray,
    grid: BlockGrid,
    block: Block,
    image: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> BlockMeasures:
    """Measure the objects, and the parts of objects, in a block.

    Args:
        labels: integer (H, W) of the window `grid.window(block, 2)`, from `final_labels(..., margin=2)`.
        grid: all blocks.
        block: the block.
        image: grey values of the block, (h, w) or (C, h, w). None: no intensities.
        classes: class map of the block, integer (h, w), for the shares of classes. None: no shares.

    Raises:
        ValueError: the shapes do not fit the block.

    Example:
        >>> from scripts.large import BlockGrid
        >>> grid = BlockGrid(planes=1, height=1, width=8, size=4)
        >>> found = measure_block(np.array([[1, 0, 2, 2, 2, 0]]), grid, grid[0])
        >>> found.whole.numbers, found.parts.numbers, found.parts.areas
        (array([1]), array([2]), array([2.]))
    """
    rows, columns = grid.window(block, MARGIN)
    window = (rows[1] - rows[0], columns[1] - columns[0])
    for name, array, expected in (
        ("labels", labels, window),
        ("image", image, block.shape),
        ("classes", classes, block.shape),
    ):
        if array is not None and array.shape[-2:] != expected:
            raise ValueError(
                f"block {block.number} needs {name} of {expected[0]} x {expected[1]} px, got the shape {array.shape}"
            )
    top, left = block.rows[0] - rows[0], block.columns[0] - columns[0]
    core = (slice(top, top + block.shape[0]), slice(left, left + block.shape[1]))
    channels = image[None] if image is not None and image.ndim == 2 else image
    objects = ObjectMeasures.of(labels, channels, core, origin=(rows[0], columns[0]))
    shared = np.isin(objects.numbers, outermost_labels(labels[core], grid, block))
    return BlockMeasures(
        whole=objects.take(~shared),
        parts=objects.take(shared),
        class_pixels=np.zeros(0, np.int64) if classes is None else np.bincount(classes.ravel().astype(int)),
        grey_dtype=np.dtype(np.float64) if image is None else image.dtype,
    )


def write_plane(
    table: ObjectsCSV,
    name: str,
    grid: BlockGrid,
    plane: int,
    load: Callable[[Block], BlockMeasures],
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    class_names: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Add the rows of all objects of a plane to a table. Numbers from `join` are in ascending order.

    Memory holds the parts of all objects in several blocks, the objects of one block, and the areas of all objects.

    Args:
        table: objects.csv.
        name: of the plane, for the column `image`.
        grid: all blocks.
        plane: number of the plane.
        load: returns the measures of a block: `lambda block: BlockMeasures.load(path)`. Called twice for each block.
        spacing, unit: as in `scripts.metrics.object_table`.
        class_names: names of all classes, for several classes.

    Returns:
        The row of the plane for images.csv, as from `scripts.metrics.image_summary`. The number of connected regions
        is missing for classes beyond class 1.

    Example:
        >>> from pathlib import Path
        >>> from scripts.large import BlockGrid, measure_block
        >>> from scripts.metrics import ObjectsCSV
        >>> grid = BlockGrid(planes=1, height=1, width=8, size=4)
        >>> labels = np.array([[1, 0, 3, 3, 3, 0, 2, 2]])
        >>> found = [measure_block(labels[:, :6], grid, grid[0]), measure_block(labels[:, 2:], grid, grid[1])]
        >>> summary = write_plane(ObjectsCSV(Path("objects.csv")), "a.tif", grid, 0, lambda block: found[block.number])
        >>> [row.split(",")[1:3] for row in Path("objects.csv").read_text().splitlines()]
        [['label', 'area_px'], ['1', '1.0'], ['2', '2.0'], ['3', '3.0']]
        >>> summary["objects"], summary["median_area_px"]
        (array([3]), array([2.]))
    """
    count = len(grid) // grid.planes
    blocks = [grid[plane * count + k] for k in range(count)]
    parts, pixels, grey_dtype = [], np.zeros(len(class_names), np.int64), np.dtype(np.float64)
    for block in blocks:
        found = load(block)
        parts.append(found.parts)
        present = found.class_pixels[: len(class_names)]
        pixels[: len(present)] += present
        grey_dtype = found.grey_dtype
    areas = []
    for objects in _in_order((load(block).whole for block in blocks), ObjectMeasures.merged(parts)):
        table.add(name, measures_table(objects, spacing, unit, grey_dtype))
        areas.append(objects.areas)
    shape = (grid.height, grid.width)
    return summary_table(shape, np.concatenate(areas), pixels, class_names, spacing=spacing, unit=unit)


def _in_order(wholes: Iterable[ObjectMeasures], others: ObjectMeasures) -> Iterator[ObjectMeasures]:
    """Put the objects of blocks, with ascending numbers, and all other objects in the order of their numbers."""
    done = 0
    for whole in wholes:
        if len(whole.numbers):
            stop = max(done, int(np.searchsorted(others.numbers, whole.numbers[-1])))
            yield ObjectMeasures.merged([whole, others.take(slice(done, stop))])
            done = stop
    for start in range(done, max(len(others.numbers), done + 1), _ROWS):  # at least once, for the names of columns
        yield others.take(slice(start, start + _ROWS))
