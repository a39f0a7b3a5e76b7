"""Keep one value for each pixel of a large image on the disk, written block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..io.files import file_state
from ..io.image_file import require
from .grid import Block, BlockGrid, Span

CHUNK = 256  # pixels
_METADATA = "zarr.json"


@dataclass(frozen=True)
class PlaneArray:
    """A zarr array (P, H, W), without pyramid and metadata. Each block is a file of its own. Travels to processes.

    Args:
        path: folder of the array.
        grid: blocks of the image.
        dtype: of the values, as numpy writes it.

    Example:
        >>> from pathlib import Path
        >>> grid = BlockGrid(planes=1, height=50, width=70, size=48)
        >>> mask = PlaneArray(Path("mask.zarr"), grid, "uint8").create()
        >>> mask.write(grid[0], np.ones((48, 48), np.uint8))
        >>> int(mask.read(0, (0, 50), (0, 70)).sum())
        2304
    """

    path: Path
    grid: BlockGrid
    dtype: str

    def create(self) -> PlaneArray:
        """Make the array, all 0. An earlier one stays."""
        if not (self.path / _METADATA).exists():  # a killed process may have made the folder alone
            zarr = require("zarr", "OME-Zarr", self.path)
            shape = (self.grid.planes, self.grid.height, self.grid.width)
            size = self.grid.size
            chunk = math.gcd(size, CHUNK)
            chunks, shards = (1, chunk, chunk), (1, size, size)
            zarr.create_array(
                self.path, shape=shape, dtype=self.dtype, chunks=chunks, shards=shards, fill_value=0, overwrite=True
            )
        return self

    def write(self, block: Block, values: np.ndarray) -> None:
        """Write the values (h, w) of a block."""
        self._array()[block.plane, slice(*block.rows), slice(*block.columns)] = values

    def read(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        """Read values (h, w)."""
        return np.asarray(self._array()[plane, slice(*rows), slice(*columns)])

    def _array(self) -> Any:
        return _opened(self.path, file_state(self.path / _METADATA))


@lru_cache(maxsize=8)
def _opened(path: Path, _: str) -> Any:
    """Open an array, once in each process. A later run may write another array into the same folder."""
    return require("zarr", "OME-Zarr", path).open_array(path, mode="r+")
