"""Thinning: by hand, against the queue taken literally, and against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import watershed

from benchmarks import literal_metrics
from scripts.metrics.overlap import overlap_table, v_rand
from scripts.metrics.thinning import cell_regions, thin_membrane
from tests.scripts.metrics.masks import blobs


def test_regions_meet_in_a_line_one_pixel_wide() -> None:
    cells = np.zeros((5, 9), bool)
    cells[:, :2] = cells[:, 7:] = True
    expected = np.ones((5, 9), int)
    expected[:, 4], expected[:, 5:] = 0, 2  # of five columns, two go to each region
    np.testing.assert_array_equal(thin_membrane(cells), expected)
    assert thin_membrane(cells).dtype == np.int32


@pytest.mark.parametrize("value", [False, True], ids=["all membrane", "all cell"])
def test_a_plane_of_one_value_is_one_region(value: bool) -> None:
    np.testing.assert_array_equal(thin_membrane(np.full((3, 4), value)), np.ones((3, 4)))


@pytest.mark.parametrize("seed, share", [(0, 0.2), (1, 0.5), (2, 0.8)])
def test_thinned_regions_keep_their_pixels_and_never_touch(seed: int, share: float) -> None:
    cells = blobs(seed, share, (40, 60), sigma=2)
    thinned = thin_membrane(cells)
    np.testing.assert_array_equal(thinned[cells], cell_regions(cells)[cells])
    for a, b in ((thinned[1:], thinned[:-1]), (thinned[:, 1:], thinned[:, :-1])):
        assert ((a == b) | (a == 0) | (b == 0)).all()
    for region in range(1, thinned.max() + 1):
        assert ndimage.label(thinned == region)[1] == 1  # connected
    beside_a_region = ndimage.binary_dilation(thinned != 0, np.ones((3, 3)))
    assert beside_a_region[thinned == 0].all()  # no line is wide


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_thinning_equals_the_literal_queue(share: float) -> None:
    """In noise the order of the queue matters most."""
    generator = np.random.default_rng(int(100 * share))
    for shape in ((1, 50), (50, 1), (23, 31), (40, 40)):
        for cells in (generator.random(shape) < share, blobs(int(100 * share), share, shape, sigma=1)):
            np.testing.assert_array_equal(thin_membrane(cells), literal_metrics.thinned(cells))


def test_scikit_image_floods_in_another_order() -> None:
    """Therefore the project has a flood. The scores differ by less than 0.01."""
    truth, cells = (blobs(3, share, (128, 128), sigma=2) for share in (0.7, 0.5))
    ours = thin_membrane(cells)
    theirs = watershed((~cells).astype(np.uint8), cell_regions(cells), connectivity=1, watershed_line=True)
    differ = (ours != theirs).mean()
    assert 0 < differ < 0.1
    a, b = (v_rand(overlap_table(cell_regions(truth), found)).f for found in (ours, theirs))
    assert a == pytest.approx(b, abs=0.01)


def test_pixels_at_equal_distances_are_flooded_from_left_to_right_and_from_top_to_bottom() -> None:
    # the first pixel between the cells joins the left cell. The second then has both cells as neighbours
    np.testing.assert_array_equal(thin_membrane(np.array([[1, 0, 0, 1]])), [[1, 1, 0, 2]])
    np.testing.assert_array_equal(thin_membrane(np.array([[1, 0, 0, 1]]).T), [[1], [1], [0], [2]])


def test_a_line_continues_where_no_region_arrives() -> None:
    """Here no neighbour of the pixel below the end of the line is flooded earlier."""
    cells = np.array([[1, 0, 1], [0, 0, 0], [0, 0, 0]])
    thinned = thin_membrane(cells)
    assert thinned[0, 1] == thinned[1, 1] == thinned[2, 1] == 0
    assert (thinned[:, 0] == 1).all()
    assert (thinned[:, 2] == 2).all()
