"""Where the membranes of a synthetic section run: cells of very different sizes as a warped, weighted Voronoi diagram.

Additively weighted distances (an Apollonius diagram) give small round profiles that bulge into large ones, as in
electron micrographs of neuropil; elongation along a smooth direction field gives bundles of processes cut lengthwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Float = NDArray[np.float32]
Int = NDArray[np.int32]

PIXELS_PER_PROFILE = 2100.0  # px², so that 512 x 512 pixels hold about as many cells as an ISBI 2012 slice (88-137)
SIZE_SPREAD = 0.85  # standard deviation of the logarithm of the radius: median profile 600 px², the largest 20 000 px²
OUTSIDE = 70  # px: profiles are also placed this far outside the picture, so that its rim is cut like any other place


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Float:
    """Gaussian random field.

    Args:
        rng: source of randomness.
        shape: (H, W) in pixels.
        sigma: correlation length: standard deviation of the smoothing Gaussian, pixels.

    Returns:
        float32 (H, W), mean about 0 and standard deviation 1 over a large field.
    """
    step = max(1, int(sigma // 4))  # a long-range field is made coarse and magnified: same look, a fraction of the time
    small = (shape[0] // step + 8, shape[1] // step + 8)
    s = sigma / step
    field = ndi.gaussian_filter(rng.standard_normal(small, dtype=np.float32), s, mode="wrap", truncate=3.0)
    field *= 2.0 * np.sqrt(np.pi) * s  # white noise smoothed by a Gaussian has variance 1 / (4 pi s²)
    return _magnify(_magnify(field, shape[0], step).T, shape[1], step).T


def _magnify(field: Float, size: int, step: int) -> Float:
    """Linear interpolation along the first axis to `size` rows, `step` of them per row of the field."""
    at = np.arange(size, dtype=np.float32) / step + 3.0
    low = at.astype(int)
    high_share = (at - low)[:, None]
    result: Float = field[low] * (1.0 - high_share) + field[low + 1] * high_share
    return result


@dataclass(frozen=True)
class Profiles:
    """Cut cells before they are drawn: one row per profile.

    Args:
        centres: float32 (N, 2), (y, x) in pixels; may lie outside the picture.
        radii: float32 (N,), pixels, of the circle of equal area.
        angles: float32 (N,), radians, direction of the long axis.
        elongations: float32 (N,), long axis divided by short axis, >= 1.
        cells: int32 (N,), the cell that each profile belongs to: some consist of two or more (irregular shapes).
    """

    centres: Float
    radii: Float
    angles: Float
    elongations: Float
    cells: Int


def place_profiles(rng: np.random.Generator, shape: tuple[int, int]) -> Profiles:
    """Draw sizes, then place from large to small, each where it overlaps least (best of several random places).

    Args:
        rng: source of randomness.
        shape: (H, W) of the picture in pixels.

    Returns:
        Profiles that fill the picture and `OUTSIDE` pixels around it.
    """
    extent = np.array([shape[0] + 2 * OUTSIDE, shape[1] + 2 * OUTSIDE], dtype=np.float32)
    count = max(6, int(extent.prod() / PIXELS_PER_PROFILE))
    radii = np.exp(SIZE_SPREAD * rng.standard_normal(count)).astype(np.float32)
    radii = np.sort(np.clip(radii, 0.32, 4.6))[::-1]
    radii *= np.sqrt(0.92 * extent.prod() / (np.pi * (radii**2).sum()))
    centres = np.empty((count, 2), dtype=np.float32)
    for i in range(count):
        places = rng.random((40, 2), dtype=np.float32) * extent
        if i:
            gaps = np.linalg.norm(places[:, None] - centres[None, :i], axis=2) - radii[:i] - radii[i]
            centres[i] = places[np.minimum(gaps.min(axis=1), 0.25 * radii[i]).argmax()]
        else:
            centres[i] = places[0]
    frame = (int(extent[0]), int(extent[1]))
    at = tuple(np.minimum(centres.astype(int), np.array(frame) - 1).T)
    direction = np.pi * smooth_noise(rng, frame, 110.0)[at] + 0.35 * rng.standard_normal(count)
    stretch = np.exp(
        0.30 + 0.50 * np.maximum(smooth_noise(rng, frame, 90.0)[at], -1.2) + 0.2 * rng.standard_normal(count)
    )
    return Profiles(
        centres=centres - OUTSIDE,
        radii=radii,
        angles=direction.astype(np.float32),
        elongations=np.clip(stretch, 1.0, 4.0).astype(np.float32),
        cells=_join_some(rng, centres, radii),
    )


def _join_some(rng: np.random.Generator, centres: Float, radii: Float) -> Int:
    """Join a sixth of the profiles to their nearest neighbour: concave, branched outlines as real neurites have."""
    cells = np.arange(len(radii), dtype=np.int32)
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2) - radii[:, None] - radii[None]
    np.fill_diagonal(gaps, np.inf)
    for i in np.flatnonzero(rng.random(len(radii)) < 0.16):
        cells[cells == cells[i]] = cells[gaps[i].argmin()]
    return cells


def nearest_two(rng: np.random.Generator, profiles: Profiles, shape: tuple[int, int]) -> tuple[Int, Int]:
    """For every pixel the cell that it lies in and the cell next to it.

    Args:
        rng: source of randomness (the warp that makes outlines curvy).
        profiles: what `place_profiles` gave.
        shape: (H, W) in pixels.

    Returns:
        int32 (H, W) own cell and int32 (H, W) neighbouring cell, numbered from 0.
    """
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y += 8.0 * smooth_noise(rng, shape, 32.0) + 1.6 * smooth_noise(rng, shape, 9.0)
    x += 8.0 * smooth_noise(rng, shape, 32.0) + 1.6 * smooth_noise(rng, shape, 9.0)
    best = np.full(shape, np.inf, dtype=np.float32)
    second = np.full(shape, np.inf, dtype=np.float32)
    own = np.zeros(shape, dtype=np.int32)
    other = np.zeros(shape, dtype=np.int32)
    for i in np.argsort(-profiles.radii, kind="stable").tolist():
        box = _reach(profiles, i, shape)
        cell, distance = profiles.cells[i], _weighted_distance(y[box], x[box], profiles, i)
        best_, second_, own_, other_ = best[box], second[box], own[box], other[box]  # views: written through
        same = own_ == cell
        wins = distance < best_
        moves = wins & ~same  # the winner so far becomes the neighbour, unless it is another part of this cell
        other_[moves] = own_[moves]
        second_[moves] = best_[moves]
        own_[wins] = cell
        best_[wins] = distance[wins]
        places = ~wins & ~same & (distance < second_)
        other_[places] = cell
        second_[places] = distance[places]
    return own, other


def _reach(profiles: Profiles, i: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Window beyond which profile i cannot be the nearest or second nearest in a filled plane."""
    reach = 1.5 * profiles.radii[i] * np.sqrt(profiles.elongations[i]) + 75.0
    y, x = profiles.centres[i]
    return (
        slice(max(0, int(y - reach)), max(0, min(shape[0], int(y + reach) + 1))),
        slice(max(0, int(x - reach)), max(0, min(shape[1], int(x + reach) + 1))),
    )


def _weighted_distance(y: Float, x: Float, profiles: Profiles, i: int) -> Float:
    """Distance to profile i in its own elongated metric, minus its radius; float32 (H, W), pixels."""
    dy, dx = y - profiles.centres[i, 0], x - profiles.centres[i, 1]
    sine, cosine = np.sin(profiles.angles[i]), np.cos(profiles.angles[i])
    along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
    root = np.sqrt(profiles.elongations[i])
    result: Float = np.sqrt((along / root) ** 2 + (across * root) ** 2) - profiles.radii[i]
    return result


def membrane_distance(own: Int) -> Float:
    """Distance of every pixel from the line between its cell and the next.

    Args:
        own: int32 (H, W) cell numbers.

    Returns:
        float32 (H, W), pixels; 0.5 beside the line.
    """
    edge = np.zeros(own.shape, dtype=bool)
    horizontal, vertical = own[:, 1:] != own[:, :-1], own[1:] != own[:-1]
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    edge[1:] |= vertical
    edge[:-1] |= vertical
    if not edge.any():  # one cell fills the picture
        return np.full(own.shape, float(max(own.shape)), dtype=np.float32)
    distance = (ndi.distance_transform_edt(~edge) + 0.5).astype(np.float32)
    distance = _round_corners(distance, own)
    return ndi.gaussian_filter(distance, 0.7)  # takes the staircase out of the line


def _round_corners(distance: Float, own: Int) -> Float:
    """Membranes are stiff: where three cells meet, their corners are round and a dark wedge stays between them.

    The part of a cell that a disk of radius r inside it cannot reach counts as nearer to the membrane than it is; r is
    6 px, less in thin cells.
    """
    deepest = np.zeros(int(own.max()) + 1, dtype=np.float32)
    np.maximum.at(deepest, own.ravel(), distance.ravel())
    radius = np.minimum(6.0, 0.45 * deepest)[own].astype(np.float32)
    from_core = ndi.distance_transform_edt(distance <= radius).astype(np.float32)
    rounded = np.where(from_core > 0.0, np.minimum(distance, radius + 0.5 - from_core), distance)
    return np.maximum(rounded, 0.5 * distance)
