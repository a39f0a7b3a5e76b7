"""Distances to the two nearest cells against the definition, pixel by pixel."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.weight_map import nuclei, peak_memory
from scripts.transforms.cell_distances import two_nearest_cells
from scripts.transforms.weight_maps import weight_map
from tests.scripts.transforms.arrays import literal_distances, random_cells


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
