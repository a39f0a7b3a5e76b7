"""The tile plan of Fig. 2, with numbers to check by hand, and the least work by trying every pair of lengths."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import pytest

from scripts.inferers.tiling import TilePlan, TileRule, plan_tiles, smallest_tile


def work(plan: TilePlan) -> int:
    """Input pixels of all tiles together."""
    return len(plan.tiles) * prod(plan.tile_size)


@pytest.mark.parametrize(
    "image_size, tile_size, tiles",
    [
        ((512, 512), (700, 700), 1),  # 493 instead of 1203 GFLOP
        ((388, 388), (572, 572), 1),
        ((389, 388), (588, 572), 1),  # one pixel more than the output of a 572 tile
        ((520, 696), (716, 892), 1),
        ((1, 1), (188, 188), 1),
        ((4, 5), (188, 204), 1),
    ],
)
def test_the_least_work_without_a_limit_is_one_tile(image_size, tile_size, tiles):
    plan = plan_tiles(image_size)
    assert (plan.tile_size, len(plan.tiles)) == (tile_size, tiles)
    assert plan.margin == 92


def test_tiles_of_572_step_by_384_or_by_388_as_the_authors_do():
    seamless = plan_tiles((512, 512), tile_size=572)
    authors = plan_tiles((512, 512), tile_size=572, authors_stride=True)
    assert [tile.rows for tile in seamless.tiles] == [(0, 384), (0, 384), (384, 512), (384, 512)]
    assert [tile.columns for tile in authors.tiles] == [(0, 388), (388, 512), (0, 388), (388, 512)]


@pytest.mark.parametrize("padding", ["valid", "same", "retain_dim"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("authors_stride", [False, True])
def test_tiles_fill_the_image_once_start_on_the_pooling_grid_and_stay_within_their_output(
    padding, depth, authors_stride
):
    rule = TileRule(depth, padding)
    random = np.random.default_rng(depth)
    for _ in range(20):
        height, width = (int(n) for n in random.integers(1, 500, size=2))
        tile_size = [rule.tile_for(int(n)) for n in random.integers(2**depth, 300, size=2)]
        plan = plan_tiles((height, width), rule, tile_size, authors_stride=authors_stride)
        filled = np.zeros((height, width), dtype=int)
        for tile in plan.tiles:
            filled[slice(*tile.rows), slice(*tile.columns)] += 1
            for (start, stop), length in zip(tile, plan.tile_size, strict=True):
                assert 0 < stop - start <= rule.usable(length)
                assert authors_stride or start % 2**depth == 0
        assert (filled == 1).all()


@pytest.mark.parametrize("depth, padding", [(2, "valid"), (3, "same"), (4, "valid")])
@pytest.mark.parametrize("max_pixels", [None, 60_000, 90_000, 300_000])
@pytest.mark.parametrize("image_size", [(37, 301), (512, 512), (260, 1)])
def test_no_other_tile_size_means_less_work(depth, padding, max_pixels, image_size):
    rule = TileRule(depth, padding)
    lengths = [
        [n for n in range(1, rule.tile_for(size) + 1) if n == rule.tile_for(n - 2 * rule.margin)] for size in image_size
    ]
    least = min(
        work(plan_tiles(image_size, rule, (height, width)))
        for height in lengths[0]
        for width in lengths[1]
        if (max_pixels is None or height * width <= max_pixels)
        # a tile with less output than a step can only cover the whole image
        and all(rule.usable(n) >= min(size, rule.step) for n, size in zip((height, width), image_size, strict=True))
    )
    plan = plan_tiles(image_size, rule, max_pixels=max_pixels)
    assert work(plan) == least
    assert max_pixels is None or plan.tile_size[0] * plan.tile_size[1] <= max_pixels


def test_less_memory_means_smaller_tiles_and_never_less_work():
    plans = [plan_tiles((1500, 2100), max_pixels=2**k) for k in range(16, 24)]
    assert all(work(before) >= work(after) for before, after in pairwise(plans))
    assert all(plan.tile_size[0] * plan.tile_size[1] <= 2**k for k, plan in zip(range(16, 24), plans, strict=True))


def test_the_smallest_tile_fits_and_one_pixel_less_is_refused():
    for size, expected in {(512, 3): (204, 188), (1, 1): (188, 188)}.items():
        height, width = smallest_tile(size, TileRule())
        assert (height, width) == expected
        assert plan_tiles(size, max_pixels=height * width).tile_size == expected
        with pytest.raises(ValueError, match=f"{height * width - 1} pixels, .* {height} x {width}"):
            plan_tiles(size, max_pixels=height * width - 1)


@pytest.mark.parametrize(
    "rule, output, tile, given",
    [
        (TileRule(), 388, 572, 388),
        (TileRule(), 385, 572, 388),
        (TileRule(2), 1, 44, 4),
        (TileRule(4, "same"), 288, 512, 512),  # 512 - 2 * 112
        (TileRule(4, "same", margin=96), 320, 512, 512),
        (TileRule(4, "same", margin=0), 512, 512, 512),
        (TileRule(4, "retain_dim"), 512, 524, 524),
    ],
)
def test_the_smallest_tile_for_an_output(rule, output, tile, given):
    assert rule.tile_for(output) == tile
    assert rule.network_output(tile) == given


@pytest.mark.parametrize(
    "rule, tile_size, message",
    [
        (TileRule(), 570, r"tile_size 570 .* 4 poolings .* 556 and 572 \(output 388\)"),
        (TileRule(), (572, 573), r"tile_size 573 .* 572 and 588 \(output 404\)"),
        (TileRule(), 100, r"tile_size 100 .* .*: 188 \(output 4\)"),
        (TileRule(), 188, "tile_size 188 gives 4 pixels .* step of 16 .* 204"),
        (TileRule(padding="same"), 572, r"tile_size 572 .* 560 and 576 \(output 352\)"),
    ],
)
def test_tiles_that_do_not_fit_are_refused_and_the_nearest_lengths_are_named(rule, tile_size, message):
    with pytest.raises(ValueError, match=message):
        plan_tiles((600, 600), rule, tile_size)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 0}, "depth must be at least 1"),
        ({"padding": "zeros"}, "padding must be one of .*got 'zeros'"),
        ({"margin": 90}, "loses 92 pixels a side, got margin=90"),
        ({"padding": "same", "margin": 100}, "multiple of 2\\^depth = 16, got 100. .* 112"),
        ({"padding": "same", "margin": -16}, "got -16. .* 0"),
    ],
)
def test_impossible_rules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TileRule(**arguments)


def test_an_empty_image_is_refused():
    with pytest.raises(ValueError, match="at least one pixel, got 0 x 5"):
        plan_tiles((0, 5))


@pytest.mark.parametrize("rule, lengths", [(TileRule(), (556, 396, 204)), (TileRule(padding="same"), (560, 400, 240))])
def test_the_largest_tile_up_to_a_length_fits_the_network(rule, lengths):
    assert (rule.at_most(571), rule.at_most(404), rule.at_most(1)) == lengths
    for length in lengths:
        rule.check(length)
