"""Flip and rotate an image by quarter turns, tile by tile.

To average over orientations, the whole mirrored image is turned and tiled, and the scores are turned back. Tiles are
gathered from the original image; neither the mirrored nor the turned image is held in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..networks.geometry import reflect_index


class Orientation(NamedTuple):
    """A flip or rotation of the square: swap the axes first, then reverse rows and / or columns."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def turned_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Get (H, W) of the turned image."""
        return (size[1], size[0]) if self.transpose else size


_FLIPS = tuple(Orientation(False, rows, columns) for rows in (False, True) for columns in (False, True))

ORIENTATIONS = {
    1: _FLIPS[:1],
    4: _FLIPS,  # the authors' release: no flip, each flip, and both flips
    8: (*_FLIPS, *(flip._replace(transpose=True) for flip in _FLIPS)),
}


def turn(image: torch.Tensor, orientation: Orientation) -> torch.Tensor:
    """Turn the last two axes of a tensor. Defines the orientation of `cut_tile` and `add_tile`.

    Example:
        >>> from scripts.inferers import Orientation
        >>> turn(torch.tensor([[1, 2, 3], [4, 5, 6]]), Orientation(transpose=True, flip_rows=True)).tolist()
        [[3, 6], [2, 5], [1, 4]]
    """
    if orientation.transpose:
        image = image.transpose(-2, -1)
    axes = [axis for axis, flip in ((-2, orientation.flip_rows), (-1, orientation.flip_columns)) if flip]
    return image.flip(axes) if axes else image


def cut_tile(
    image: torch.Tensor, orientation: Orientation, start: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """Cut a tile out of the turned image. Beyond the edges the image is mirrored, any number of times.

    Args:
        image: (C, H, W), not turned.
        orientation: of the tile.
        start: first row and column in the turned image; may be negative.
        size: (height, width) of the tile.

    Returns:
        (C, height, width), a copy on the device of `image`.

    Example:
        >>> cut_tile(torch.tensor([[[1, 2, 3]]]), Orientation(), start=(0, -2), size=(1, 5)).tolist()
        [[[3, 2, 1, 2, 3]]]
    """
    turned = orientation.turned_size((image.shape[-2], image.shape[-1]))
    flips = (orientation.flip_rows, orientation.flip_columns)
    rows, columns = (
        torch.from_numpy(_source_index(first, count, length, flip)).to(image.device)
        for first, count, length, flip in zip(start, size, turned, flips, strict=True)
    )
    if orientation.transpose:
        return image[:, columns[None, :], rows[:, None]]
    return image[:, rows[:, None], columns[None, :]]


def add_tile(
    output: torch.Tensor, tile: torch.Tensor, orientation: Orientation, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """Add a tile to the output, turned back, in place.

    Args:
        output: (K, H, W), not turned.
        tile: (K, height, width), part of the turned image. Pixels beyond `rows` and `columns` are ignored.
        orientation: of the tile.
        rows, columns: [start, stop) in the turned image.

    Example:
        >>> output = torch.zeros(1, 1, 3)
        >>> add_tile(output, torch.tensor([[[5.0, 6.0]]]), Orientation(flip_columns=True), rows=(0, 1), columns=(0, 2))
        >>> output.tolist()
        [[[0.0, 6.0, 5.0]]]
    """
    tile = tile[:, : rows[1] - rows[0], : columns[1] - columns[0]]
    height, width = orientation.turned_size((output.shape[-2], output.shape[-1]))
    if orientation.flip_rows:
        tile, rows = tile.flip(-2), (height - rows[1], height - rows[0])
    if orientation.flip_columns:
        tile, columns = tile.flip(-1), (width - columns[1], width - columns[0])
    if orientation.transpose:
        tile, rows, columns = tile.transpose(-2, -1), columns, rows
    output[:, slice(*rows), slice(*columns)].add_(tile)


def _source_index(start: int, count: int, length: int, flip: bool) -> np.ndarray:
    """Get the original indices of `count` pixels from `start` on, along a turned and mirrored axis."""
    index = reflect_index(np.arange(start, start + count), length)
    return length - 1 - index if flip else index
