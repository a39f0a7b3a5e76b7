"""Flips and 90-degree rotations of an image, applied to one tile at a time.

Averaging over orientations turns the whole mirror-extended image, tiles it and turns the answer back. Neither the
extended nor the turned image is built: a tile of it is one gather from the original.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from scripts.networks.geometry import reflect_index


class Orientation(NamedTuple):
    """An element of the square's symmetry group: swap the axes first, then reverse rows and / or columns."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def turned_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of a turned image."""
        return (size[1], size[0]) if self.transpose else size


_FLIPS = tuple(Orientation(False, rows, columns) for rows in (False, True) for columns in (False, True))

ORIENTATIONS = {
    1: _FLIPS[:1],
    4: _FLIPS,  # the authors' release: as it is, both flips, and both at once
    8: (*_FLIPS, *(flip._replace(transpose=True) for flip in _FLIPS)),  # with the four rotations' remaining half
}


def turn(image: torch.Tensor, orientation: Orientation) -> torch.Tensor:
    """Turn the last two axes: the definition that `cut_tile` and `add_tile` agree with."""
    if orientation.transpose:
        image = image.transpose(-2, -1)
    axes = [axis for axis, flip in ((-2, orientation.flip_rows), (-1, orientation.flip_columns)) if flip]
    return image.flip(axes) if axes else image


def cut_tile(
    image: torch.Tensor, orientation: Orientation, start: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """Cut a tile out of the turned image, which is mirrored at its edges without end.

    Args:
        image: (C, H, W), not turned.
        orientation: how to turn it.
        start: first row and column in the turned image; may lie before 0.
        size: (height, width) of the tile.

    Returns:
        (C, height, width), a copy on the device of `image`.
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
    output: torch.Tensor,
    tile: torch.Tensor,
    orientation: Orientation,
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> None:
    """Turn a tile back and add it, in place, where it belongs.

    Args:
        output: (K, H, W), not turned.
        tile: (K, rows, columns), a part of the turned image.
        orientation: how that was turned.
        rows: [start, stop) of the tile in the turned image.
        columns: likewise.
    """
    height, width = orientation.turned_size((output.shape[-2], output.shape[-1]))
    if orientation.flip_rows:
        tile, rows = tile.flip(-2), (height - rows[1], height - rows[0])
    if orientation.flip_columns:
        tile, columns = tile.flip(-1), (width - columns[1], width - columns[0])
    if orientation.transpose:
        tile, rows, columns = tile.transpose(-2, -1), columns, rows
    output[:, slice(*rows), slice(*columns)].add_(tile)


def as_vote(scores: torch.Tensor, orientations: int, average: str) -> torch.Tensor:
    """What one orientation adds to the mean over `orientations` of "scores" or "probabilities".

    Args:
        scores: (B, K, H, W); K = 1 is a single sigmoid output.
        orientations: of the mean.
        average: what is averaged.
    """
    if orientations == 1:
        return scores
    if average == "probabilities":
        scores = scores.sigmoid() if scores.shape[1] == 1 else scores.softmax(dim=1)
    return scores / orientations


def scores_of_votes(mean: torch.Tensor, orientations: int, average: str) -> torch.Tensor:
    """Scores (B, K, H, W) for the sum of all `as_vote`, which may be overwritten."""
    if orientations == 1 or average == "scores":
        return mean
    if mean.shape[1] == 1:
        return mean.logit(eps=torch.finfo(mean.dtype).eps)
    return mean.clamp_min_(torch.finfo(mean.dtype).tiny).log_()


def _source_index(start: int, count: int, length: int, flip: bool) -> np.ndarray:
    """Where the pixels start, start + 1, ... of a turned and mirrored axis lie in the original."""
    index = reflect_index(np.arange(start, start + count), length)
    return length - 1 - index if flip else index
