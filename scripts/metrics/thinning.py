"""Thin the membrane between cells to a line, as the ISBI 2012 EM challenge does before V_Rand and V_Info.

The challenge's program (Fiji's Trainable Segmentation, `WatershedTransform2D` applied to the thresholded proposal)
floods the binary image. The 4-connected cells are the basins. All membrane has the same level, so the membrane pixels
nearest to a cell are flooded first. A pixel between two regions becomes part of the line.

scikit-image's `watershed(..., watershed_line=True)` visits the pixels in another order and does not continue a line
beyond its end. A few pixels differ, so the challenge's order is kept here.

References:
    L. Vincent and P. Soille, "Watersheds in digital spaces", IEEE PAMI 13(6), 1991, doi 10.1109/34.87344.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..compiled import compiled

MEMBRANE, LINE, QUEUED = 0, -1, -2  # pixels of no region


def cell_regions(cells: np.ndarray) -> np.ndarray:
    """Label the 4-connected regions of a mask.

    Args:
        cells: (H, W), not 0 = cell.

    Returns:
        int32 (H, W): 0 = membrane, 1 .. n = regions.

    Example:
        >>> cell_regions(np.array([[1, 0], [0, 1]]))
        array([[1, 0],
               [0, 2]], dtype=int32)
    """
    return ndimage.label(cells)[0].astype(np.int32, copy=False)  # 4-connected by default


def thin_membrane(cells: np.ndarray) -> np.ndarray:
    """Label the regions of a mask and grow them over the membrane until only a line separates them.

    Args:
        cells: (H, W), not 0 = cell.

    Returns:
        int32 (H, W): 0 = line, 1 .. n = regions. No region loses a pixel. A mask without cells is one region, as
        in the challenge's program.

    Raises:
        ValueError: `cells` is not two-dimensional.

    Example:
        >>> thin_membrane(np.array([[1, 0, 0, 0, 1, 0, 0]]))
        array([[1, 1, 0, 2, 2, 2, 2]], dtype=int32)
    """
    if cells.ndim != 2:
        raise ValueError(f"cells must be one plane (H, W), got the shape {cells.shape}")
    regions = cell_regions(cells)
    if not regions.any():
        return np.ones(cells.shape, np.int32)
    padded = np.pad(regions, 1, constant_values=LINE)  # neighbours beyond the image: no region, never queued
    _flood(padded.ravel(), padded.shape[1])
    return np.maximum(padded[1:-1, 1:-1], 0)


@compiled
def _flood(pixels: np.ndarray, width: int) -> None:
    """Turn all membrane into regions or lines, in the order of a queue, in place.

    `pixels` is int32 (H * W,), a plane of this width with a rim of `LINE`.
    """
    neighbours = (-1, -width, 1, width)  # left, above, right, below, as in the challenge's program
    queue = np.empty(pixels.size, np.int64)
    first, end = 0, 0
    for column in range(width):  # columns first, as in the challenge's program
        for pixel in range(column, pixels.size, width):
            if pixels[pixel] == MEMBRANE:
                for step in neighbours:
                    if pixels[pixel + step] > 0:
                        pixels[pixel] = QUEUED
                if pixels[pixel] == QUEUED:
                    queue[end] = pixel
                    end += 1
    while first < end:
        pixel = queue[first]
        first += 1
        found = MEMBRANE
        for step in neighbours:
            beside = pixels[pixel + step]
            if beside > 0 and beside != found:
                found = beside if found == MEMBRANE else LINE
            elif beside == MEMBRANE:
                pixels[pixel + step] = QUEUED
                queue[end] = pixel + step
                end += 1
        pixels[pixel] = LINE if found == MEMBRANE else found
