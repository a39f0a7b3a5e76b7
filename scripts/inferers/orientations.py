"""Flip and rotate an image by quarter turns, tile by tile.

To average over orientations, the whole mirrored image is turned and tiled, and the scores are turned back. Tiles are
gathered from the original image; neither the mirrored nor the turned image is held in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..networks.geometry import reflect_index

Span = tuple[int, int]  # [start, stop) of pixels along an axis


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


class Region(NamedTuple):
    """A rectangle of an image: rows and columns, each [start, stop).

    Example:
        >>> from scripts.inferers import Orientation, Region
        >>> Region((0, 2), (1, 4)).turned(Orientation(transpose=True, flip_rows=True), size=(3, 10))
        Region(rows=(6, 9), columns=(0, 2))
    """

    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def turned(self, orientation: Orientation, size: tuple[int, int]) -> Region:
        """Get the same pixels in the turned image. `size` is (H, W) of the image before."""
        spans = [self.columns, self.rows] if orientation.transpose else [self.rows, self.columns]
        flips = (orientation.flip_rows, orientation.flip_columns)
        for axis, (length, flip) in enumerate(zip(orientation.turned_size(size), flips, strict=True)):
            if flip:
                spans[axis] = (length - spans[axis][1], length - spans[axis][0])
        return Region(*spans)


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
    image: torch.Tensor,
    orientation: Orientation,
    start: tuple[int, int],
    size: tuple[int, int],
    window: Region | None = None,
    image_size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Cut a tile out of the turned image. Beyond the edges the image is mirrored, any number of times.

    Args:
        image: (C, H, W), not turned.
        orientation: of the tile.
        start: first row and column in the turned image; may be negative.
        size: (height, width) of the tile.
        window: the pixels of `image` in a larger image, to which `orientation` and `start` then refer. Of pixels of the
            larger image outside of the window, the nearest pixel of the window is taken.
        image_size: (H, W) of the larger image.

    Returns:
        (C, height, width), a copy on the device of `image`.

    Example:
        >>> cut_tile(torch.tensor([[[1, 2, 3]]]), Orientation(), start=(0, -2), size=(1, 5)).tolist()
        [[[3, 2, 1, 2, 3]]]
    """
    height, width = image.shape[-2:]
    window = window or Region((0, height), (0, width))
    turned = orientation.turned_size(image_size or (height, width))
    flips = (orientation.flip_rows, orientation.flip_columns)
    spans = (window.columns, window.rows) if orientation.transpose else window
    rows, columns = (
        torch.from_numpy(_source_index(first, count, length, flip, span)).to(image.device)
        for first, count, length, flip, span in zip(start, size, turned, flips, spans, strict=True)
    )
    if orientation.transpose:
        return image[:, columns[None, :], rows[:, None]]
    return image[:, rows[:, None], columns[None, :]]


def add_tile(output: torch.Tensor, tile: torch.Tensor, orientation: Orientation, rows: Span, columns: Span) -> None:
    """Add a tile to the output, turned back, in place.

    Args:
        output: (K, H, W), not turned.
        tile: (K, height, width), part of the turned image. Pixels beyond `rows` and `columns` are ignored.
        orientation: of the tile.
        rows, columns: [start, stop) in the turned image. Pixels before 0 are ignored.

    Example:
        >>> output = torch.zeros(1, 1, 3)
        >>> add_tile(output, torch.tensor([[[5.0, 6.0]]]), Orientation(flip_columns=True), rows=(0, 1), columns=(0, 2))
        >>> output.tolist()
        [[[0.0, 6.0, 5.0]]]
    """
    tile = tile[:, max(-rows[0], 0) : rows[1] - rows[0], max(-columns[0], 0) : columns[1] - columns[0]]
    rows, columns = (max(rows[0], 0), rows[1]), (max(columns[0], 0), columns[1])
    height, width = orientation.turned_size((output.shape[-2], output.shape[-1]))
    if orientation.flip_rows:
        tile, rows = tile.flip(-2), (height - rows[1], height - rows[0])
    if orientation.flip_columns:
        tile, columns = tile.flip(-1), (width - columns[1], width - columns[0])
    if orientation.transpose:
        tile, rows, columns = tile.transpose(-2, -1), columns, rows
    output[:, slice(*rows), slice(*columns)].add_(tile)


def _source_index(start: int, count: int, length: int, flip: bool, window: Span) -> np.ndarray:
    """Get the indices in a window of `count` pixels from `start` on, along a turned and mirrored axis."""
    index = reflect_index(np.arange(start, start + count), length)
    return np.clip(length - 1 - index if flip else index, window[0], window[1] - 1) - window[0]
