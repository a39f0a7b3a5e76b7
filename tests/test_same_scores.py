"""The comparison of scores accepts rounding, and refuses errors of a few per cent."""

from __future__ import annotations

import pytest
import torch

from tests.same_scores import assert_same_scores, relative_tolerance

SCORES = torch.randn(1, 2, 100, 100, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rounded_scores_are_the_same(dtype):
    assert_same_scores(SCORES.to(dtype), SCORES, dtype)


def test_bfloat16_may_be_off_by_4_percent_and_float32_by_a_hundred_thousandth():
    assert 0.03 < relative_tolerance(torch.bfloat16) < 0.04
    assert relative_tolerance(torch.float32) < 1.1e-5


def far_off_in_a_corner() -> torch.Tensor:
    scores = SCORES.clone()
    scores[..., :5, :5] += 5
    return scores


@pytest.mark.parametrize(
    "got",
    [SCORES.roll(1, dims=-1), 1.05 * SCORES, SCORES + 0.05, far_off_in_a_corner(), SCORES * torch.nan],
    ids=["moved", "scaled", "shifted", "corner", "nan"],
)
def test_scores_that_are_too_far_off_are_refused(got):
    with pytest.raises(AssertionError, match="way: relative L2 error"):
        assert_same_scores(got, SCORES, torch.bfloat16, name="way")


def test_scores_that_choose_other_classes_are_refused():
    """All scores are near 5, and the relative error is small."""
    expected, got = 5 + 1e-3 * SCORES, 5 + 1e-3 * SCORES.flip(1)
    with pytest.raises(AssertionError, match=r"different classes in [0-9]{4,} of 10000 pixels, allowed 120"):
        assert_same_scores(got, expected, torch.bfloat16)


def test_another_shape_is_refused():
    with pytest.raises(AssertionError, match=r"shape \(1, 2, 99, 100\), expected \(1, 2, 100, 100\)"):
        assert_same_scores(SCORES[:, :, 1:], SCORES)
