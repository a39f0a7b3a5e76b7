"""Objects found block by block and joined equal the objects of the whole plane."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest

from scripts.large import (
    BlockGrid,
    BlockObjects,
    BlockSeam,
    Joined,
    block_objects,
    final_labels,
    join,
)
from scripts.transforms.objects import instances_from_scores
from scripts.transforms.separation import close_gaps
from tests.scripts.large.blockwise import (
    assert_same_objects,
    blobs,
    labels_by_blocks,
    objects_of_blocks,
    read_joined,
    window,
)


def lines(size: int = 100) -> np.ndarray:
    """Draw a spiral, two diagonals and a grid of dots: thin objects through many blocks."""
    mask = np.zeros((size, size), bool)
    for k in range(4, size // 4, 6):  # rings with an exit to the next ring
        mask[k, k:-k] = mask[-k - 1, k:-k] = mask[k + 6 : -k, k] = mask[k:-k, -k - 1] = True
        mask[k + 6, k : k + 7] = True
    mask[range(40, 60), range(40, 60)] = mask[range(45, 55), range(54, 44, -1)] = True
    mask[::9, ::9] = True
    return mask


def rings(size: int = 90) -> np.ndarray:
    """Draw rings of all radii, some with an island, over the borders of blocks."""
    y, x = np.mgrid[:size, :size]
    mask = np.zeros((size, size), bool)
    for k, (cy, cx) in enumerate(product(range(12, size, 22), repeat=2)):
        distance = np.hypot(y - cy, x - cx)
        mask |= (distance > 1 + k % 7) & (distance < 3 + k % 7)
        mask |= distance < k % 3
    return mask


def checkerboard(size: int = 40) -> np.ndarray:
    """Draw objects that touch over corners only."""
    return np.indices((size, size)).sum(axis=0) // 2 % 2 == 0


def dumbbells(size: int = 128) -> np.ndarray:
    """Draw pairs of discs with necks at, before and after the borders of blocks of 32 pixels."""
    y, x = np.mgrid[:size, :size]
    mask = np.zeros((size, size), bool)
    for shift, row in zip((-2, -1, 0, 1, 2), range(12, size - 10, 24), strict=True):
        for neck in (32, 96):
            for centre in (neck + shift - 9, neck + shift + 9):
                mask |= np.hypot(y - row, x - centre) < 9
            mask[row - 1 : row + 2, neck + shift - 4 : neck + shift + 4] = True
    return mask


MASKS = {"lines": lines(), "rings": rings(), "checkerboard": checkerboard(), "dumbbells": dumbbells()}


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("size", [16, 32, 61])
@pytest.mark.parametrize("name", MASKS)
def test_connected_objects_are_those_of_the_plane_with_the_least_halo(name, size, connectivity):
    labels = labels_by_blocks(MASKS[name], size, halo=1, connectivity=connectivity)
    assert_same_objects(labels, instances_from_scores(MASKS[name], connectivity=connectivity))


@pytest.mark.parametrize("largest", [1, 10, 60, 150])
@pytest.mark.parametrize("size", [16, 45])
def test_holes_over_borders_are_filled_if_they_lie_within_the_halo(size, largest):
    labels = labels_by_blocks(rings(), size, halo=17, fill_holes=largest)  # the widest hole has 15 pixels
    assert_same_objects(labels, instances_from_scores(rings(), fill_holes=largest))


@pytest.mark.parametrize("depth, parts", [(0, 10), (2, 20), (9, 10)])
def test_necks_near_borders_are_cut_as_in_the_plane(depth, parts):
    expected = instances_from_scores(dumbbells(), split=depth)
    assert expected.max() == parts
    assert_same_objects(labels_by_blocks(dumbbells(), 32, halo=40, split=depth), expected)


def test_objects_at_the_edge_of_the_plane_continue_beyond_it_and_not_at_the_edge_of_a_window():
    mask = np.zeros((60, 60), bool)
    mask[:20, 10:30] = mask[20:40, 19:21] = mask[40:60, 10:30] = True  # half a body, neck, half a body
    expected = instances_from_scores(mask, split=3)
    assert expected.max() == 2
    assert_same_objects(labels_by_blocks(mask, 30, halo=60, split=3), expected)


def test_the_area_of_all_parts_decides_whether_an_object_is_too_small():
    mask = np.zeros((64, 64), bool)
    mask[15:17, 15:17] = True  # a pixel in each of four blocks
    mask[30:32, 2:4] = True  # four pixels in a block
    mask[40, 20:23] = True
    for least in (3, 4, 5):
        expected = instances_from_scores(mask, min_area=least)
        assert_same_objects(labels_by_blocks(mask, 16, halo=1, min_area=least), expected)


def test_the_halo_of_closed_gaps_is_enough():
    for seed, gap in product(range(4), (1, 2, 3, 4, 6)):
        numbers = instances_from_scores(blobs(seed, (90, 90), 1 + seed)).astype(np.uint32)
        grid = BlockGrid(planes=1, height=90, width=90, size=23)
        expected = close_gaps(numbers, gap)
        for block in grid:
            found = final_labels(lambda _, rows, columns, n=numbers: n[slice(*rows), slice(*columns)], grid, block, gap)
            np.testing.assert_array_equal(found, window(expected[None], grid, block.number))


def test_empty_and_full_planes_and_several_planes():
    stack = np.stack([np.zeros((50, 70)), np.ones((50, 70)), blobs(3, (50, 70)), np.zeros((50, 70)), rings()[:50, :70]])
    labels = labels_by_blocks(stack, 16, halo=2, min_area=3)
    for found, plane in zip(labels, stack, strict=True):
        if plane.any() and not plane.all():
            assert_same_objects(found, instances_from_scores(plane, min_area=3))
    assert [plane.max() for plane in labels[[0, 1, 3]]] == [0, 1, 0]


def test_classes_stay_separate():
    classes = np.digitize(blobs(5, (80, 80)), [0.4, 0.6])
    assert_same_objects(labels_by_blocks(classes, 16, halo=3), instances_from_scores(classes))


@pytest.mark.parametrize("border", [1, 10, 20])
def test_objects_wholly_near_the_edge_of_the_plane_are_removed(border):
    scores = blobs(7, (70, 90))
    expected = instances_from_scores(scores, field_border=border)
    assert expected.max() < instances_from_scores(scores).max()
    assert_same_objects(labels_by_blocks(scores, 16, halo=1, field_border=border), expected)


@pytest.mark.parametrize("seed", range(40))
def test_random_objects_and_options(seed):
    random = np.random.default_rng(seed)
    scores = blobs(seed, random.integers(30, 130, 2), random.choice([0.7, 1, 2, 4]))
    if seed % 3 == 1:
        scores = np.digitize(scores, [0.45, 0.55, 0.7])
    options = {
        "threshold": random.uniform(0.4, 0.6),
        "connectivity": int(random.integers(1, 3)),
        "min_area": int(random.choice([0, 5, 30])),
        "fill_holes": int(random.choice([0, 4, 20])),
        "gap": int(random.choice([0, 1, 2, 3, 5])),
        "split": random.choice([0, 0, 0.5, 1, 2]),
    }
    halo = 200 if options["split"] else options["fill_holes"] + 1
    labels = labels_by_blocks(scores, int(random.integers(16, 65)), halo, **options)
    assert_same_objects(labels, instances_from_scores(scores, **options))


def test_numbers_start_with_the_objects_inside_blocks_in_the_order_of_blocks():
    mask = np.zeros((2, 4, 12), bool)
    mask[:, 1, [1, 3, 4, 6, 9]] = True
    labels = labels_by_blocks(mask, 4, halo=1)
    assert labels[:, 1].tolist() == 2 * [[0, 1, 0, 4, 4, 0, 2, 0, 0, 3, 0, 0]]


def test_objects_come_back_from_their_files(tmp_path):
    grid = BlockGrid(planes=1, height=60, width=60, size=25)
    blocks = objects_of_blocks(blobs(1, (60, 60))[None], grid, halo=5, field_border=4)
    for number, block in enumerate(blocks):
        block.save(tmp_path / f"{number}.npz")
    for number, block in enumerate(blocks):
        loaded = BlockObjects.load(tmp_path / f"{number}.npz")
        np.testing.assert_array_equal(loaded.labels, block.labels)
        for seam in (loaded.seam, BlockSeam.load(tmp_path / f"{number}.npz")):
            for name, value in vars(block.seam).items():
                np.testing.assert_array_equal(getattr(seam, name), value)
    joined, _ = read_joined(grid, blocks)
    joined.save(tmp_path / "joined.npz")
    loaded = Joined.load(tmp_path / "joined.npz")
    for number in range(len(grid)):
        np.testing.assert_array_equal(loaded.mapping(number), joined.mapping(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{n}.npz" for n in range(9)), "joined.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", None], ids=["empty", "damaged", "cut"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "block.npz"
    objects_of_blocks(np.ones((1, 30, 30)), BlockGrid(1, 30, 30, 40), halo=1)[0].save(path)
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(ValueError, match=r"block\.npz"):
        BlockObjects.load(path)


def test_scores_of_another_window_are_refused():
    grid = BlockGrid(planes=1, height=30, width=40, size=16)
    with pytest.raises(ValueError, match=r"block 1.*18 x 20.*\(30, 40\)"):
        block_objects(np.zeros((30, 40)), grid, grid[1], halo=2)
    with pytest.raises(ValueError, match=r"halo.*0"):
        block_objects(np.zeros((16, 16)), grid, grid[0], halo=0)
    with pytest.raises(ValueError, match=r"15.*30 x 40"):
        block_objects(np.zeros((18, 18)), grid, grid[0], halo=2, field_border=15)


def test_seams_that_do_not_fit_their_blocks_are_refused():
    grid = BlockGrid(planes=1, height=40, width=40, size=20)
    seams = [block.seam for block in objects_of_blocks(blobs(2, (1, 40, 40)), grid, halo=2)]
    with pytest.raises(ValueError, match=r"3 blocks.*4"):
        join(grid, seams[:3])
    with pytest.raises(ValueError, match="4 blocks"):
        join(grid, [*seams, seams[0]])
    with pytest.raises(ValueError, match="block 2"):
        join(grid, [*seams[:2], dataclasses.replace(seams[2], areas=seams[2].areas[:0]), seams[3]])
    with pytest.raises(ValueError, match="block 0"):
        join(BlockGrid(planes=1, height=40, width=40, size=40), seams[:1])
