"""Objects of a stack by blocks, to compare with the objects of whole planes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from scripts.large import BlockGrid, BlockObjects, Joined, JoinedLabels, block_objects, final_labels, join


def window(stack: np.ndarray, grid: BlockGrid, number: int, halo: int = 0) -> np.ndarray:
    """Cut a block and its halo out of (P, ..., H, W)."""
    rows, columns = grid.window(grid[number], halo)
    return stack[grid[number].plane, ..., slice(*rows), slice(*columns)]


def objects_of_blocks(stack: np.ndarray, grid: BlockGrid, halo: int, **options: Any) -> list[BlockObjects]:
    """Find the objects of every block."""
    return [block_objects(window(stack, grid, b.number, halo), grid, b, halo, **options) for b in grid]


def read_joined(grid: BlockGrid, blocks: list[BlockObjects], min_area: int = 0) -> tuple[Joined, JoinedLabels]:
    """Join the objects, and give the function that reads their numbers."""
    joined = join(grid, (block.seam for block in blocks), min_area)
    return joined, JoinedLabels(grid, lambda block: blocks[block.number].labels, joined)


def labels_by_blocks(stack: np.ndarray, size: int, halo: int, gap: int = 0, min_area: int = 0, **options: Any):
    """Find the labels of planes (P, H, W) or (H, W), block by block."""
    planes = stack if stack.ndim == 3 else stack[None]
    grid = BlockGrid(*planes.shape, size=size)
    blocks = objects_of_blocks(planes, grid, halo, min_area=min_area, **options)
    joined, read = read_joined(grid, blocks, min_area)
    labels = np.zeros(planes.shape, np.uint32)
    for block in grid:
        window(labels, grid, block.number)[...] = final_labels(read, grid, block, gap, joined.objects[block.plane])
    return labels.reshape(stack.shape)


def assert_same_objects(labels: np.ndarray, expected: np.ndarray) -> None:
    """Compare two label images up to their numbers. Both have the numbers 1 .. n."""
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]).astype(np.int64), axis=1)
    both = np.arange(pairs.shape[1])
    np.testing.assert_array_equal(np.sort(pairs[0]), both)
    np.testing.assert_array_equal(np.sort(pairs[1]), both)
    assert pairs[:, 0].tolist() in ([0, 0], [1, 1])  # background is background


def blobs(seed: int, size: tuple[int, int], smoothness: float = 2) -> np.ndarray:
    """Make probabilities 0 .. 1 with blobs, half of the pixels above 0.5."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(size), smoothness)
    return np.clip(0.5 + noise / (4 * noise.std()), 0, 1)
