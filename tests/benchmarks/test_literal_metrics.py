"""The literal metrics are right by hand, and equal to ours, so that their times can be compared."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import em_slice, literal_metrics, metrics


def test_the_literal_scores_by_hand():
    truth = np.array([[1, 1, 0, 1, 1]]) > 0
    assert literal_metrics.v_rand_and_v_info(truth * 1.0, truth) == (1, 1)
    # one region over both cells: 2 x 4 of 16 pairs, so a precision of 1/2 and a recall of 1; no information
    assert literal_metrics.v_rand_and_v_info(np.ones(truth.shape), truth) == pytest.approx((2 / 3, 0))
    half = np.array([[1.0, 1.0, 0.0, 0.0, 0.0]])  # two of four found, nothing wrong: F = 4 / 6
    assert literal_metrics.pixel_error(half, truth) == pytest.approx(1 / 3)
    assert literal_metrics.pixel_error(np.full((1, 5), 0.5), truth) == pytest.approx(1 - 8 / 9)


def test_the_literal_thinning_by_hand():
    np.testing.assert_array_equal(literal_metrics.thinned(np.array([[1, 0, 0, 0, 1, 0, 0]])), [[1, 1, 0, 2, 2, 2, 2]])


def test_the_literal_seg_by_hand():
    reference = np.array([[1, 1, 1, 0, 2, 2]])
    assert literal_metrics.seg(np.array([[7, 7, 0, 0, 0, 8]]), reference) == pytest.approx((2 / 3 + 0) / 2)
    assert len(np.unique(metrics.tiles_of_cells(2048)[1])) - 1 == 5329


@pytest.mark.parametrize("is_simple", [literal_metrics.simple_by_pieces, literal_metrics.simple_by_yokoi])
def test_the_literal_warping_error_by_hand(is_simple):
    truth = np.ones((5, 7), bool)
    truth[:, 3] = False  # two cells and a membrane between them
    assert literal_metrics.warping_error(truth * 1.0, truth, is_simple) == 0
    assert literal_metrics.warping_error(np.roll(truth, 1, axis=1) * 1.0, truth, is_simple) == 0  # moved, no mistake
    broken = truth.copy()
    broken[2, 3] = True  # a gap in the membrane: one pixel joins the cells
    assert literal_metrics.warping_error(broken * 1.0, truth, is_simple) == pytest.approx(1 / 35)


@pytest.mark.parametrize("name", metrics.measures(np.zeros((4, 4)), np.ones((4, 4), bool)))
def test_every_literal_metric_equals_ours(name):
    image, mask = em_slice.em_slice()
    proposal = em_slice.proposal_of(image)[:72, :80]
    table = metrics.measures(proposal, mask[:72, :80])
    for other, measure in table.items():
        if other.split(",")[0] == name.split(",")[0]:
            assert measure.literal() == pytest.approx(measure.ours(), abs=1e-12)
