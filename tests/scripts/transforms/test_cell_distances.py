"""Distances to the two nearest cells against the definition, pixel by pixel."""

from __future__ import annotations

from functools import partial

import numpy as np
from skimage.segmentation import find_boundaries

from benchmarks.weight_map import nuclei, peak_memory
from scripts.transforms.cell_distances import two_nearest_cells
from scripts.transforms.weight_maps import weight_map


def literal_distances(instances: np.ndarray, everywhere: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(d1, d2): every pixel against every pixel of every cell, as Eq. 2 says; inf where there is no such cell."""
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
    """Boxes and discs thrown on each other: touching, nested, in pieces, at the edges, of one pixel, large numbers."""
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


def test_distances_are_exact_up_to_the_cutoff_and_infinite_beyond() -> None:
    instances = random_cells(seed=1, size=(60, 60), cells=12)
    expected = sum(literal_distances(instances))
    for cutoff in (0, 0.5, 2, 7.3, 20, 200):
        ours = two_nearest_cells(instances, cutoff)
        assert (np.isfinite(ours) == (expected <= cutoff)).all()
        np.testing.assert_allclose(ours[np.isfinite(ours)], expected[expected <= cutoff], atol=1e-5)


def test_memory_is_that_of_a_few_images_however_many_cells() -> None:
    image = np.float32().nbytes * 1024**2 / 1e6
    for cells in (10, 1000):
        assert peak_memory(partial(weight_map, nuclei(1024, cells))) < 12 * image
