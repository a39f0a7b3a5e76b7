"""Draw random displacement fields in pixels: the paper's coarse grid (Sec. 3.1) and Simard's blurred noise.

A displacement array has the shape (2, m, n). Plane 0 moves along the rows, plane 1 along the columns. The value at an
output pixel is added to the place where the input is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from monai.utils import ensure_tuple_rep
from scipy.ndimage import gaussian_filter, map_coordinates

Random = np.random.RandomState | np.random.Generator


class Field(Protocol):
    """The interface of displacement fields, which the random transforms draw from."""

    def __call__(self, size: Sequence[int], random_state: Random) -> np.ndarray:
        """Draw float32 displacements for a tile of `size`: coarse (2, m, n), or dense (2, *size)."""


@dataclass(frozen=True)
class CoarseField:
    """The paper's displacement field, for configurations. Arguments as in `sample_displacements`.

    Example:
        train#field: {_target_: scripts.transforms.CoarseField, points: 3, sigma: 10.0}
    """

    points: int | Sequence[int] = (3, 3)
    sigma: float = 10.0

    def __post_init__(self) -> None:
        if min(self._shape) < 2:
            raise ValueError(
                f"a displacement grid needs at least 2 points along each axis, got {self.points}. "
                "To shift the whole tile, use translate_range."
            )
        _check_not_negative("sigma", self.sigma)

    @property
    def _shape(self) -> tuple[int, ...]:
        return ensure_tuple_rep(self.points, 2)

    def __call__(self, size: Sequence[int], random_state: Random) -> np.ndarray:
        """Draw float32 displacements (2, *points). The tile's `size` does not matter."""
        return (self.sigma * random_state.normal(size=(2, *self._shape))).astype(np.float32)


@dataclass(frozen=True)
class SimardField:
    """Simard's displacement field, for configurations. Arguments as in `sample_simard_displacements`.

    Example:
        train#field: {_target_: scripts.transforms.SimardField, alpha: 30.0}
    """

    alpha: float = 50.0
    sigma: float = 5.0
    kernel_size: int = 25

    def __post_init__(self) -> None:
        _check_not_negative("alpha", self.alpha)
        if self.sigma <= 0:
            raise ValueError(f"sigma of the blur must be positive, got {self.sigma}")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}. Use {self.kernel_size + 1}.")

    def __call__(self, size: Sequence[int], random_state: Random) -> np.ndarray:
        """Draw float32 displacements (2, *size)."""
        radius = self.kernel_size // 2
        noise = random_state.uniform(-1.0, 1.0, (2, size[0] + 2 * radius, size[1] + 2 * radius)).astype(np.float32)
        blurred = gaussian_filter(noise, (0, self.sigma, self.sigma), radius=(0, radius, radius))
        return self.alpha * blurred[:, radius : radius + size[0], radius : radius + size[1]]


def sample_displacements(
    points: int | Sequence[int] = (3, 3), sigma: float = 10.0, random_state: Random | int | None = None
) -> np.ndarray:
    """Draw Gaussian displacement vectors on a coarse grid (Ronneberger 2015, Sec. 3.1: 3 x 3, 10 pixels).

    Args:
        points: control points along the rows and the columns, at least 2 each. One number stands for both. The corner
            points lie on the tile's corner pixels.
        sigma: standard deviation of each component in pixels.
        random_state: numpy random state or generator, or a seed. None: a new seed at each call.

    Returns:
        float32 (2, *points), pixels, (rows, columns).

    Raises:
        ValueError: fewer than 2 points along an axis, or a negative `sigma`.

    Example:
        >>> sample_displacements(points=(3, 4), sigma=10.0, random_state=0).shape
        (2, 3, 4)
    """
    return CoarseField(points, sigma)((), _random(random_state))


def sample_simard_displacements(
    size: Sequence[int],
    alpha: float = 50.0,
    sigma: float = 5.0,
    kernel_size: int = 25,
    random_state: Random | int | None = None,
) -> np.ndarray:
    """Draw `alpha` times Gaussian-blurred uniform noise in [-1, 1] (Simard 2003, doi 10.1109/ICDAR.2003.1227801).

    The noise extends beyond the tile by half a kernel, so the displacements have the same spread at the border as
    inside: 1.6 pixels with the defaults.

    Args:
        size: (H, W) of the tile in pixels.
        alpha: factor after the blur, in pixels.
        sigma: standard deviation of the blur in pixels.
        kernel_size: width of the blur's kernel in pixels, odd.
        random_state: numpy random state or generator, or a seed. None: a new seed at each call.

    Returns:
        float32 (2, H, W), pixels, (rows, columns).

    Raises:
        ValueError: a negative `alpha`, a `sigma` that is not positive, or an even kernel.

    Example:
        >>> sample_simard_displacements((40, 30), random_state=0).shape
        (2, 40, 30)
    """
    return SimardField(alpha, sigma, kernel_size)(size, _random(random_state))


def dense_displacements(
    displacements: np.ndarray | torch.Tensor, size: Sequence[int], device: torch.device | None = None
) -> torch.Tensor:
    """Interpolate a coarse grid bicubically to a displacement for each pixel. A dense field is returned unchanged.

    Displacements are interpolated, not absolute coordinates, so a grid of zeros gives exact zeros.

    Args:
        displacements: (2, m, n) coarse, or (2, h, w) dense, in pixels.
        size: (h, w) of the tile.
        device: of the result.

    Returns:
        float32 (2, h, w), pixels.

    Raises:
        ValueError: not (2, m, n), or an axis of a coarse grid with fewer than 2 points.

    Example:
        >>> dense_displacements(np.ones((2, 3, 3)), (40, 30)).shape
        torch.Size([2, 40, 30])
    """
    field = torch.as_tensor(displacements, dtype=torch.float32, device=device)
    if field.ndim != 3 or field.shape[0] != 2:
        raise ValueError(f"displacements must be (2, m, n), rows and columns of a 2-D tile, got {tuple(field.shape)}")
    if tuple(field.shape[1:]) == tuple(size):
        return field
    if min(field.shape[1:]) < 2:
        raise ValueError(f"a coarse grid needs at least 2 points along each axis, got {tuple(field.shape[1:])}")
    down, across = (
        torch.tensor(_spline_basis(points, length), device=device)
        for points, length in zip(field.shape[1:], size, strict=True)
    )
    return down @ (field @ across.T)  # (h, m) @ ((2, m, n) @ (n, w)) -> (2, h, w)


@lru_cache(maxsize=64)
def _spline_basis(points: int, size: int) -> np.ndarray:
    """Compute the matrix that interpolates `points` values to `size` pixels by a cubic spline.

    As in the package `elasticdeform`, the first and last control points sit on the first and last pixels, and the
    spline is mirrored there (slope 0). The interpolation is linear in the values, so two small matrix products replace
    a filter for each pixel.

    Returns:
        float32 (size, points), read-only because it is cached. Rows add up to 1.
    """
    where = np.linspace(0, points - 1, size)
    columns = [map_coordinates(unit, [where], order=3, mode="mirror") for unit in np.eye(points)]
    basis = np.stack(columns, axis=1).astype(np.float32)
    basis.flags.writeable = False
    return basis


def _random(random_state: Random | int | None) -> Random:
    if isinstance(random_state, np.random.RandomState | np.random.Generator):
        return random_state
    return np.random.RandomState(random_state)


def _check_not_negative(name: str, value: float) -> None:
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
