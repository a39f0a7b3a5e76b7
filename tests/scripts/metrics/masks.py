"""Random masks of cells for the tests of the metrics."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def blobs(seed: int, share: float = 0.5, shape: tuple[int, int] = (30, 40), sigma: float = 1.5) -> np.ndarray:
    """Give cells that cover a share of the plane, bool, of a width of about `sigma` pixels."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return noise > np.quantile(noise, 1 - share)
