"""Find the objects of one block, and write its final labels, once the objects of all blocks are joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.files import file_state
from .grid import Block, BlockGrid
from .joining import Joined, JoinedLabels
from .measuring import MARGIN, measure_block
from .objects import BlockObjects, block_objects, final_labels
from .planes import PlaneArray

if TYPE_CHECKING:
    from .ome_zarr import OmeZarrOutput
    from .source import LargeImage

IN_A_FOLDER = 1000  # files


def block_file(folder: Path, number: int) -> Path:
    """Get the file of a block. Thousands of files in one folder are slow on many file systems.

    Example:
        >>> from pathlib import Path
        >>> block_file(Path("objects"), 12345).as_posix()
        'objects/12/12345.npz'
    """
    return folder / str(number // IN_A_FOLDER) / f"{number}.npz"


@dataclass(frozen=True)
class ObjectsStep:
    """Find the objects of a block in the foreground of the block and its halo.

    Args:
        grid: all blocks.
        mask: the foreground.
        folder: receives a file for each block.
        halo: in pixels.
        options: of `block_objects`.
    """

    grid: BlockGrid
    mask: PlaneArray
    folder: Path
    halo: int
    options: Mapping[str, Any]

    def __call__(self, number: int) -> None:
        """Find the objects of a block."""
        block = self.grid[number]
        foreground = self.mask.read(block.plane, *self.grid.window(block, self.halo))
        found = block_objects(foreground > 0, self.grid, block, self.halo, **self.options)
        file = block_file(self.folder, number)
        file.parent.mkdir(parents=True, exist_ok=True)
        found.save(file)


@lru_cache(maxsize=1)
def joined_labels(grid: BlockGrid, folder: Path, joined: Path, state: str) -> tuple[JoinedLabels, Joined]:
    """Read the joined numbers, once in each process.

    Args:
        grid: all blocks.
        folder: of `ObjectsStep`.
        joined: file of `Joined.save`.
        state: of this file: a later run may write another of the same name.
    """
    numbers = Joined.load(joined)

    def load(block: Block) -> Any:
        return BlockObjects.load(block_file(folder, block.number)).labels

    return JoinedLabels(grid, load, numbers, cached=12), numbers


@dataclass(frozen=True)
class LabelsStep:
    """Write the final labels of a block, and measure its objects.

    Args:
        image: the large image, for mean intensities.
        grid: all blocks.
        folder: of `ObjectsStep`.
        joined: file of `Joined.save`.
        gap: width of the gaps to close in pixels.
        output: receives the labels.
        measures: folder that receives a file for each block. None: nothing is measured.
    """

    image: LargeImage
    grid: BlockGrid
    folder: Path
    joined: Path
    gap: int
    output: OmeZarrOutput
    measures: Path | None

    def __call__(self, number: int) -> None:
        """Write the labels of a block."""
        block = self.grid[number]
        read, joined = joined_labels(self.grid, self.folder, self.joined, file_state(self.joined))
        count = int(joined.objects[block.plane])
        labels = final_labels(read, self.grid, block, self.gap, count, margin=MARGIN)
        rows, columns = self.grid.window(block, MARGIN)
        top, left = block.rows[0] - rows[0], block.columns[0] - columns[0]
        own = labels[top : top + block.shape[0], left : left + block.shape[1]]
        self.output.write("instances", block, own)
        if self.measures is not None:
            image = self.image.read(block.plane, block.rows, block.columns)
            classes = self.output.read("classes", block.plane, block.rows, block.columns)
            file = block_file(self.measures, number)
            file.parent.mkdir(parents=True, exist_ok=True)
            measure_block(labels, self.grid, block, image, classes).save(file)
