"""Time and memory of joining the objects of many blocks, the one step of a large image in a single process.

    python -m benchmarks.joining [--blocks 10000 100000 1000000] [--tissues nuclei cells]

The blocks have 2048 x 2048 pixels and lie in one square plane. All blocks are copies of a made-up block. Its objects
continue on the opposite side: 484 nuclei of 26 pixels in radius, or 1936 cells 46 pixels wide between membranes. Blocks
come from memory, without the time of reading files.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import repeat
from math import ceil
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.memory import growth, in_fresh_process
from scripts.large import BlockGrid, BlockObjects, BlockSeam, Joined, block_objects, join
from scripts.large.objects import DIRECTIONS, side

SIZE = 2048  # pixels
MEMBRANE = 3.25  # pixels: the nearest two cell centres are almost equally far from a membrane
TISSUES = {"nuclei": 22, "cells": 44}  # objects along a side of a block


class Run(NamedTuple):
    """Result of a run.

    Args:
        objects: joined objects.
        crossing: labels of crossing objects in all blocks.
        edges: pairs of labels of two blocks for the same object, in both directions.
        seconds: of joining.
        memory: growth of the process at its peak, in bytes.
    """

    objects: int
    crossing: int
    edges: int
    seconds: float
    memory: int


def made_block(tissue: str, size: int = SIZE) -> BlockObjects:
    """Make the objects of a block of a periodic plane.

    Example:
        >>> made_block("nuclei", 256).labels.shape
        (256, 256)
    """
    along = TISSUES[tissue]
    pitch = size / along
    random = np.random.default_rng(0)
    centres = (np.indices((along, along)).reshape(2, -1).T + random.uniform(0.3, 0.7, (along**2, 2))) * pitch
    pixels = np.indices((size, size)).reshape(2, -1).T
    (nearest, second), _ = (found.T for found in cKDTree(centres, boxsize=size).query(pixels, k=2))
    mask = nearest < 0.28 * pitch if tissue == "nuclei" else second - nearest > MEMBRANE
    grid = BlockGrid(planes=1, height=3 * size, width=3 * size, size=size)
    mask = np.roll(mask.reshape(size, size), round(0.22 * pitch), axis=(0, 1))  # seams through nuclei, not between rows
    scores = np.pad(mask, size // 8, mode="wrap")
    return block_objects(scores, grid, grid.at(0, 1, 1), halo=size // 8)


def grid_of(blocks: int, size: int = SIZE) -> BlockGrid:
    """Make a square plane of at least this number of blocks.

    Example:
        >>> grid_of(10).shape
        (4, 4)
    """
    along = ceil(blocks**0.5)
    return BlockGrid(planes=1, height=along * size, width=along * size, size=size)


def edges_of(seam: BlockSeam, grid: BlockGrid) -> int:
    """Count the pairs of labels for the same pixel, over all seams of a plane of equal blocks."""
    total, (rows, columns) = 0, grid.shape
    for direction, (row, column) in enumerate(DIRECTIONS):
        pairs = np.stack([seam.ring[side(direction, *grid[0].shape)], seam.border[side(7 - direction, *grid[0].shape)]])
        named = np.unique(pairs[:, (pairs > 0).all(axis=0)], axis=1).shape[1]
        total += named * (rows - abs(row)) * (columns - abs(column))
    return total


def measure(seam: BlockSeam, grid: BlockGrid) -> Run:
    """Join the objects of equal blocks, in this process."""
    join(BlockGrid(1, 2 * grid.size, 2 * grid.size, grid.size), repeat(seam, 4))  # compiles
    found: list[Joined] = []
    start = time.perf_counter()
    memory = growth(lambda: found.append(join(grid, repeat(seam, len(grid)), min_area=20)))
    seconds = time.perf_counter() - start
    return Run(int(found[0].objects.sum()), len(found[0].crossing), edges_of(seam, grid), seconds, memory)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--tissues", nargs="+", choices=TISSUES, default=list(TISSUES))
    chosen = parser.parse_args(arguments)
    print(
        "| tissue | blocks | objects | crossing labels | edges | time, s | peak memory, MiB | bytes / crossing label |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for tissue in chosen.tissues:
        seam = made_block(tissue).seam
        for grid in map(grid_of, chosen.blocks):
            run = in_fresh_process(measure, seam, grid)
            cells = [len(grid), run.objects, run.crossing, run.edges]
            print(
                f"| {tissue} | {' | '.join(f'{cell:,}' for cell in cells)} | {run.seconds:.1f} | "
                f"{run.memory / 2**20:.0f} | {run.memory / run.crossing:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
