"""The warping error of the ISBI 2012 EM challenge: what is still wrong once borders may move but not break.

The truth is warped towards the thresholded proposal, one pixel after the other, as long as a differing pixel is
*simple*: turning it neither joins nor parts cells (4-connected) nor membrane (8-connected). A border shifted by up to
its own width warps away at no cost; one shifted farther does not, since the pixels between its two places do not differ
and stay. Of the pixels left, those that stand for a merger or a split are counted, so that the error is the share of
pixels that would have to be corrected.

References: V. Jain et al., "Boundary learning by optimization with topological constraints", CVPR 2010, doi
10.1109/CVPR.2010.5539950, and the challenge's program, Fiji's Trainable Segmentation (`WarpingError`,
`getMinimumSplitsAndMergersErrorValue(0.0, 0.9, 0.1, false, 20)`), whose order of pixels and classification are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from scripts.em_metrics import THRESHOLDS, checked_probability
from scripts.thinning import cell_regions
from scripts.warp_planes import RING, stretches, warps

_EIGHT = np.ones((3, 3), bool)
_CROSS_IN_EACH = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
_WINDOWS_AT_ONCE = 1024  # some megabytes; labelled in one call, each on its own


@dataclass(frozen=True)
class WarpingError:
    """Pixels of splits and of mergers, each int (T,), over the thresholds (T,), in `pixels` pixels altogether."""

    thresholds: np.ndarray
    splits: np.ndarray
    mergers: np.ndarray
    pixels: int

    @property
    def errors(self) -> np.ndarray:
        """(Splits + mergers) / pixels at every threshold, (T,)."""
        return (self.splits + self.mergers) / self.pixels

    @property
    def best(self) -> int:
        """Index of the first of the lowest errors."""
        return int(self.errors.argmin())

    @property
    def best_threshold(self) -> float:
        """Where the error is lowest, without the rounding errors of adding up 0.1."""
        return round(float(self.thresholds[self.best]), 6)

    @property
    def error(self) -> float:
        """The lowest error, what the challenge reports."""
        return float(self.errors[self.best])


def warp(truth: np.ndarray, proposal: np.ndarray, priority: np.ndarray | None = None) -> np.ndarray:
    """Turn simple pixels of the truth into what the proposal says until none is left; beyond the image is membrane.

    Args:
        truth: bool (H, W), True = cell.
        proposal: bool (H, W), True = cell.
        priority: (H, W), pixels of high priority are turned first, columns from left to right where it is equal; None:
            equal everywhere. What is left over can depend on the order.

    Returns:
        bool (H, W) with the topology of the truth.

    Raises:
        ValueError: the shapes differ or are not two-dimensional.

    Example:
        >>> truth = np.array([[1, 1, 0, 1, 1]], bool)
        >>> warp(truth, np.array([[1, 0, 0, 1, 1]], bool)).astype(int)  # the border may grow
        array([[1, 0, 0, 1, 1]])
        >>> warp(truth, np.array([[1, 1, 1, 1, 1]], bool)).astype(int)  # but not vanish
        array([[1, 1, 0, 1, 1]])
    """
    (warped,) = warps(truth, [(proposal, priority)], at_once=1)
    return warped


def splits_and_mergers(warped: np.ndarray, proposal: np.ndarray, radius: int = 20) -> tuple[int, int]:
    """Count the pixels left over by `warp` that stand for a split or a merger.

    By the regions of the warped truth among its 8 neighbours: a pixel is a merger if it is membrane and these are two
    or more, and a split if it is a cell and these are two or more, or fall apart without it within `radius`. All
    others (holes and objects that come or go) are not counted.

    Args:
        warped: bool (H, W).
        proposal: bool (H, W).
        radius: how far around, in pixels, a region may hold together in another way.

    Returns:
        Pixels of splits, pixels of mergers.
    """
    rows, columns = np.nonzero(warped != proposal)
    around = _ring(np.pad(cell_regions(warped), 1, constant_values=-1), rows, columns)  # (8, N), -1 beyond the image
    objects = _count_regions(np.maximum(around, 0))
    is_cell = warped[rows, columns]
    mergers = int((~is_cell & (objects >= 2)).sum())
    splits = int((is_cell & (objects >= 2)).sum())
    unsure = np.flatnonzero(is_cell & (objects == 1) & (around == 0).any(axis=0))
    if unsure.size:
        parts = _parts_a_cell(warped, rows[unsure], columns[unsure], radius)
        splits += int(parts.sum())
        unsure = unsure[~parts]
    windows = sliding_window_view(np.pad(warped, radius), (2 * radius + 1, 2 * radius + 1))
    for some in np.array_split(unsure, 1 + len(unsure) // _WINDOWS_AT_ONCE):
        without = windows[rows[some], columns[some]]  # a copy, (N, 2 radius + 1, 2 radius + 1)
        without[:, radius, radius] = False
        pieces = ndimage.label(without, _CROSS_IN_EACH)[0][:, radius - 1 : radius + 2, radius - 1 : radius + 2]
        splits += int((_count_regions(pieces.reshape(-1, 9).T) >= 2).sum())
    return splits, mergers


def warping_error(
    planes: Iterable[tuple[np.ndarray, np.ndarray]], thresholds: np.ndarray = THRESHOLDS[:-1], radius: int = 20
) -> WarpingError:
    """The warping error of a stack: the lowest over thresholds of the pixels of splits and mergers over all pixels.

    Args:
        planes: (probability, truth) of every plane, each (H, W): the probability of a cell, 0 .. 1, and not 0 = cell.
        thresholds: (T,), by default 0.0, 0.1 ... 0.9, as the challenge leaves 1.0 out here.
        radius: as in `splits_and_mergers`.

    Raises:
        ValueError: the shapes differ, a value is no probability, or there is no plane.
    """
    counts, pixels = np.zeros((len(thresholds), 2), np.int64), 0
    for probability, truth in planes:
        levels, cells = checked_probability(probability, truth), truth != 0
        pixels += cells.size
        # the surest pixels turn first
        targets = ((levels > threshold, np.abs(levels - threshold).astype(np.float32)) for threshold in thresholds)
        together = warps(cells, targets, at_once=min(len(thresholds), 16))
        for row, threshold, warped in zip(counts, thresholds, together, strict=True):
            row += splits_and_mergers(warped, levels > threshold, radius)
    if not pixels:
        raise ValueError("expected at least one plane of a probability map and its truth, got none")
    splits, mergers = counts.T
    return WarpingError(thresholds, splits, mergers, pixels)


def _parts_a_cell(cells: np.ndarray, rows: np.ndarray, columns: np.ndarray, radius: int) -> np.ndarray:
    """Where a pixel of a cell closes a curve of membrane, which parts the cell in its window without labelling that.

    It does if two gaps between the stretches of the ring that touch it belong to one piece of membrane: of the cell, a
    stretch then lies on either side. So it does if two gaps belong to pieces that leave the window, as nothing holds a
    cell together outside of it. Where every gap is of another piece, as at a small hole, there is a way round.

    Returns:
        bool (N,), for the pixels at (rows, columns).
    """
    cells = np.pad(cells, 1)
    membranes = ndimage.label(~cells, _EIGHT)[0]  # piece 1 is beyond the image and what hangs together with that
    around = _ring(membranes, rows, columns)
    boxes = np.array([[y.start, x.start, -y.stop, -x.stop] for y, x in ndimage.find_objects(membranes)])
    rims = np.stack([rows, columns, -rows, -columns]) + np.array([[2], [2], [-1], [-1]]) - radius  # of the windows
    leaves = np.zeros(around.shape, bool)
    for edge, rim in zip(np.insert(boxes, 0, 0, axis=0).T, rims, strict=True):  # of piece 0, which is the cells, any
        leaves |= edge.take(around) < rim
    pieces = _count_regions(np.where(leaves & (around != 0), 1, around))
    return pieces < np.sum(stretches(_ring(cells, rows, columns)), axis=0)


def _ring(padded: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values of a padded plane at the 8 neighbours of the pixels of the image at (rows, columns), (8, N)."""
    stride = padded.shape[1]
    offsets = np.array([dy * stride + dx for dy, dx in RING])
    return padded.ravel().take((rows + 1) * stride + columns + 1 + offsets[:, None])


def _count_regions(numbers: np.ndarray) -> np.ndarray:
    """How many different numbers above 0 are in each column, (M, N) -> (N,)."""
    ordered = np.sort(numbers, axis=0)
    is_new = np.diff(ordered, axis=0, prepend=0) > 0
    return is_new.sum(axis=0)
