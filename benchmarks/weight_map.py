"""The weight map of Eq. 2, ours against the widely copied method: `python -m benchmarks.weight_map [--data DIR]`.

The copied method, written anew from what it does: label the connected components of a binary mask, take one distance
map of the full image for each cell, stack them, sort the stack along the cells, and put its first two layers into the
formula. Both methods get the same mask, components included in the time, and must agree to 1e-5 before they are timed.

Both are measured in turn in one run and use one core. The ratio is given for the medians of the wall time, which other
work on the machine disturbs, and of the processor time. The spread is the range.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.io import imread
from skimage.measure import label

from benchmarks.em_slice import em_slice
from scripts.instance_labels import instances_from_mask
from scripts.weight_maps import weight_map


def copied(mask: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """The widely copied method; float64 (H, W)."""
    cells = label(mask, connectivity=1)
    numbers = np.unique(cells)[1:]
    stack = np.zeros((*mask.shape, len(numbers)))
    for layer, number in enumerate(numbers):
        stack[..., layer] = distance_transform_edt(cells != number)
    stack = np.sort(stack, axis=2)
    border = w0 * np.exp(-((stack[..., 0] + stack[..., 1]) ** 2) / (2 * sigma**2))
    return 1 + border * (cells == 0)


def ours(mask: np.ndarray) -> np.ndarray:
    """The same from this project's functions."""
    return weight_map(instances_from_mask(mask))


def slice_ways(folder: Path | None = None) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> the weight map of one EM slice of 512 x 512, see `em_slice`; the first is ours."""
    _, mask = em_slice(folder)
    return {"ours: weight_map": partial(ours, mask), "one distance map per cell": partial(copied, mask)}


def large_ways() -> dict[str, Callable[[], np.ndarray]]:
    """Name -> our weight map of made nuclei, as many to a pixel at every size: 10,000 on 4096 x 4096."""
    return {
        f"{size} x {size}": partial(weight_map, nuclei(size, 10000 * size**2 // 4096**2))
        for size in (512, 1024, 2048, 4096)
    }


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Wall time and processor time of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range: "1.20 (1.13 .. 1.70)"."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def peak_memory(function: Callable[[], object]) -> float:
    """Most memory that numpy held at once during one call, in MB (1e6 bytes)."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def nuclei(size: int, count: int, seed: int = 0) -> np.ndarray:
    """A made map of about `count` ellipses with half axes of 8 to 16 px, late ones below; int32 (size, size)."""
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


def compare(file: Path, repeats: int) -> None:
    """Print one line of the comparison on a label image."""
    mask = imread(file) > 0
    difference = np.abs(copied(mask) - ours(mask)).max()
    if difference > 1e-5:
        raise SystemExit(f"{file}: the two methods differ by {difference:.2g}, more than 1e-5")
    slow: list[tuple[float, float]] = []
    fast: list[tuple[float, float]] = []
    for _ in range(repeats):
        slow.append(seconds(lambda: copied(mask)))
        fast.extend(seconds(lambda: ours(mask)) for _ in range(5))
    slow_wall, slow_processor = zip(*slow, strict=True)
    fast_wall, fast_processor = zip(*fast, strict=True)
    wall = statistics.median(slow_wall) / statistics.median(fast_wall)
    processor = statistics.median(slow_processor) / statistics.median(fast_processor)
    print(
        f"{file.name:8}{instances_from_mask(mask).max():6d}  {spread(slow_wall, 2):21}"
        f"{spread([1e3 * t for t in fast_wall], 1):24}{wall:7.1f}{processor:11.1f}"
        f"{peak_memory(lambda: copied(mask)):11.1f}{peak_memory(lambda: ours(mask)):9.1f}{difference:12.1e}"
    )


def main() -> None:
    """Print the comparison on real slices and our times on large made maps."""
    parser = argparse.ArgumentParser(description="Weight map: ours against the widely copied method.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/isbi2012"), help="holds train/labels/*.png")
    parser.add_argument("--slices", type=int, default=3, help="how many of the label images")
    parser.add_argument("--repeats", type=int, default=5, help="of the copied method; ours runs five times as often")
    arguments = parser.parse_args()
    folder = arguments.data / "train" / "labels"
    files = sorted(folder.glob("*.png"))[: arguments.slices]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    if files:
        print(
            "image    cells  copied, s            ours, ms                 ratio  cpu    copied, MB  ours, MB  differ"
        )
    else:
        print(f"no label images in {folder}: give the folder that holds train/labels/*.png with --data")
    for file in files:
        compare(file, arguments.repeats)
    print("\nmade map     cells  ours, s               MB  one float32 image, MB")
    for size, count in ((512, 156), (1024, 625), (2048, 2500), (4096, 10000)):
        instances = nuclei(size, count)
        walls = [seconds(partial(weight_map, instances))[0] for _ in range(3)]
        print(
            f"{size:4d}^2 {len(np.unique(instances)) - 1:11d}  {spread(walls, 2):19}"
            f"{peak_memory(partial(weight_map, instances)):6.0f}{4 * size**2 / 1e6:8.0f}"
        )


if __name__ == "__main__":
    main()
