"""Random displacement fields in pixels: the paper's coarse grid (Sec. 3.1) and Simard's blurred noise.

A displacement array has the shape (2, m, n): its first plane moves along the rows, its second along the columns, and
the value at an output pixel is added to the place where the input is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

Random = np.random.RandomState | np.random.Generator


class Field(Protocol):
    """What the random transforms draw from: a callable (tile size, random state) -> displacements."""

    def __call__(self, size: Sequence[int], random_state: Random) -> np.ndarray:
        """Draw float32 displacements for a tile of `size`: coarse (2, m, n), or dense (2, *size)."""


@dataclass(frozen=True)
class CoarseField:
    """The paper's field as an object that a configuration can name; arguments as in `sample_displacements`."""

    points: int | Sequence[int] = (3, 3)
    sigma: float = 10.0

    def __post_init__(self) -> None:
        _check_points(self.points)
        _check_not_negative("sigma", self.sigma)

    def __call__(self, size: Sequence[int], random_state: Random) -> np.ndarray:
        """Draw float32 displacements (2, *points); a coarse grid is the same for every tile size."""
        return sample_displacements(self.points, self.sigma, random_state)


@dataclass(frozen=True)
class SimardField:
    """Simard's field as an object for a configuration; arguments as in `sample_simard_displacements`."""

    alpha: float = 50.0
    sigma: float = 5.0
    kernel_size: int = 25

    def __post_init__(self) -> None:
        _check_simard(self.alpha, self.sigma, self.kernel_size)

    def __call__(self, size: Sequence[int], random_state: Random) -> np.ndarray:
        """Draw float32 displacements (2, *size)."""
        return sample_simard_displacements(size, self.alpha, self.sigma, self.kernel_size, random_state)


def sample_displacements(
    points: int | Sequence[int] = (3, 3), sigma: float = 10.0, random_state: Random | int | None = None
) -> np.ndarray:
    """Draw Gaussian displacement vectors on a coarse grid (Ronneberger 2015, Sec. 3.1: 3 x 3, 10 pixels).

    Args:
        points: control points along the rows and the columns, at least 2 each; one number stands for both.
        sigma: standard deviation of every component in pixels.
        random_state: numpy random state or generator, or a seed; None draws afresh.

    Returns:
        float32 (2, *points), pixels, (rows, columns).

    Raises:
        ValueError: fewer than 2 points along an axis, or a negative `sigma`.
    """
    rows, cols = _check_points(points)
    _check_not_negative("sigma", sigma)
    return (sigma * _random(random_state).normal(size=(2, rows, cols))).astype(np.float32)


def sample_simard_displacements(
    size: Sequence[int],
    alpha: float = 50.0,
    sigma: float = 5.0,
    kernel_size: int = 25,
    random_state: Random | int | None = None,
) -> np.ndarray:
    """Draw `alpha` times Gaussian-blurred uniform noise in [-1, 1] (Simard 2003, doi 10.1109/ICDAR.2003.1227801).

    The noise is drawn beyond the tile by half a kernel, so the displacements have the same spread at the border as
    inside and no rule for the border of the blur is needed. With the defaults that spread is 1.6 pixels.

    Args:
        size: (H, W) of the tile in pixels.
        alpha: factor after the blur, in pixels.
        sigma: standard deviation of the blur in pixels.
        kernel_size: width of the blur's kernel in pixels, odd.
        random_state: numpy random state or generator, or a seed; None draws afresh.

    Returns:
        float32 (2, H, W), pixels, (rows, columns).

    Raises:
        ValueError: a negative `alpha`, a `sigma` that is not positive, or an even kernel.
    """
    _check_simard(alpha, sigma, kernel_size)
    radius = kernel_size // 2
    shape = (2, size[0] + 2 * radius, size[1] + 2 * radius)
    noise = _random(random_state).uniform(-1.0, 1.0, shape).astype(np.float32)
    blurred = gaussian_filter(noise, (0, sigma, sigma), radius=(0, radius, radius))
    return alpha * blurred[:, radius : radius + size[0], radius : radius + size[1]]


@lru_cache(maxsize=64)
def spline_basis(points: int, size: int) -> np.ndarray:
    """Matrix that interpolates `points` values to `size` pixels by a cubic spline.

    The first and last control point sit on the first and last pixel, and the spline is mirrored there (so its slope is
    zero at both): the conventions of the `elasticdeform` package. Interpolation is linear in the values, so that of two
    axes is `spline_basis(m, H) @ values @ spline_basis(n, W).T`: two small products instead of a filter per pixel.

    Args:
        points: number of control points, at least 2.
        size: number of pixels, at least 1 (a single pixel takes the first control point).

    Returns:
        float32 (size, points), read-only because it is cached; rows add up to 1.
    """
    where = np.linspace(0, points - 1, size)
    columns = [map_coordinates(unit, [where], order=3, mode="mirror") for unit in np.eye(points)]
    basis = np.stack(columns, axis=1).astype(np.float32)
    basis.flags.writeable = False
    return basis


def dense_displacements(
    displacements: np.ndarray | torch.Tensor, size: Sequence[int], device: torch.device | None = None
) -> torch.Tensor:
    """Displacement of every pixel: a coarse grid is interpolated bicubically, a dense field is returned as it is.

    The displacements are interpolated, never absolute coordinates: a grid of zeros gives zeros exactly.

    Args:
        displacements: (2, m, n) coarse, or (2, h, w) dense; pixels.
        size: (h, w) of the tile.
        device: where the result lies.

    Returns:
        float32 (2, h, w), pixels.

    Raises:
        ValueError: not (2, m, n), or an axis of a coarse grid with fewer than 2 points.
    """
    field = torch.as_tensor(displacements, dtype=torch.float32, device=device)
    if field.ndim != 3 or field.shape[0] != 2:
        raise ValueError(f"displacements must be (2, m, n), rows and columns of a 2-D tile, got {tuple(field.shape)}")
    if tuple(field.shape[1:]) == tuple(size):
        return field
    if min(field.shape[1:]) < 2:
        raise ValueError(f"a coarse grid needs at least 2 points along each axis, got {tuple(field.shape[1:])}")
    down, across = (
        torch.tensor(spline_basis(points, length), device=device)
        for points, length in zip(field.shape[1:], size, strict=True)
    )
    return down @ (field @ across.T)  # (h, m) @ ((2, m, n) @ (n, w)) -> (2, h, w)


def _random(random_state: Random | int | None) -> Random:
    if isinstance(random_state, np.random.RandomState | np.random.Generator):
        return random_state
    return np.random.RandomState(random_state)


def _check_points(points: int | Sequence[int]) -> tuple[int, int]:
    rows, cols = (points, points) if isinstance(points, int) else points
    if rows < 2 or cols < 2:
        raise ValueError(
            f"a displacement grid needs at least 2 points along each axis, got {points}; "
            "for one displacement of the whole tile use translate_range"
        )
    return rows, cols


def _check_simard(alpha: float, sigma: float, kernel_size: int) -> None:
    _check_not_negative("alpha", alpha)
    if sigma <= 0:
        raise ValueError(f"sigma of the blur must be positive, got {sigma}")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd to have a centre, got {kernel_size}; take {kernel_size + 1}")


def _check_not_negative(name: str, value: float) -> None:
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
