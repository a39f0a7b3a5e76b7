"""Overlaps of labels, V_Rand and V_Info: by hand, against the literal definition, and against scikit-image."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import log

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from scripts.metrics.overlap import overlap_table, overlaps, rand_pairs, v_info, v_rand
from tests.scripts.metrics.masks import disturbed, row, touching_cells


def f_score(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def in_cells(truth: np.ndarray, found: np.ndarray) -> list[tuple[int, int]]:
    """List (truth, proposal) of the pixels in true cells. Each membrane pixel of the proposal gets a new number."""
    pairs = [(int(t), int(p)) for t, p in zip(truth.ravel(), found.ravel(), strict=True) if t != 0]
    return [(t, p if p else -1 - number) for number, (t, p) in enumerate(pairs)]


def literal_rand(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Count every ordered pair of pixels: in the same region of the truth or not, of the proposal or not."""
    pixels = in_cells(truth, found)
    together = Counter((a[0] == b[0], a[1] == b[1]) for a, b in product(pixels, pixels))
    both = together[True, True]
    return both / (both + together[False, True]), both / (both + together[True, False])


def literal_info(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Compute precision and recall from the conditional entropies: (H(truth) - H(truth | found)) / H(truth), ..."""
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
    # 4 regions of 2 pixels become 2 regions of 4 pixels: 16 of 32 pairs, and 1 of 2 bits is found
    "merge": ([1, 1, 2, 2, 3, 3, 4, 4], [1, 1, 1, 1, 2, 2, 2, 2], (1 / 2, 1), (1 / 2, 1)),
    "split": ([1, 1, 1, 1, 2, 2, 2, 2], [1, 1, 2, 2, 3, 3, 4, 4], (1, 1 / 2), (1, 1 / 2)),
    # the border a pixel to the right: 9 + 4 pairs and 1 for the new membrane pixel alone, of 9 + 9;
    # H of the truth log 2, H of the proposal 3/6 log 6/3 + 2/6 log 6/2 + 1/6 log 6
    "boundary shift": (
        [1, 1, 1, 0, 2, 2, 2],
        [1, 1, 1, 1, 0, 2, 2],
        (1, 14 / 18),
        (1, log(2) / (log(2) / 2 + log(3) / 3 + log(6) / 6)),
    ),
    # membrane everywhere: four regions of a pixel each
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
    """In the challenge's program V_Info is 0 without entropy, even if truth and proposal are the same single region."""
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


def test_scikit_image_counts_the_membrane_as_one_region_and_drops_pairs_of_a_pixel_with_itself() -> None:
    """Therefore the project has a function. scikit-image also swaps precision and recall."""
    both, found, true = 4 + 4 + 1 + 1, 4 + 4 + 2**2, 9 + 9  # squares of the overlaps; the two zeros are a region
    n = 6
    error, precision, recall = adapted_rand_error(TRUE, FOUND)
    assert precision == pytest.approx((both - n) / (true - n))  # the challenge's recall
    assert recall == pytest.approx((both - n) / (found - n))
    assert 1 - error == pytest.approx(2 * (both - n) / (true + found - 2 * n))
    ours = v_rand(overlap_table(TRUE, FOUND))
    assert ours[:2] == pytest.approx((1, 10 / 18))  # each zero is a region: 4 + 4 + 1 + 1
    assert abs(ours.f - (1 - error)) > 0.1


def test_scikit_image_counts_the_membrane_as_a_region_with_information() -> None:
    split, merge = variation_of_information(TRUE, FOUND, ignore_labels=(0,)) * log(2)  # bits to nats
    assert merge == pytest.approx(1 / 3 * log(2))  # the region of zeros holds pixels of both cells
    assert split == pytest.approx(2 / 3 * log(3 / 2) + 1 / 3 * log(3))
    precision, recall, _ = v_info(overlap_table(TRUE, FOUND))
    assert precision == pytest.approx(1)  # nothing is merged
    h_found = 2 * (2 / 6) * log(6 / 2) + 2 * (1 / 6) * log(6)
    assert recall == pytest.approx(log(2) / h_found)
    with_membrane = variation_of_information(TRUE, FOUND) * log(2)  # by default the true membrane counts, too
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


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize(
    "kinds", [(np.int64, np.int64), (np.uint8, np.float32), (np.uint64, np.int16), (bool, np.int32)]
)
@pytest.mark.parametrize("far", [1, 1000, 2**29])
def test_the_table_is_the_count_of_pairs_pixel_by_pixel(far: int, kinds: tuple, partly: bool) -> None:
    """Object numbers are close together or far apart. Images have background or none."""
    rng = np.random.default_rng(far)
    for least in (0, 1, 3):
        result = (rng.integers(min(least, 1), 4, (7, 9)) * (far if kinds[0] is np.int64 else 1)).astype(kinds[0])
        reference = (rng.integers(least - 1, 4, (7, 9)) * (far if kinds[1] is np.int64 else 1)).astype(kinds[1])
        annotated = rng.random((7, 9)) < 0.6 if partly else np.ones((7, 9), bool)
        pixels = list(zip(reference.ravel().tolist(), result.ravel().tolist(), annotated.ravel(), strict=True))
        truth = sorted(Counter(r for r, _, known in pixels if known and r > 0).items())
        whole = sorted(Counter(s for _, s, _ in pixels if s > 0).items())
        found = Counter(s for _, s, known in pixels if known)
        both = sorted(Counter((r, s) for r, s, known in pixels if known and r > 0 and s > 0).items())
        table = overlaps(result, reference, annotated if partly else None)
        assert list(zip(table.reference_ids, table.reference_areas, strict=True)) == truth
        assert list(zip(table.result_ids, table.result_whole_areas, strict=True)) == whole
        assert table.result_areas.tolist() == [found[s] for s, _ in whole]
        pairs = zip(table.reference_ids[table.reference], table.result_ids[table.result], strict=True)
        assert list(zip(pairs, table.pixels, strict=True)) == both
        assert {array.dtype for array in vars(table).values()} == {np.dtype(np.int64)}


def test_number_types_and_additional_axes_do_not_matter() -> None:
    reference, result = touching_cells(1, 64), disturbed(touching_cells(1, 64), 1)
    expected = overlaps(result, reference)
    for kind in (np.uint16, np.int32, np.int64, np.float32, np.uint64):
        for other in (overlaps(result.astype(kind), reference.astype(kind)), overlaps(result[None], reference[None])):
            for name, column in vars(expected).items():
                np.testing.assert_array_equal(vars(other)[name], column, err_msg=name)


def test_object_numbers_up_to_the_largest_int32_are_taken() -> None:
    largest = 2**31 - 1
    assert overlaps(row(largest, 0), row(largest, largest)).reference_ids == [largest]


@pytest.mark.parametrize(
    "result, reference, message",
    [
        (row(1, 2), row(1, 2, 3), r"reference has the shape \(1, 3\), the result \(1, 2\)"),
        (np.array([[0.5]]), row(1), "result must hold whole numbers, got values such as 0.5"),
        (row(-1), row(1), "result must hold object numbers from 0, got -1"),
        (row(1), row(2**31), r"reference must hold object numbers below 2\^31, got 2147483648"),
        (np.ones(3), np.ones(3), r"result.*\(3,\).*list of frames"),
    ],
)
def test_other_arrays_than_label_images_are_refused(result: np.ndarray, reference: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlaps(result, reference)
