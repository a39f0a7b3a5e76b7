"""Scores of membranes: by hand, equal to the challenge's program, averaged as the challenge does, in engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image
from scipy import ndimage

from scripts.handlers.em_report import measure_slice
from scripts.metrics.membranes import (
    THRESHOLDS,
    ThinnedScore,
    VInfo,
    VRand,
    pooled_counts,
    stack_curves,
    thinned_curves,
)
from scripts.metrics.overlap import agreement, v_info, v_rand
from tests.scripts.metrics.masks import blobs, challenge_curves


def made(text: str) -> np.ndarray:
    """Read a digit per pixel, "-" for -1."""
    return np.array([[-1 if c == "-" else int(c) for c in row] for row in text.split()])


def f_score(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall)


def test_thinning_forgives_wide_membrane() -> None:
    truth, probability = np.array([[1, 1, 1, 0, 1, 1, 1]]), np.array([[0.95, 0.95, 0.25, 0.15, 0.25, 0.95, 0.95]])
    rand, info = thinned_curves(probability, truth)
    # up to 0.1 all pixels are a cell. At 0.2 the cells have the true width. From 0.3 on the membrane is wide. At 1.0 no
    # cell is left, and thinning gives a single region
    np.testing.assert_allclose(rand.f, [2 / 3] * 2 + [1] * 8 + [2 / 3])
    np.testing.assert_allclose(info.f, [0] * 2 + [1] * 8 + [0])
    assert (rand.best, rand.best_threshold, rand.score, rand.error) == (2, 0.2, 1.0, 0.0)


def test_the_last_threshold_is_just_below_one() -> None:
    assert len(THRESHOLDS) == 11
    np.testing.assert_allclose(THRESHOLDS, np.arange(11) / 10)
    assert THRESHOLDS[-1] < 1
    rand, _ = thinned_curves(np.array([[1.0, 0, 1]]), np.array([[1, 0, 1]]))
    np.testing.assert_array_equal(rand.f, 1)
    rand, _ = thinned_curves(np.array([[0.3, 0, 0.3]], np.float32), np.array([[1, 0, 1]]))
    assert rand.f[3] == 1  # float32 0.3 is above the sum of three float64 0.1


def test_precision_falls_with_mergers_and_recall_with_splits() -> None:
    truth = np.array([[1, 1, 0, 1, 1]])
    (merged, _) = thinned_curves(np.ones((1, 5)), truth)
    (split, _) = thinned_curves(np.array([[1, 0, 0, 1, 0]]) * 1.0, np.array([[1, 1, 1, 1, 1]]))
    assert merged.precision[0] < merged.recall[0] == 1
    assert split.recall[0] < split.precision[0] == 1


def test_not_annotated_pixels_are_left_out() -> None:
    truth, found = np.array([[1, 1, 1, 0, 1]]), np.array([[1.0, 1, 0, 1, 1]])
    assert thinned_curves(found, truth)[0].score < 1
    assert thinned_curves(found, truth, valid=np.array([[1, 1, 0, 1, 0]]))[0].score == 1


APART = made("111--111 111--111")
CELL = np.ones(APART.shape)
TWO_CELLS = (APART > 0) * 1.0


@pytest.mark.parametrize(
    "truth, proposal", [(APART > 0, CELL), (CELL, TWO_CELLS), (CELL, CELL), (APART > 0, TWO_CELLS)]
)
def test_pixels_that_are_not_annotated_join_no_regions(truth: np.ndarray, proposal: np.ndarray) -> None:
    """Two annotated regions agree, whatever truth and proposal hold between them. The Rand error does the same."""
    valid = APART >= 0
    rand, info = thinned_curves(proposal, truth, valid=valid)
    assert rand.score == info.score == 1
    curves = stack_curves([measure_slice(proposal, truth, valid)])
    assert curves["v_rand"].score == curves["v_info"].score == curves["rand"].score == 1


def test_a_mask_of_ones_changes_nothing() -> None:
    truth, probability = blobs(3), ndimage.gaussian_filter(blobs(3) * 1.0, 1)
    for plain, masked in zip(
        thinned_curves(probability, truth),
        thinned_curves(probability, truth, valid=np.full(truth.shape, 7)),
        strict=True,
    ):
        for part in ("precision", "recall", "f"):
            np.testing.assert_array_equal(getattr(plain, part), getattr(masked, part))


@pytest.mark.parametrize(
    "probability, message",
    [
        (np.full((2, 2), 2.0), r"probabilities 0 .. 1, got 2.0 .. 2.0"),
        (np.full((2, 2), np.nan), r"probabilities 0 .. 1, got nan"),
        (np.zeros((2, 3)), r"one shape, got \(2, 3\) and \(2, 2\)"),
        (np.zeros((1, 2, 2)), r"two planes"),
    ],
)
def test_other_maps_than_probabilities_are_refused(probability: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        thinned_curves(probability, np.ones((2, 2)))


def test_pixel_and_rand_error_are_pooled_over_the_planes() -> None:
    # plane 1: 4 of 4 cell pixels found. plane 2: the cell is missed, a false cell is found
    planes = [(np.ones((1, 4)), np.ones((1, 4))), (np.array([[1.0, 0]]), np.array([[0, 1]]))]
    curves = challenge_curves(planes)
    assert curves["pixel"].score == pytest.approx(2 * 4 / (5 + 5))  # the mean would be 1/2
    # pairs: 16 of plane 1. The missed cell is a region of a single pixel in truth and proposal
    assert curves["rand"].score == 1
    assert curves["rand"].error == 0
    pairs, pixels = pooled_counts(*planes[1], thresholds=np.array([0.5]))
    assert pairs.tolist() == [[1, 0, 0]]
    assert pixels.tolist() == [[0, 1, 1]]
    assert agreement(0, 1, 1) == (0, 0, 0)


def test_the_rand_error_is_measured_without_thinning() -> None:
    curves = challenge_curves([(np.array([[1.0, 1, 0, 0, 0, 1, 1]]), np.array([[1, 1, 1, 0, 1, 1, 1]]))])
    assert curves["v_rand"].score == 1
    assert curves["rand"].score == pytest.approx(f_score(1, (4 + 1 + 4 + 1) / 18))  # two zeros count as regions


def plane(best: float) -> tuple[np.ndarray, np.ndarray]:
    """Make two cells, found and separate only at a threshold between best and best + 0.1."""
    return np.array([[best + 0.05, best + 0.05, best - 0.05, best + 0.05, best + 0.05]]), np.array([[1, 1, 0, 1, 1]])


def test_the_score_is_the_highest_mean_and_not_the_mean_of_the_highest() -> None:
    planes = [plane(0.3), plane(0.6)]
    assert [thinned_curves(*p)[0].score for p in planes] == [1, 1]
    curves = challenge_curves(planes)
    assert curves["v_rand"].score == pytest.approx((1 + 2 / 3) / 2)
    assert curves["v_rand"].best_threshold == 0.3
    np.testing.assert_allclose(curves["v_rand"].precision[[3, 4]], [(1 + 1 / 2) / 2, 1 / 2])


def test_a_plane_without_cells_is_left_out_of_the_mean() -> None:
    empty = np.zeros((1, 5)), np.zeros((1, 5))
    assert challenge_curves([plane(0.3), empty])["v_rand"].score == 1
    assert np.isnan(challenge_curves([empty])["v_rand"].score)
    assert np.isnan(challenge_curves([])["v_info"].score)


def as_batch(planes: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    probability, truth = (torch.from_numpy(np.stack(arrays))[:, None] for arrays in zip(*planes, strict=True))
    return torch.cat([1 - probability, probability], dim=1), truth


@pytest.mark.parametrize("handler, name", [(VRand, "v_rand"), (VInfo, "v_info")])
def test_as_metric_of_an_engine_it_gives_the_same_number(handler: type, name: str) -> None:
    planes = [(ndimage.gaussian_filter(blobs(i) * 1.0, 1), blobs(i)) for i in range(3)]
    expected = challenge_curves(planes)[name]
    evaluator = Engine(lambda _, batch: batch)
    handler().attach(evaluator, name)
    pred, label = as_batch(planes)
    evaluator.run([[{"pred": p, "label": t}] for p, t in zip(pred, label, strict=True)])
    assert 0 < expected.score < 1
    assert evaluator.state.metrics[name] == pytest.approx(expected.score)


def test_metric_takes_batches_lists_single_channels_and_half_precision() -> None:
    pred, label = as_batch([plane(0.3), plane(0.6)])
    inputs = [(pred, label), (list(pred), list(label)), (pred[:, 1:], label), (pred.bfloat16(), label)]
    for y_pred, y in inputs:
        metric = ThinnedScore()
        metric(y_pred, y)
        np.testing.assert_allclose(metric.get_buffer(), [[1], [2 / 3]])
        assert float(metric.aggregate()) == pytest.approx(5 / 6)


def test_metric_leaves_out_pixels_of_weight_0() -> None:
    pred = torch.tensor([[[[1.0, 1, 0, 1, 1]]]])
    label = torch.tensor([[[[1.0, 1, 1, 0, 1]], [[1.0, 1, 0, 1, 0]]]]).reshape(1, 2, 1, 5)
    metric = ThinnedScore()
    metric(pred, label)
    assert float(metric.aggregate()) == 1


@pytest.mark.parametrize("measure", [v_rand, v_info])
def test_metric_leaves_out_negative_classes_with_and_without_a_weight(measure: Callable) -> None:
    label, weight = torch.from_numpy(APART)[None, None], torch.full((1, 1, *APART.shape), 2)
    for target in (label, torch.cat([label, weight], dim=1)):
        metric = ThinnedScore(measure)
        metric(torch.ones_like(label).float(), target)
        assert float(metric.aggregate()) == 1


def test_metric_without_a_plane_is_nan_and_without_a_label_refused() -> None:
    assert torch.isnan(ThinnedScore().aggregate())
    with pytest.raises(ValueError, match="compares with a label"):
        ThinnedScore()(torch.zeros(1, 1, 2, 2))


def test_real_planes_score_as_the_challenge_program_scores_them(
    smoothed_planes: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Numbers of Fiji's Trainable Segmentation (commit 41c7083) for the same planes."""
    curves = challenge_curves(smoothed_planes)
    assert curves["v_rand"].score == pytest.approx(0.9639994870266495, abs=1e-12)
    assert curves["v_info"].score == pytest.approx(0.9534279132581615, abs=1e-12)
    assert curves["rand"].error == pytest.approx(0.21283476687208092, abs=1e-12)
    assert curves["pixel"].error == pytest.approx(0.07405613387316412, abs=1e-12)
    v_rand_over_thresholds = [
        *(0.23426607665578889, 0.23426607665578889, 0.23430472216204362, 0.2348330894711797, 0.6141723765544825),
        *(0.9639994870266495, 0.6340959815992182, 0.27519074508524377, 0.3486163583968436, 0.23426607665578889),
        0.23426607665578889,
    ]
    v_info_over_thresholds = [
        *(0, 0, 5.391848108005723e-4, 0.007771113061614029, 0.5909585980913306, 0.9534279132581615),
        *(0.7893359914836641, 0.6177553667013016, 0.4485532502328065, 0, 0),
    ]
    np.testing.assert_allclose(curves["v_rand"].f, v_rand_over_thresholds, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves["v_info"].f, v_info_over_thresholds, rtol=0, atol=1e-12)


def test_the_truth_as_its_own_proposal_is_perfect(data_root: Path) -> None:
    for path in sorted((data_root / "isbi2012/train/labels").glob("*.png"))[:3]:
        truth = np.asarray(Image.open(path)) > 0
        curves = challenge_curves([(truth * 1.0, truth)])
        for name in ("v_rand", "v_info", "rand", "pixel"):
            np.testing.assert_allclose(curves[name].f, 1, atol=1e-12, err_msg=name)
