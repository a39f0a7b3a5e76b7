"""The warping error: simple pixels by definition, warps with equal topology, and costs of changes by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmarks import literal_metrics
from scripts.metrics.warping import is_simple, splits_and_mergers, warp, warping_error
from tests.scripts.metrics.masks import blobs

EIGHT = np.ones((3, 3))


def topology(cells: np.ndarray) -> tuple[int, int]:
    """Count the 4-connected cells and the 8-connected membranes, with membrane all around the image."""
    framed = np.pad(cells, 1)
    return ndimage.label(framed)[1], ndimage.label(~framed, EIGHT)[1]


def cost(truth: np.ndarray, proposal: np.ndarray, **kwargs: int) -> tuple[int, int]:
    """Count the pixels of splits and mergers between two masks."""
    return splits_and_mergers(warp(truth, proposal), proposal, **kwargs)


def two_cells(membrane: slice, height: int = 7, width: int = 11) -> np.ndarray:
    cells = np.ones((height, width), bool)
    cells[:, membrane] = False
    return cells


ONE_CELL = two_cells(slice(0, 0))
TWO_CELLS = two_cells(slice(5, 6))


def test_a_pixel_is_simple_if_turning_it_changes_no_number_of_pieces() -> None:
    """All 512 patches of 3 x 3 pixels, against the definition: cells 4-connected, membrane 8-connected."""
    simple = 0
    for code in range(512):
        patch = (code >> np.arange(9) & 1).reshape(3, 3).astype(np.uint8)
        found = is_simple(patch, 1, 1)
        assert found == literal_metrics.simple_by_pieces(patch.tolist(), 1, 1), patch
        simple += found
    assert simple == 2 * 116  # as many as the literature counts, for a cell and a membrane in the middle


@pytest.mark.parametrize("seed", range(6))
def test_warping_keeps_the_topology_and_ends_where_every_other_pixel_would_change_it(seed: int) -> None:
    truth, proposal = blobs(seed), blobs(seed + 1 if seed % 2 else seed, share=0.6)
    warped = warp(truth, proposal)
    assert topology(warped) == topology(truth)
    assert ((warped == truth) | (warped == proposal)).all()
    assert (warped != truth).any()
    for y, x in np.argwhere(warped != proposal):
        turned = warped.copy()
        turned[y, x] ^= True
        assert topology(turned) != topology(warped)


@pytest.mark.parametrize(
    "proposal",
    [
        TWO_CELLS,
        two_cells(slice(6, 7)),  # the border a pixel to the right
        two_cells(slice(3, 8)),  # wider
        np.array([np.roll(row, shift) for row, shift in zip(TWO_CELLS, (-1, -1, 0, 0, 1, 1, 1), strict=True)]),
    ],
    ids=["equal", "1 px", "wide", "slanted"],
)
def test_a_shifted_border_costs_nothing(proposal: np.ndarray) -> None:
    np.testing.assert_array_equal(warp(TWO_CELLS, proposal), proposal)
    assert cost(TWO_CELLS, proposal) == (0, 0)


def test_a_border_may_shift_by_its_own_width_but_not_farther() -> None:
    """The pixels between the two positions are equal in both images. The warp never turns them."""
    truth = two_cells(slice(3, 5))
    assert cost(truth, two_cells(slice(5, 7))) == (0, 0)
    assert cost(truth, two_cells(slice(6, 8))) == (
        2,
        7,
    )  # a new border up to its last pixel, and a line of the old border


def test_a_merger_costs_the_pixels_of_membrane_that_are_missing() -> None:
    proposal = TWO_CELLS.copy()
    proposal[2:5, 5] = True  # a gap of three pixels in a thin membrane
    assert cost(TWO_CELLS, proposal) == (0, 3)
    assert cost(TWO_CELLS, ONE_CELL) == (0, 7)  # the whole membrane


def test_of_wide_membrane_only_the_last_line_of_pixels_counts() -> None:
    truth = two_cells(slice(4, 7))
    proposal = truth.copy()
    proposal[3, 4:7] = True  # a gap of a single row through three pixels of membrane: a pixel is missing
    assert cost(truth, proposal) == (0, 1)
    assert cost(truth, ONE_CELL) == (0, 7)


def test_a_split_costs_the_pixels_of_cell_that_are_missing() -> None:
    assert cost(ONE_CELL, TWO_CELLS) == (1, 0)  # membrane grows in from the edge, up to the last pixel
    bridge = np.zeros((7, 11), bool)
    bridge[1:6, 1:4] = bridge[1:6, 7:10] = True
    truth = bridge.copy()
    truth[3, 4:7] = True  # a bridge three pixels long; each pixel is a split
    assert cost(truth, bridge) == (3, 0)


def test_a_cut_through_a_ring_is_no_split() -> None:
    truth = np.ones((9, 9), bool)
    truth[2:7, 2:7] = False
    proposal = truth.copy()
    proposal[:2, 4] = False
    assert topology(proposal) == (1, 1)  # still a single cell, but the hole has opened
    assert cost(truth, proposal) == (0, 0)


def test_a_connection_outside_the_radius_does_not_count() -> None:
    truth = np.ones((15, 15), bool)
    truth[1:14, 1:14] = False
    proposal = truth.copy()
    proposal[0, 7] = False
    assert cost(truth, proposal, radius=20) == (0, 0)
    assert cost(truth, proposal, radius=5) == (1, 0)


def test_holes_and_cells_that_come_or_go_cost_nothing() -> None:
    hole = ONE_CELL.copy()
    hole[3, 3] = False
    island = np.zeros((7, 11), bool)
    island[3, 3] = True
    nothing = np.zeros((7, 11), bool)
    for a, b in ((ONE_CELL, hole), (nothing, island)):
        for truth, proposal in ((a, b), (b, a)):
            assert (warp(truth, proposal) != proposal).sum() == 1  # the warp still differs
            assert cost(truth, proposal) == (0, 0)


def noise(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Make a random mask: single pixels, or blobs of some width."""
    field = ndimage.gaussian_filter(generator.normal(size=shape), generator.choice([0, 0.7, 1.5]))
    return field > np.quantile(field, generator.uniform(0.2, 0.8))


def priorities(generator: np.random.Generator, shape: tuple[int, int]) -> list[np.ndarray | None]:
    """Make priorities: None, all different, with ties, whole numbers, all equal, infinite."""
    field = generator.random(shape)
    with_infinity = np.where(field < 0.5, np.where(field < 0.2, -np.inf, np.inf), field)
    small = generator.integers(0, 3, shape).astype(np.uint8)
    return [None, field, np.round(field, 1).astype(np.float32), small, np.zeros(shape), with_infinity]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(1, 60), (60, 1), (9, 31), (24, 24), (41, 53)])
def test_warping_turns_the_pixels_that_the_literal_definition_turns(seed: int, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(seed)
    truth = noise(generator, shape)
    has_turned = False
    for priority in priorities(generator, shape):
        proposal = noise(generator, shape)
        expected = literal_metrics.warp(truth, proposal, priority)
        np.testing.assert_array_equal(warp(truth, proposal, priority), expected)
        has_turned |= (expected != truth).any()
    assert has_turned


@pytest.mark.parametrize("seed", range(4))
def test_warping_with_simple_pixels_found_by_counting_pieces_is_the_same(seed: int) -> None:
    truth, proposal = blobs(seed), blobs(seed, share=0.65)
    proposal[:, 20:] = blobs(seed + 10)[:, 20:]
    expected = literal_metrics.warp(truth, proposal, is_simple=literal_metrics.simple_by_pieces)
    np.testing.assert_array_equal(warp(truth, proposal), expected)


CHECKERBOARD = np.indices((20, 30)).sum(axis=0) % 2 == 0
ROWS = np.indices((20, 30))[0] % 2 == 0
SNAKE = ROWS.copy()  # a cell: a line a pixel wide, row by row
SNAKE[1::4, -1] = SNAKE[3::4, 0] = True
ALONG = -np.arange(SNAKE.size, dtype=float).reshape(SNAKE.shape)
ALONG[2::4] = ALONG[2::4, ::-1].copy()
FULL, NONE = np.ones_like(ROWS), np.zeros_like(ROWS)


@pytest.mark.parametrize("priority", [None, ALONG, -ALONG, np.abs(ALONG + 300)], ids=["ties", "on", "back", "middle"])
@pytest.mark.parametrize(
    "truth, proposal",
    [
        (FULL, NONE),
        (NONE, FULL),
        (FULL, CHECKERBOARD),
        (CHECKERBOARD, FULL),
        (CHECKERBOARD, ~CHECKERBOARD),
        (FULL, ROWS),
        (ROWS, NONE),
        (ROWS.T.copy(), NONE.T.copy()),
        (SNAKE, NONE),
        (SNAKE, FULL),
        (NONE, SNAKE),
        (ROWS, ~ROWS),
    ],
)
def test_long_chains_of_pixels_that_become_simple_in_turn_end_as_defined(
    truth: np.ndarray, proposal: np.ndarray, priority: np.ndarray | None
) -> None:
    order = priority if priority is None else priority.reshape(truth.shape)
    np.testing.assert_array_equal(warp(truth, proposal, order), literal_metrics.warp(truth, proposal, order))


def test_a_snake_is_eaten_from_its_end_pixel_by_pixel() -> None:
    """Every pixel becomes simple when the pixel before it has turned. A single pixel of the cell remains."""
    assert warp(SNAKE, NONE, ALONG).sum() == 1


def test_a_priority_that_is_not_a_number_is_the_lowest() -> None:
    generator = np.random.default_rng(0)
    truth, proposal, priority = noise(generator, (30, 40)), noise(generator, (30, 40)), generator.random((30, 40))
    missing = generator.random((30, 40)) < 0.4
    expected = literal_metrics.warp(truth, proposal, np.where(missing, -1, priority))
    np.testing.assert_array_equal(warp(truth, proposal, np.where(missing, np.nan, priority)), expected)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1)])
def test_planes_of_no_or_one_pixel(shape: tuple[int, int]) -> None:
    cells, nothing = np.ones(shape, bool), np.zeros(shape, bool)
    np.testing.assert_array_equal(warp(cells, nothing), cells)  # a cell of a single pixel does not vanish
    np.testing.assert_array_equal(warp(nothing, nothing), nothing)


@pytest.mark.parametrize("radius", [1, 3, 20, 50])
@pytest.mark.parametrize("seed", range(10))
def test_splits_and_mergers_are_those_of_labelling_a_window_around_every_pixel(seed: int, radius: int) -> None:
    generator = np.random.default_rng(seed)
    total = np.zeros(2, int)
    for shape in ((1, 40), (12, 17), (30, 40)):
        cells, proposal = noise(generator, shape), noise(generator, shape)
        for warped in (cells, warp(cells, proposal)):
            expected = literal_metrics.splits_and_mergers(warped, proposal, radius)
            assert splits_and_mergers(warped, proposal, radius) == expected
            total += expected
    assert (total > 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_error_is_that_of_the_definition_pixel_by_pixel(seed: int) -> None:
    """Of probabilities with many values, and with few values, where pixels have equal priorities."""
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.random((40, 50)), 1.0)
    stretched = (smooth - smooth.min()) / np.ptp(smooth)
    probability = stretched if seed % 2 else np.round(stretched, 1)
    truth = noise(generator, (40, 50))
    assert warping_error([(probability, truth)]).error == literal_metrics.warping_error(probability, truth)


def test_the_surest_pixels_are_turned_first() -> None:
    """A cut through a cell leaves the least sure pixel."""
    priority = np.abs(np.arange(7) - 3)[:, None] * np.ones((7, 11))  # surest at both edges
    assert np.argwhere(warp(ONE_CELL, TWO_CELLS, priority) != TWO_CELLS).tolist() == [[3, 5]]
    assert np.argwhere(warp(ONE_CELL, TWO_CELLS) != TWO_CELLS).tolist() == [[6, 5]]  # equal: downwards


def test_the_error_is_the_lowest_over_thresholds_of_all_pixels_over_all_planes() -> None:
    gap = np.where(TWO_CELLS, 0.95, 0.15)
    gap[2, 5] = 0.55  # a merger of a single pixel up to 0.5
    cut = np.where(TWO_CELLS, 0.95, 0.35)  # through the only true cell: a split from 0.4 on
    result = warping_error([(gap, TWO_CELLS), (cut, ONE_CELL)])
    assert result.pixels == 2 * 7 * 11
    np.testing.assert_array_equal(result.splits, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(result.mergers, [7, 7, 1, 1, 1, 1, 0, 0, 0, 0])
    assert result.error == pytest.approx(1 / 154)
    assert result.best == 2
    assert result.best_threshold == 0.2
    assert len(result.thresholds) == 10  # the challenge leaves 1.0 out


def test_wrong_shapes_wrong_values_and_no_planes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(2, 3\)"):
        warp(np.ones((2, 2), bool), np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"0 \.\. 1, got -3\.0"):
        warping_error([(np.full((2, 2), -3.0), np.ones((2, 2)))])
    with pytest.raises(ValueError, match="at least one plane"):
        warping_error([])


def test_inputs_stay_as_they_were() -> None:
    truth, proposal = TWO_CELLS.copy(), two_cells(slice(6, 7))
    warp(truth, proposal)
    np.testing.assert_array_equal(truth, TWO_CELLS)
    np.testing.assert_array_equal(proposal, two_cells(slice(6, 7)))


def test_real_planes_cost_what_the_challenge_program_counts(
    smoothed_planes: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Numbers of Fiji's Trainable Segmentation (commit 41c7083) for the same planes, thresholds 0.0, 0.1 ... 0.9."""
    result = warping_error(smoothed_planes)
    assert result.splits.tolist() == [0, 0, 1, 3, 23, 235, 1408, 3238, 968, 520]
    assert result.mergers.tolist() == [3926, 3916, 3851, 2571, 274, 33, 7, 0, 0, 0]
    assert result.error == pytest.approx(0.002044677734375, abs=1e-15)


def test_the_truth_as_its_own_proposal_has_no_error(data_root: Path) -> None:
    truth = np.asarray(Image.open(data_root / "isbi2012/train/labels/00.png")) > 0
    assert warping_error([(truth * 1.0, truth)]).errors.max() == 0
