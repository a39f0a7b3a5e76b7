"""Draw the contents of cells in a synthetic section: grains, vesicles, microtubules and mitochondria."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi
from scipy.special import expit

from bundle.datasets.synthetic_cells import Float, Int, smooth_noise

Box = tuple[slice, slice]


def _window(shape: tuple[int, ...], centre: tuple[float, float], reach: float) -> tuple[Box, Float, Float]:
    """Cut a window around a centre, clipped at the border: slices, float32 row and column offsets of its pixels."""
    box = tuple(slice(max(0, int(c - reach)), min(n, int(c + reach) + 2)) for c, n in zip(centre, shape, strict=True))
    y, x = np.mgrid[box].astype(np.float32)
    return (box[0], box[1]), y - np.float32(centre[0]), x - np.float32(centre[1])


def add_dots(rng: np.random.Generator, brightness: Float, inside: np.ndarray) -> None:
    """Draw ribosomes and cut filaments in place: dark grains of one to two pixels.

    Args:
        rng: source of randomness.
        brightness: float32 (H, W) grey values, changed in place.
        inside: bool (H, W), pixels where grains may lie.

    Example:
        >>> brightness = np.full((64, 64), 150.0, dtype=np.float32)
        >>> add_dots(np.random.default_rng(0), brightness, inside=np.ones((64, 64), bool))
        >>> bool(brightness.min() < 140)
        True
    """
    shape = brightness.shape
    density = 0.016 * np.exp(0.4 * smooth_noise(rng, shape, 25.0))
    points = ((rng.random(shape, dtype=np.float32) < density) & inside) * rng.uniform(0.3, 1.2, size=shape)
    for sigma, share in ((0.9, 0.7), (1.5, 0.3)):
        spots = ndi.gaussian_filter(np.where(rng.random(shape) < share, points, 0.0), sigma)
        brightness -= (25.0 * 2.0 * np.pi * sigma**2 * spots).astype(np.float32)


def add_vesicles(rng: np.random.Generator, brightness: Float, own: Int, distance: Float) -> None:
    """Draw vesicles and microtubules in place: clusters of dark rings with a lighter lumen, away from membranes.

    Args:
        rng: source of randomness.
        brightness: float32 (H, W) grey values, changed in place.
        own: int32 (H, W) cell numbers.
        distance: float32 (H, W) distance from the membrane, pixels.

    Example:
        >>> brightness, own = np.full((256, 256), 150.0, np.float32), np.zeros((256, 256), np.int32)
        >>> add_vesicles(np.random.default_rng(0), brightness, own, distance=np.full((256, 256), 20.0))
        >>> bool(brightness.min() < 140)
        True
    """
    cells = int(own.max()) + 1
    crowd = np.where(rng.random(cells) < 0.3, rng.uniform(1.0, 3.0, cells), 0.35).astype(np.float32)
    density = 0.0014 * crowd[own] * np.clip(smooth_noise(rng, own.shape, 18.0) + 0.8, 0.0, None)
    for y, x in np.argwhere((rng.random(own.shape) < density) & (distance > 9.0)).tolist():
        radius = float(rng.choice([2.2, 3.4, 4.2, 5.2], p=[0.45, 0.3, 0.17, 0.08]))
        box, dy, dx = _window(own.shape, (y, x), radius + 5.0)
        r = np.hypot(dy * rng.uniform(0.85, 1.15), dx) - radius
        ring = np.exp(-((r / 0.95) ** 2)) * rng.uniform(32.0, 64.0)
        lumen = 9.0 * expit(-(r + 1.0) / 0.5)
        brightness[box] += (lumen - ring).astype(np.float32)


def add_mitochondria(rng: np.random.Generator, brightness: Float, own: Int, distance: Float) -> None:
    """Draw mitochondria in place: dark ovals with a double membrane and folded cristae, in cells with enough room.

    Arguments and use as in `add_vesicles`.
    """
    room = distance.copy()
    for _ in range(rng.poisson(own.size / 24000.0)):
        y, x = np.nonzero(room > 13.0)
        if len(y) == 0:
            return
        tries = rng.integers(len(y), size=6)
        k = int(tries[room[y[tries], x[tries]].argmax()])  # organelles keep away from the membrane
        short = float(min(room[y[k], x[k]] - 3.5, rng.uniform(10.0, 26.0)))
        long = short * float(rng.uniform(1.1, 2.1))
        _draw_mitochondrion(rng, brightness, own == own[y[k], x[k]], distance, (float(y[k]), float(x[k])), short, long)
        room[np.hypot(*np.mgrid[-y[k] : own.shape[0] - y[k], -x[k] : own.shape[1] - x[k]]) < 3.0 * long] = 0.0


def _draw_mitochondrion(
    rng: np.random.Generator,
    brightness: Float,
    cell: np.ndarray,
    distance: Float,
    centre: tuple[float, float],
    short: float,
    long: float,
) -> None:
    """Draw a mitochondrion with half-axes `short` and `long` (pixels), 4 px or more inside its cell."""
    box, dy, dx = _window(brightness.shape, centre, long + 8.0)
    shape = dy.shape
    angle = rng.uniform(0.0, np.pi)
    bend = 1.0 + 0.10 * smooth_noise(rng, shape, 9.0)
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx
    level = np.hypot(along / long, across / short) * bend
    depth = np.minimum((1.0 - level) * short, np.where(cell[box], distance[box] - 4.0, -9.0))  # px inside the outline
    depth = ndi.gaussian_filter(depth, 0.8)
    matrix = expit(depth / 0.6)
    folds = along + 2.2 * smooth_noise(rng, shape, 5.0) + 0.8 * smooth_noise(rng, shape, 2.5)
    cristae = np.sin(2.0 * np.pi * folds / rng.uniform(5.0, 7.0)) + 0.3 * smooth_noise(rng, shape, 3.0)
    cristae = np.clip(cristae, -1.0, 1.0) * expit((depth - 3.5) / 0.7)
    outer, inner = np.exp(-((depth / 1.0) ** 2)), np.exp(-(((depth - 2.9) / 0.9) ** 2))
    shade = rng.uniform(34.0, 58.0)
    brightness[box] -= (shade * matrix + 42.0 * outer + 20.0 * inner + 21.0 * cristae * matrix).astype(np.float32)
