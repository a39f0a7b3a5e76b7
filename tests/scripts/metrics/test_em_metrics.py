"""V_Rand and V_Info against the definition taken literally, by hand, and beside scikit-image; thinning; averages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import watershed

from benchmarks.literal_metrics import thinned
from scripts.handlers.em_report import measure_slice
from scripts.metrics.membranes import (
    THRESHOLDS,
    ThinnedScore,
    VInfo,
    VRand,
    challenge_curves,
    pooled_counts,
    stack_curves,
    thinned_curves,
)
from scripts.metrics.overlap import agreement, overlap_table, rand_pairs, v_info, v_rand
from scripts.metrics.thinning import cell_regions, thin_membrane


def made(text: str) -> np.ndarray:
    """One digit per pixel, "-" for -1."""
    return np.array([[-1 if c == "-" else int(c) for c in row] for row in text.split()])


def f_score(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def in_cells(truth: np.ndarray, found: np.ndarray) -> list[tuple[int, int]]:
    """(truth, proposal) of every pixel in a true cell, each membrane pixel of the proposal a region of its own."""
    pairs = [(int(t), int(p)) for t, p in zip(truth.ravel(), found.ravel(), strict=True) if t != 0]
    return [(t, p if p else -1 - number) for number, (t, p) in enumerate(pairs)]


def literal_rand(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Precision and recall by asking every ordered pair of pixels: together in the truth? together in the proposal?"""
    pixels = in_cells(truth, found)
    together = Counter((a[0] == b[0], a[1] == b[1]) for a, b in product(pixels, pixels))
    both = together[True, True]
    return both / (both + together[False, True]), both / (both + together[True, False])


def literal_info(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Precision and recall from the conditional entropies, (H - H of one given the other) / H."""
    pixels = in_cells(truth, found)
    n = len(pixels)
    of_truth, of_found, of_both = Counter(t for t, _ in pixels), Counter(p for _, p in pixels), Counter(pixels)
    h_truth = -sum(c / n * log(c / n) for c in of_truth.values())
    h_found = -sum(c / n * log(c / n) for c in of_found.values())
    truth_given_found = -sum(c / n * log(c / of_found[p]) for (_, p), c in of_both.items())
    found_given_truth = -sum(c / n * log(c / of_truth[t]) for (t, _), c in of_both.items())
    return (h_truth - truth_given_found) / h_truth, (h_found - found_given_truth) / h_found


CASES = {  # truth, proposal (both numbered), V_Rand and V_Info as (precision, recall)
    "equal": ([1, 1, 0, 2, 2], [5, 5, 0, 3, 3], (1, 1), (1, 1)),
    "equal but for the true membrane": ([1, 1, 0, 2, 2], [1, 1, 1, 2, 2], (1, 1), (1, 1)),
    # 4 pixels together 2 by 2 become 8 pixels together 4 by 4: 16 of 32 pairs; 1 of 2 bits is found
    "merge": ([1, 1, 2, 2, 3, 3, 4, 4], [1, 1, 1, 1, 2, 2, 2, 2], (1 / 2, 1), (1 / 2, 1)),
    "split": ([1, 1, 1, 1, 2, 2, 2, 2], [1, 1, 2, 2, 3, 3, 4, 4], (1, 1 / 2), (1, 1 / 2)),
    # the border one pixel to the right: 9 + 4 pairs and the new membrane pixel with itself, of 9 + 9;
    # H of the truth log 2, H of the proposal 3/6 log 6/3 + 2/6 log 6/2 + 1/6 log 6
    "boundary shift": (
        [1, 1, 1, 0, 2, 2, 2],
        [1, 1, 1, 1, 0, 2, 2],
        (1, 14 / 18),
        (1, log(2) / (log(2) / 2 + log(3) / 3 + log(6) / 6)),
    ),
    # membrane everywhere: four regions of one pixel
    "empty": ([1, 1, 0, 2, 2], [0, 0, 0, 0, 0], (1, 4 / 8), (1, log(2) / log(4))),
    "half is membrane": ([1, 1, 2, 2], [1, 1, 0, 0], (1, 6 / 8), (1, log(2) / (1.5 * log(2)))),
}


@pytest.mark.parametrize("truth, found, rand, info", CASES.values(), ids=CASES)
def test_values_by_hand_and_by_the_literal_definition(truth: list, found: list, rand: tuple, info: tuple) -> None:
    truth, found = np.array(truth), np.array(found)
    table = overlap_table(truth, found)
    np.testing.assert_allclose(v_rand(table), [*rand, f_score(*rand)], atol=1e-12)
    np.testing.assert_allclose(v_info(table), [*info, f_score(*info)], atol=1e-12)
    np.testing.assert_allclose(literal_rand(truth, found), rand, atol=1e-12)
    np.testing.assert_allclose(literal_info(truth, found), info, atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_random_regions_agree_with_the_literal_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, generator.integers(3, 9), (9, 14))
    found = np.where(generator.random(truth.shape) < 0.6, truth * 7, generator.integers(0, 12, truth.shape))
    table = overlap_table(truth, found)
    for ours, literal in ((v_rand(table), literal_rand), (v_info(table), literal_info)):
        expected = literal(truth, found)
        np.testing.assert_allclose(ours, [*expected, f_score(*expected)], rtol=0, atol=1e-9)


def test_all_one_region_has_no_information() -> None:
    """Edge cases of the challenge's program: without entropy V_Info is 0, even where both are the same one region."""
    one, two = np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])
    assert v_rand(overlap_table(two, one)) == (1 / 2, 1, 2 / 3)
    assert v_info(overlap_table(two, one)) == (1, 0, 0)
    assert v_rand(overlap_table(one, one)) == (1, 1, 1)
    assert v_info(overlap_table(one, one)) == (1, 0, 0)
    assert v_info(overlap_table(one, two)) == (0, 1, 0)


def test_without_any_true_cell_the_scores_are_nan() -> None:
    table = overlap_table(np.zeros(4, int), np.array([0, 1, 1, 2]))
    assert np.isnan([*v_rand(table), *v_info(table)]).all()


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ValueError, match=r"truth has the shape \(2, 2\), the proposal \(2, 3\)"):
        overlap_table(np.ones((2, 2), int), np.ones((2, 3), int))


TRUE, FOUND = np.array([1, 1, 1, 0, 2, 2, 2]), np.array([1, 1, 0, 0, 2, 2, 0])


def test_scikit_image_takes_the_membrane_for_one_region_and_drops_pairs_of_a_pixel_with_itself() -> None:
    """The reason for functions of our own; there, precision and recall have also changed places."""
    both, found, true = 4 + 4 + 1 + 1, 4 + 4 + 2**2, 9 + 9  # squares of the overlaps; the two zeros are one region
    n = 6
    error, precision, recall = adapted_rand_error(TRUE, FOUND)
    assert precision == pytest.approx((both - n) / (true - n))  # the challenge's recall
    assert recall == pytest.approx((both - n) / (found - n))
    assert 1 - error == pytest.approx(2 * (both - n) / (true + found - 2 * n))
    ours = v_rand(overlap_table(TRUE, FOUND))
    assert ours[:2] == pytest.approx((1, 10 / 18))  # each zero alone: 4 + 4 + 1 + 1 of the same
    assert abs(ours.f - (1 - error)) > 0.1


def test_scikit_image_counts_the_membrane_as_a_region_with_information() -> None:
    split, merge = variation_of_information(TRUE, FOUND, ignore_labels=(0,)) * log(2)  # bits to nats
    assert merge == pytest.approx(1 / 3 * log(2))  # the one region of zeros holds pixels of both cells
    assert split == pytest.approx(2 / 3 * log(3 / 2) + 1 / 3 * log(3))
    precision, recall, _ = v_info(overlap_table(TRUE, FOUND))
    assert precision == pytest.approx(1)  # ours: nothing is merged
    h_found = 2 * (2 / 6) * log(6 / 2) + 2 * (1 / 6) * log(6)
    assert recall == pytest.approx(log(2) / h_found)
    with_membrane = variation_of_information(TRUE, FOUND) * log(2)  # its default counts the true membrane too
    assert abs(with_membrane - (split, merge)).max() > 0.01


def test_on_proposals_without_membrane_only_the_pairs_of_a_pixel_with_itself_differ() -> None:
    generator = np.random.default_rng(0)
    truth, found = generator.integers(0, 5, (20, 20)), generator.integers(1, 7, (20, 20))
    both, merged, split = rand_pairs(overlap_table(truth, found))
    n = np.count_nonzero(truth)
    error, recall, precision = adapted_rand_error(truth, found)
    assert recall == pytest.approx((both - n) / (both + split - n))
    assert precision == pytest.approx((both - n) / (both + merged - n))
    assert 1 - error == pytest.approx(f_score(precision, recall))
    given = variation_of_information(truth, found, ignore_labels=(0,)) * log(2)
    shared_precision, shared_recall, _ = v_info(overlap_table(truth, found))
    h_truth, h_found = (
        -sum(c / n * log(c / n) for c in Counter(labels[truth > 0]).values()) for labels in (truth, found)
    )
    assert h_found * (1 - shared_recall) == pytest.approx(given[0])
    assert h_truth * (1 - shared_precision) == pytest.approx(given[1])


def test_floods_meet_in_a_line_one_pixel_wide() -> None:
    cells = np.zeros((5, 9), bool)
    cells[:, :2] = cells[:, 7:] = True
    expected = np.ones((5, 9), int)
    expected[:, 4], expected[:, 5:] = 0, 2  # five columns between them: two for each and the line
    np.testing.assert_array_equal(thin_membrane(cells), expected)
    assert thin_membrane(cells).dtype == np.int32


@pytest.mark.parametrize("value", [False, True], ids=["all membrane", "all cell"])
def test_one_basin_is_one_region(value: bool) -> None:
    np.testing.assert_array_equal(thin_membrane(np.full((3, 4), value)), np.ones((3, 4)))


def blobs(seed: int, shape: tuple[int, int] = (40, 60), sigma: float = 2.0, share: float = 0.5) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return noise > np.quantile(noise, 1 - share)


@pytest.mark.parametrize("seed, share", [(0, 0.2), (1, 0.5), (2, 0.8)])
def test_thinned_regions_keep_their_pixels_and_never_touch(seed: int, share: float) -> None:
    cells = blobs(seed, share=share)
    thinned = thin_membrane(cells)
    np.testing.assert_array_equal(thinned[cells], cell_regions(cells)[cells])
    for a, b in ((thinned[1:], thinned[:-1]), (thinned[:, 1:], thinned[:, :-1])):
        assert ((a == b) | (a == 0) | (b == 0)).all()
    for region in range(1, thinned.max() + 1):
        assert ndimage.label(thinned == region)[1] == 1  # each in one piece
    assert not ((thinned == 0) & ~ndimage.binary_dilation(thinned != 0, np.ones((3, 3)))).any()  # no line is wide


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_flooding_front_by_front_is_flooding_pixel_by_pixel(share: float) -> None:
    """Against the queue taken literally; noise has the most places where what comes first decides."""
    generator = np.random.default_rng(int(100 * share))
    for shape in ((1, 50), (50, 1), (23, 31), (40, 40)):
        for cells in (generator.random(shape) < share, blobs(int(100 * share), shape, 1.0, share)):
            np.testing.assert_array_equal(thin_membrane(cells), thinned(cells))


def test_scikit_image_floods_in_another_order() -> None:
    """The reason for a flood of our own. The scores hardly feel it."""
    truth, cells = cell_regions(blobs(3, (128, 128), share=0.7)), blobs(3, (128, 128), share=0.5)
    ours = thin_membrane(cells)
    theirs = watershed((~cells).astype(np.uint8), cell_regions(cells), connectivity=1, watershed_line=True)
    differ = (ours != theirs).mean()
    assert 0 < differ < 0.1
    a, b = v_rand(overlap_table(truth, ours)).f, v_rand(overlap_table(truth, theirs)).f
    assert a == pytest.approx(b, abs=0.01)


def test_where_floods_tie_the_column_to_the_left_is_first() -> None:
    # between two cells in a row two pixels are free: the left one is settled first, the right one then sees both
    np.testing.assert_array_equal(thin_membrane(np.array([[1, 0, 0, 1]])), [[1, 1, 0, 2]])
    np.testing.assert_array_equal(thin_membrane(np.array([[1, 0, 0, 1]]).T), [[1], [1], [0], [2]])


def test_a_line_spreads_where_nothing_else_arrives() -> None:
    """The flood of Vincent and Soille may leave a plateau on its lines; here the pixel below the line's end."""
    cells = np.array([[1, 0, 1], [0, 0, 0], [0, 0, 0]])
    thinned = thin_membrane(cells)
    assert thinned[0, 1] == thinned[1, 1] == thinned[2, 1] == 0
    assert (thinned[:, 0] == 1).all()
    assert (thinned[:, 2] == 2).all()


def test_thinning_forgives_wide_membrane() -> None:
    truth, probability = np.array([[1, 1, 1, 0, 1, 1, 1]]), np.array([[0.95, 0.95, 0.25, 0.15, 0.25, 0.95, 0.95]])
    rand, info = thinned_curves(probability, truth)
    # above 0.1 all is one cell, above 0.2 the cells have the truth's width, above 0.3 wide membrane between them, above
    # 1.0 there is none, which is one region again
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
    assert rand.f[3] == 1  # 0.3 in single precision is above 0.1 + 0.1 + 0.1 in double


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
def test_nothing_joins_regions_through_what_is_not_annotated(truth: np.ndarray, proposal: np.ndarray) -> None:
    """Two regions are all that is known, whatever the truth or the proposal say between them; so for the Rand error."""
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
def test_what_is_no_probability_map_is_refused(probability: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        thinned_curves(probability, np.ones((2, 2)))


def test_pixel_and_rand_error_are_pooled_over_the_planes() -> None:
    # plane 1: 4 cells found of 4; plane 2: the one cell missed, a false one found
    planes = [(np.ones((1, 4)), np.ones((1, 4))), (np.array([[1.0, 0]]), np.array([[0, 1]]))]
    curves = challenge_curves(planes)
    assert curves["pixel"].score == pytest.approx(2 * 4 / (5 + 5))  # and not the mean of 1 and 0
    # pairs: 16 of plane 1; the missed cell is a region of its own, as it is in the truth
    assert curves["rand"].score == 1
    assert curves["rand"].error == 0
    pairs, pixels = pooled_counts(*planes[1], thresholds=np.array([0.5]))
    assert pairs.tolist() == [[1, 0, 0]]
    assert pixels.tolist() == [[0, 1, 1]]
    assert agreement(0, 1, 1) == (0, 0, 0)


def test_the_rand_error_knows_no_thinning() -> None:
    curves = challenge_curves([(np.array([[1.0, 1, 0, 0, 0, 1, 1]]), np.array([[1, 1, 1, 0, 1, 1, 1]]))])
    assert curves["v_rand"].score == 1
    assert curves["rand"].score == pytest.approx(f_score(1, (4 + 1 + 4 + 1) / 18))  # two zeros count as regions


def plane(best: float) -> tuple[np.ndarray, np.ndarray]:
    """Two cells that only a threshold between best and best + 0.1 parts and keeps."""
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


def test_metric_leaves_out_what_has_weight_zero() -> None:
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
