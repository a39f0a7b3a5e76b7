"""What lies inside the cells of a synthetic section: grains, vesicles, microtubules and mitochondria."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi
from scipy.special import expit

from bundle.datasets.synthetic_cells import Float, Int, smooth_noise

Box = tuple[slice, slice]


def _stamp(shape: tuple[int, ...], centre: tuple[float, float], reach: float) -> tuple[Box, Float, Float] | None:
    """Window around a centre, cut at the rim: its slices and float32 offsets (dy, dx) of its pixels; None if empty."""
    y0, y1 = max(0, int(centre[0] - reach)), min(shape[0], int(centre[0] + reach) + 2)
    x0, x1 = max(0, int(centre[1] - reach)), min(shape[1], int(centre[1] + reach) + 2)
    if y0 >= y1 or x0 >= x1:
        return None
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    return (slice(y0, y1), slice(x0, x1)), y - np.float32(centre[0]), x - np.float32(centre[1])


def add_dots(rng: np.random.Generator, brightness: Float, inside: np.ndarray) -> None:
    """Ribosomes and cut filaments: dark grains of one to two pixels; changes `brightness` in place.

    Args:
        rng: source of randomness.
        brightness: float32 (H, W) grey values.
        inside: bool (H, W), where grains may lie.
    """
    shape = brightness.shape
    density = 0.016 * np.exp(0.4 * smooth_noise(rng, shape, 25.0))
    points = ((rng.random(shape, dtype=np.float32) < density) & inside) * rng.uniform(0.3, 1.2, size=shape)
    for sigma, share in ((0.9, 0.7), (1.5, 0.3)):
        spots = ndi.gaussian_filter(np.where(rng.random(shape) < share, points, 0.0), sigma)
        brightness -= (25.0 * 2.0 * np.pi * sigma**2 * spots).astype(np.float32)


def add_vesicles(rng: np.random.Generator, brightness: Float, own: Int, distance: Float) -> None:
    """Vesicles and microtubules: dark rings with a lighter lumen, in clusters, away from membranes; in place.

    Args:
        rng: source of randomness.
        brightness: float32 (H, W) grey values.
        own: int32 (H, W) cell numbers.
        distance: float32 (H, W) distance from the membrane, pixels.
    """
    cells = int(own.max()) + 1
    crowd = np.where(rng.random(cells) < 0.3, rng.uniform(1.0, 3.0, cells), 0.35).astype(np.float32)
    density = 0.0014 * crowd[own] * np.clip(smooth_noise(rng, own.shape, 18.0) + 0.8, 0.0, None)
    y, x = np.nonzero((rng.random(own.shape) < density) & (distance > 9.0))
    for centre in zip(y.tolist(), x.tolist(), strict=True):
        radius = float(rng.choice([2.2, 3.4, 4.2, 5.2], p=[0.45, 0.3, 0.17, 0.08]))
        window = _stamp(own.shape, centre, radius + 5.0)
        if window is None:
            continue
        box, dy, dx = window
        r = np.hypot(dy * rng.uniform(0.85, 1.15), dx) - radius
        ring = np.exp(-((r / 0.95) ** 2)) * rng.uniform(32.0, 64.0)
        lumen = 9.0 * expit(-(r + 1.0) / 0.5)
        brightness[box] += (lumen - ring).astype(np.float32)


def add_mitochondria(rng: np.random.Generator, brightness: Float, own: Int, distance: Float) -> None:
    """Mitochondria: dark ovals with a double membrane and folded cristae, where a cell has room; in place.

    Args:
        rng: source of randomness.
        brightness: float32 (H, W) grey values.
        own: int32 (H, W) cell numbers.
        distance: float32 (H, W) distance from the membrane, pixels.
    """
    room = distance.copy()
    for _ in range(rng.poisson(own.size / 24000.0)):
        y, x = np.nonzero(room > 13.0)
        if len(y) == 0:
            return
        tries = rng.integers(len(y), size=6)
        k = int(tries[room[y[tries], x[tries]].argmax()])  # organelles keep away from the membrane
        centre = (float(y[k]), float(x[k]))
        short = float(min(room[y[k], x[k]] - 3.5, rng.uniform(10.0, 26.0)))
        long = short * float(rng.uniform(1.1, 2.1))
        _draw_mitochondrion(rng, brightness, own == own[y[k], x[k]], distance, centre, (short, long))
        room[np.hypot(*np.mgrid[-y[k] : own.shape[0] - y[k], -x[k] : own.shape[1] - x[k]]) < 3.0 * long] = 0.0


def _draw_mitochondrion(
    rng: np.random.Generator,
    brightness: Float,
    cell: np.ndarray,
    distance: Float,
    centre: tuple[float, float],
    axes: tuple[float, float],
) -> None:
    """One mitochondrion of half-axes (short, long) in pixels, kept 4 px inside its cell."""
    window = _stamp(brightness.shape, centre, axes[1] + 8.0)
    if window is None:
        return
    box, dy, dx = window
    shape = dy.shape
    angle = rng.uniform(0.0, np.pi)
    bend = 1.0 + 0.10 * smooth_noise(rng, shape, 9.0)
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx
    level = np.hypot(along / axes[1], across / axes[0]) * bend
    depth = np.minimum((1.0 - level) * axes[0], np.where(cell[box], distance[box] - 4.0, -9.0))  # px inside the outline
    depth = ndi.gaussian_filter(depth, 0.8)
    matrix = expit(depth / 0.6)
    folds = along + 2.2 * smooth_noise(rng, shape, 5.0) + 0.8 * smooth_noise(rng, shape, 2.5)
    cristae = np.clip(
        np.sin(2.0 * np.pi * folds / rng.uniform(5.0, 7.0)) + 0.3 * smooth_noise(rng, shape, 3.0), -1.0, 1.0
    )
    cristae *= expit((depth - 3.5) / 0.7)
    outer, inner = np.exp(-((depth / 1.0) ** 2)), np.exp(-(((depth - 2.9) / 0.9) ** 2))
    shade = rng.uniform(34.0, 58.0)
    brightness[box] -= (shade * matrix + 42.0 * outer + 20.0 * inner + 21.0 * cristae * matrix).astype(np.float32)
