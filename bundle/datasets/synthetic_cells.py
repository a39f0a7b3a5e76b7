"""Draw the membranes of a synthetic section: cells of very different sizes, as a warped, weighted Voronoi diagram.

The distance to a cell is reduced by the cell's radius (additive weights, an Apollonius diagram). Small round profiles
then bulge into large ones, as in electron micrographs of neuropil. Profiles are elongated along a smooth direction
field and form bundles of processes that are cut lengthwise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.segmentation import find_boundaries

from scripts.compiled import compiled

Float = NDArray[np.float32]
Int = NDArray[np.int32]

PIXELS_PER_PROFILE = 2100.0  # px²: about as many cells in 512 x 512 pixels as in an ISBI 2012 slice (88-137)
SIZE_SPREAD = 0.85  # standard deviation of the logarithm of the radius: median profile 600 px², the largest 20 000 px²
OUTSIDE = 70  # px: profiles are also placed this far outside the image; the border then looks like the middle


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Float:
    """Draw a Gaussian random field.

    Args:
        rng: source of randomness.
        shape: (H, W) in pixels.
        sigma: correlation length: standard deviation of the smoothing Gaussian, pixels.

    Returns:
        float32 (H, W), mean about 0 and standard deviation about 1 over a large field.

    Example:
        >>> field = smooth_noise(np.random.default_rng(0), (200, 300), sigma=5.0)
        >>> field.shape, round(float(field.std()), 1)
        ((200, 300), 1.0)
    """
    step = max(1, int(sigma // 4))  # a coarse field, magnified, looks the same and takes a fraction of the time
    small = (shape[0] // step + 8, shape[1] // step + 8)
    s = sigma / step
    field = ndi.gaussian_filter(rng.standard_normal(small, dtype=np.float32), s, mode="wrap", truncate=3.0)
    field *= 2.0 * np.sqrt(np.pi) * s  # white noise smoothed by a Gaussian has variance 1 / (4 pi s²)
    return _magnify(_magnify(field, shape[0], step).T, shape[1], step).T


def _magnify(field: Float, size: int, step: int) -> Float:
    """Interpolate linearly along the first axis: `size` rows, `step` per row of the field."""
    at = np.arange(size, dtype=np.float32) / step + 3.0
    low = at.astype(int)
    high_share = (at - low)[:, None]
    return field[low] * (1.0 - high_share) + field[low + 1] * high_share


def draw_cells(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Int, Int]:
    """Draw cells; find the cell of every pixel and the nearest other cell.

    A cell has one or several profiles. A profile has a radius (of the circle of equal area), an angle (of the long
    axis, radians) and an elongation (long axis divided by short axis).

    Args:
        rng: source of randomness.
        shape: (H, W) in pixels.

    Returns:
        int32 (H, W) own cell and int32 (H, W) neighbouring cell, numbered from 0.

    Example:
        >>> own, other = draw_cells(np.random.default_rng(0), (64, 64))
        >>> bool((own != other).all())
        True
    """
    extent = (shape[0] + 2 * OUTSIDE, shape[1] + 2 * OUTSIDE)
    centres, radii = _place(rng, np.array(extent, dtype=np.float32))
    at = tuple(np.minimum(centres.astype(int), np.array(extent) - 1).T)
    angles = np.pi * smooth_noise(rng, extent, 110.0)[at] + 0.35 * rng.standard_normal(len(radii))
    stretch = 0.50 * np.maximum(smooth_noise(rng, extent, 90.0)[at], -1.2) + 0.2 * rng.standard_normal(len(radii))
    elongations = np.clip(np.exp(0.30 + stretch), 1.0, 4.0).astype(np.float32)
    cells = _join_some(rng, centres, radii)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)  # warped, for curvy outlines
    y += 8.0 * smooth_noise(rng, shape, 32.0) + 1.6 * smooth_noise(rng, shape, 9.0)
    x += 8.0 * smooth_noise(rng, shape, 32.0) + 1.6 * smooth_noise(rng, shape, 9.0)
    angles = angles.astype(np.float32)
    long_axis = np.stack([np.sin(angles), np.cos(angles)])
    return _nearest_two(y, x, centres - OUTSIDE, radii, long_axis, np.sqrt(elongations), cells)


def _place(rng: np.random.Generator, extent: Float) -> tuple[Float, Float]:
    """Draw radii, then place profiles from large to small, each at the best of several random places.

    Returns:
        float32 (N, 2) centres (y, x) that fill `extent`, and float32 (N,) radii, pixels.
    """
    count = max(6, int(extent.prod() / PIXELS_PER_PROFILE))
    radii = np.exp(SIZE_SPREAD * rng.standard_normal(count)).astype(np.float32)
    radii = np.sort(np.clip(radii, 0.32, 4.6))[::-1]
    radii *= np.sqrt(0.92 * extent.prod() / (np.pi * (radii**2).sum()))
    centres = np.empty((count, 2), dtype=np.float32)
    for i in range(count):
        places = rng.random((40, 2), dtype=np.float32) * extent
        gaps = np.linalg.norm(places[:, None] - centres[None, :i], axis=2) - radii[:i] - radii[i]
        centres[i] = places[np.minimum(gaps.min(axis=1, initial=np.inf), 0.25 * radii[i]).argmax()]
    return centres, radii


def _join_some(rng: np.random.Generator, centres: Float, radii: Float) -> Int:
    """Join a sixth of the profiles to their nearest neighbour, for the concave, branched outlines of real neurites."""
    cells = np.arange(len(radii), dtype=np.int32)
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2) - radii[:, None] - radii[None]
    np.fill_diagonal(gaps, np.inf)
    for i in np.flatnonzero(rng.random(len(radii)) < 0.16):
        cells[cells == cells[i]] = cells[gaps[i].argmin()]
    return cells


@compiled
def _nearest_two(
    y: Float, x: Float, centres: Float, radii: Float, long_axis: Float, roots: Float, cells: Int
) -> tuple[Int, Int]:
    """Compare every pixel with every profile: elongated distance to the centre minus radius."""
    own = np.zeros(y.shape, dtype=np.int32)
    other = np.zeros(y.shape, dtype=np.int32)
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            best = second = np.float32(np.inf)
            for i in range(len(radii)):
                dy, dx = y[row, column] - centres[i, 0], x[row, column] - centres[i, 1]
                along = (long_axis[1, i] * dx + long_axis[0, i] * dy) / roots[i]
                across = (long_axis[1, i] * dy - long_axis[0, i] * dx) * roots[i]
                distance = np.float32(math.sqrt(along * along + across * across)) - radii[i]
                same = cells[i] == own[row, column]
                if distance < best:
                    if not same:
                        second, other[row, column] = best, own[row, column]
                    best, own[row, column] = distance, cells[i]
                elif distance < second and not same:
                    second, other[row, column] = distance, cells[i]
    return own, other


def membrane_distance(own: Int) -> Float:
    """Measure the distance of every pixel from the line between its cell and the next.

    Returns:
        float32 (H, W), pixels; about 0.7 beside the line between the cell numbers `own`, int32 (H, W).

    Example:
        >>> own = np.repeat([[0, 1]], 20, axis=1).repeat(40, axis=0)
        >>> membrane_distance(own)[20, 15:25].round(1)
        array([4.5, 3.5, 2.5, 1.5, 0.7, 0.7, 1.5, 2.5, 3.5, 4.5], dtype=float32)
    """
    edge = find_boundaries(own)
    if not edge.any():  # one cell fills the image
        return np.full(own.shape, float(max(own.shape)), dtype=np.float32)
    distance = (ndi.distance_transform_edt(~edge) + 0.5).astype(np.float32)
    return ndi.gaussian_filter(_round_corners(distance, own), 0.7)  # smooths the pixel steps of the line


def _round_corners(distance: Float, own: Int) -> Float:
    """Round the corners where three cells meet and leave a dark wedge there, since membranes are stiff.

    A disk of 6 px radius, smaller in thin cells, is moved through the cell. Pixels outside the disk's reach get a
    smaller distance.
    """
    deepest = np.zeros(int(own.max()) + 1, dtype=np.float32)
    np.maximum.at(deepest, own.ravel(), distance.ravel())
    radius = np.minimum(6.0, 0.45 * deepest)[own].astype(np.float32)
    from_core = ndi.distance_transform_edt(distance <= radius).astype(np.float32)
    rounded = np.where(from_core > 0.0, np.minimum(distance, radius + 0.5 - from_core), distance)
    return np.maximum(rounded, 0.5 * distance)
