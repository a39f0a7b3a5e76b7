"""Masks, label images and scores of stacks for the tests of the metrics and reports."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from scripts.metrics.membranes import ThresholdCurve, pooled_counts, stack_curves, thinned_curves


def blobs(seed: int, share: float = 0.5, shape: tuple[int, int] = (30, 40), sigma: float = 1.5) -> np.ndarray:
    """Make random cells, bool, with a given share of the plane and a width of about `sigma` pixels."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return noise > np.quantile(noise, 1 - share)


def row(*labels: int) -> np.ndarray:
    """Give a label image of one row."""
    return np.array([labels])


def touching_cells(seed: int, size: int = 128, cells: int = 30) -> np.ndarray:
    """Give a label image of cells around random points, uint16 (size, size). Some cells touch."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, size, (cells, 2))
    far = np.linalg.norm(np.stack(np.mgrid[:size, :size], -1)[:, :, None] - points, axis=-1)
    return np.where(far.min(-1) < rng.uniform(5, 12, cells)[far.argmin(-1)], far.argmin(-1) + 1, 0).astype(np.uint16)


def disturbed(labels: np.ndarray, seed: int) -> np.ndarray:
    """Shift all objects, and remove, merge, split or add some, as a network may do."""
    rng = np.random.default_rng(seed)
    found = np.roll(labels, rng.integers(-3, 4, 2), (0, 1))
    ids = np.unique(found)[1:]
    lost, merged, split = rng.permutation(ids)[:9].reshape(3, 3) if len(ids) >= 9 else ([], [], [])
    found[np.isin(found, lost)] = 0
    found[np.isin(found, merged)] = 300
    found[np.isin(found, split) & (np.arange(found.shape[1]) % 16 < 5)] = 301
    found[-8:, :8] = 302
    return found


def challenge_curves(planes: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, ThresholdCurve]:
    """Measure a stack of (probability, truth) without engine and report."""
    return stack_curves(
        [
            {"thinned": [(c.precision, c.recall, c.f) for c in thinned_curves(*plane)], "pooled": pooled_counts(*plane)}
            for plane in planes
        ]
    )
