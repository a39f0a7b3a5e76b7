"""Compare the weight map of Eq. 2 with the widely copied method.

The copied method, rewritten here from its steps:

1. Label the connected components of a binary mask.
2. Compute a distance map of the full image for each cell, and stack the maps.
3. Sort the stack along the cells. The first two layers are d1 and d2.

Both methods get the same mask. The time includes the connected components. The results must agree to 1e-5.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import label

from benchmarks.em_slice import SIDE, em_slice
from benchmarks.measure import Goal, Row, Setup, Times, Way, take_turns
from scripts.transforms.instance_labels import instances_from_mask
from scripts.transforms.weight_maps import weight_map

CELLS = 10_000  # on 4096 x 4096; smaller maps have the same density


def copied(mask: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """Compute the weight map by the widely copied method; float64 (H, W)."""
    cells = label(mask, connectivity=1)
    numbers = np.unique(cells)[1:]
    if len(numbers) < 2:
        return np.ones(mask.shape)  # no second cell
    stack = np.zeros((*mask.shape, len(numbers)))
    for layer, number in enumerate(numbers):
        stack[..., layer] = distance_transform_edt(cells != number)
    stack = np.sort(stack, axis=2)
    border = w0 * np.exp(-((stack[..., 0] + stack[..., 1]) ** 2) / (2 * sigma**2))
    return 1 + border * (cells == 0)


def ours(mask: np.ndarray) -> np.ndarray:
    """Compute the weight map by this project's functions; float32 (H, W)."""
    return weight_map(instances_from_mask(mask))


def peak_memory(function: Callable[[], object]) -> float:
    """Measure the peak memory of numpy during a call, in MB (1e6 bytes)."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def nuclei(size: int, count: int, seed: int = 0) -> np.ndarray:
    """Draw about `count` ellipses with half axes of 8 to 16 px, later ellipses below; int32 (size, size)."""
    rng = np.random.default_rng(seed)
    instances = np.zeros((size, size), dtype=np.int32)
    for number in range(1, count + 1):
        y, x = rng.integers(0, size, 2)
        a, b = rng.uniform(8, 16, 2)
        rows, columns = slice(max(y - 16, 0), y + 17), slice(max(x - 16, 0), x + 17)
        yy, xx = np.ogrid[rows.start : min(rows.stop, size), columns.start : min(columns.stop, size)]
        box = instances[rows, columns]
        box[(((yy - y) / a) ** 2 + ((xx - x) / b) ** 2 <= 1) & (box == 0)] = number
    return instances


def rows(setup: Setup) -> Iterator[Row]:
    """Measure an EM slice with both methods, and synthetic maps up to 4096 x 4096 with 10,000 cells."""
    mask = em_slice(setup.data)[1][: 128 if setup.quick else SIDE]
    difference = float(np.abs(copied(mask) - ours(mask)).max())
    if difference > 1e-5:
        raise ValueError(f"the two methods differ by {difference:.2g}, more than 1e-5: not the same work")
    ways: dict[str, Way] = {
        "ours": partial(ours, mask),
        "copied": partial(copied, mask),
        "limit": partial(distance_transform_edt, ~mask),
    }
    times = take_turns(ways, setup.repeats)
    yield Row(
        f"weight map, EM slice of {mask.shape[0]} x {mask.shape[1]}, {instances_from_mask(mask).max()} cells",
        Times("search from row to row", times["ours"]),
        Times("a distance map for each cell, sorted", times["copied"]),
        Times("one distance transform", times["limit"]),
        (Goal("times", 70),),
        f"{peak_memory(ways['ours']):.0f} MB, the baseline {peak_memory(ways['copied']):.0f} MB; largest difference "
        f"{difference:.0e}",
    )
    per_pixel: list[float] = []
    for size in (256, 512) if setup.quick else (512, 1024, 2048, 4096):
        count = round(CELLS * (size / 4096) ** 2)
        instances = nuclei(size, count)
        ways = {"ours": partial(weight_map, instances), "one": partial(distance_transform_edt, instances != 1)}
        times = take_turns(ways, min(setup.repeats, 3))
        per_pixel.append(median(times["ours"]) / size**2)
        deviation = max(abs(value / per_pixel[0] - 1) for value in per_pixel)
        cells = len(np.unique(instances)) - 1
        yield Row(
            f"weight map, {size} x {size}, {cells} cells",
            Times("search from row to row", times["ours"]),
            Times(f"{cells} distance maps, from the time of one", [second * cells for second in times["one"]]),
            Times("one distance transform", times["one"]),
            () if len(per_pixel) == 1 else (Goal("deviation", 0.20),),
            f"{1e9 * per_pixel[-1]:.0f} ns a pixel; memory of {1e6 * peak_memory(ways['ours']) / (4 * size**2):.1f} "
            "float32 images",
            {"deviation": deviation},
        )
