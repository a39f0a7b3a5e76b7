"""The made-up blocks of the benchmark are joined as the blocks of a real plane."""

from __future__ import annotations

from itertools import repeat

import numpy as np
import pytest

from benchmarks.joining import edges_of, grid_of, made_block, main
from scripts.large import join
from scripts.transforms.objects import instances_from_scores


@pytest.mark.parametrize("tissue", ["nuclei", "cells"])
def test_equal_blocks_have_the_objects_of_the_tiled_plane(tissue):
    block = made_block(tissue, size=512)
    plane = np.tile(block.labels > 0, (3, 3))
    grid = grid_of(9, size=512)
    joined = join(grid, repeat(block.seam, 9))
    assert joined.objects.tolist() == [instances_from_scores(plane).max()]
    assert edges_of(block.seam, grid_of(1, size=512)) == 0
    assert edges_of(block.seam, grid) > 0


def test_a_table_is_printed(capsys):
    main(["--blocks", "4", "--tissues", "nuclei"])
    row = capsys.readouterr().out.splitlines()[-1].split("|")
    assert (row[1].strip(), row[2].strip()) == ("nuclei", "4")
