from __future__ import annotations

import numpy as np
import pytest

from scripts.large import BlockGrid


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_blocks_cover_every_pixel_once(size):
    grid = BlockGrid(planes=2, height=7, width=10, size=size)
    seen = np.zeros((2, 7, 10), int)
    for number, block in enumerate(grid):
        assert (block.number, grid[number], grid.at(block.plane, block.row, block.column)) == (number, block, block)
        seen[block.plane, slice(*block.rows), slice(*block.columns)] += 1
    assert (seen == 1).all()


def test_blocks_around_share_an_edge_or_a_corner():
    grid = BlockGrid(planes=2, height=9, width=9, size=3)
    assert [(block.row, block.column) for block in grid.around(grid.at(1, 0, 1))] == [
        (0, 0), (0, 2), (1, 0), (1, 1), (1, 2),
    ]  # fmt: skip
    assert len(grid.around(grid.at(0, 1, 1))) == 8
    assert all(block.plane == 1 for block in grid.around(grid.at(1, 2, 2)))


def test_windows_end_at_the_plane():
    grid = BlockGrid(planes=1, height=9, width=20, size=8)
    assert grid.window(grid.at(0, 0, 1), halo=2) == ((0, 9), (6, 18))


def test_there_is_no_block_outside_of_the_grid():
    grid = BlockGrid(planes=1, height=9, width=9, size=3)
    for outside in (lambda: grid[9], lambda: grid[-1], lambda: grid.at(0, 3, 0), lambda: grid.at(1, 0, 0)):
        with pytest.raises(IndexError):
            outside()
