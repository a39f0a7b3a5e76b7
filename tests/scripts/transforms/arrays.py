"""Small label images for the tests of transforms, and the literal distances of Eq. 2."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.segmentation import find_boundaries


def made(*rows: str) -> np.ndarray:
    """Make an integer array from rows of digits, also separated by spaces. "." is 0, "-" is -1."""
    return np.array([[-1 if c == "-" else int(c.replace(".", "0")) for c in row] for row in " ".join(rows).split()])


def literal_distances(instances: np.ndarray, everywhere: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Compute (d1, d2) of Eq. 2 from each pixel to each pixel of each cell; inf without a cell."""
    grid = np.indices(instances.shape).reshape(2, -1).T.astype(float)
    distances = [np.full(len(grid), np.inf)] * 2
    for cell in np.unique(instances[instances > 0]):
        mask = instances == cell
        pixels = np.argwhere(find_boundaries(mask, connectivity=1, mode="inner") if everywhere else mask)
        if len(pixels):
            distances.append(np.sqrt(((grid[:, None] - pixels[None]) ** 2).sum(-1)).min(1))
    d1, d2 = np.sort(distances, axis=0)[:2]
    return d1.reshape(instances.shape), d2.reshape(instances.shape)


def random_cells(seed: int, size: tuple[int, int], cells: int) -> np.ndarray:
    """Draw overlapping boxes and discs: touching, nested, in pieces, at the edges, single pixels, large numbers."""
    rng = np.random.default_rng(seed)
    instances = np.zeros(size, dtype=np.int32)
    rows, columns = np.indices(size)
    for number in rng.permutation(10**6)[:cells] + 1:
        y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
        if rng.random() < 0.5:
            instances[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = number
        else:
            instances[(rows - y) ** 2 + (columns - x) ** 2 <= rng.uniform(0, 8) ** 2] = number
    return instances


def blobs(seed: int, share: float = 0.5, shape: tuple[int, int] = (30, 40)) -> np.ndarray:
    """Threshold blurred noise; `share` of the pixels are true."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return noise > np.quantile(noise, 1 - share)
