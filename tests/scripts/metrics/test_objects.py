"""SEG, DET and instance scores: by hand on small arrays, and equal to the package of the challenge's organisers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.measure import label as connected_components

from benchmarks.organisers import organisers
from scripts.metrics.objects import (
    det_counts,
    det_score,
    instance_counts,
    instance_scores,
    seg_counts,
    seg_jaccards_of,
    seg_score,
)
from scripts.metrics.overlap import overlaps
from tests.scripts.metrics.masks import disturbed, row, touching_cells

Arrays = Sequence[np.ndarray]


# ---------------------------------------------------------------- SEG


@pytest.mark.parametrize(
    "result, reference, jaccards",
    [
        (row(7, 7, 0, 0), row(3, 3, 0, 0), [1.0]),  # the ids do not matter
        (row(1, 0, 0, 0), row(1, 1, 0, 0), [0.0]),  # half of it is too little
        (row(1, 1, 0, 0), row(1, 1, 1, 0), [2 / 3]),
        (row(1, 1, 1, 1), row(1, 1, 0, 2), [2 / 4, 1 / 4]),  # the result object covers two
        (row(1, 1, 2, 2), row(1, 1, 1, 1), [0.0]),  # split in halves
        (row(0, 0, 0, 5), row(1, 1, 0, 0), [0.0]),
        (row(0, 0, 0, 0), row(1, 1, 0, 2), [0.0, 0.0]),
        (row(1, 1, 0, 2), row(0, 0, 0, 0), []),
    ],
)
def test_what_a_reference_object_adds_to_seg(result: np.ndarray, reference: np.ndarray, jaccards: list) -> None:
    np.testing.assert_allclose(seg_jaccards_of(overlaps(result, reference)), jaccards)
    np.testing.assert_allclose(seg_counts(result, reference), [sum(jaccards), len(jaccards)])


def test_seg_is_the_mean_over_objects_and_not_over_frames() -> None:
    results, references = [row(1, 0, 0), row(1, 0, 0)], [row(1, 0, 0), row(2, 0, 3)]
    assert seg_score(results, references) == pytest.approx((1 + 1 + 0) / 3)


def test_false_positives_cost_seg_nothing() -> None:
    """Therefore SEG can score partly annotated frames."""
    reference = row(1, 1, 0, 0, 0, 0)
    assert seg_score([row(1, 1, 0, 5, 0, 6)], [reference]) == seg_score([row(1, 1, 0, 0, 0, 0)], [reference]) == 1


def test_for_seg_a_result_object_counts_as_a_whole_also_where_nothing_is_annotated() -> None:
    assert seg_score([row(1, 1, 1, 1)], [row(1, 1, 0, 0)]) == seg_score([row(1, 1, 1, 1)], [row(1, 1, -1, -1)]) == 0.5


# ---------------------------------------------------------------- DET


@pytest.mark.parametrize(
    "result, markers, counts, det",
    [
        (row(4, 4, 0, 5, 5), row(1, 0, 0, 0, 2), [0, 0, 0, 2], 1.0),
        (row(4, 4, 4, 4, 4), row(1, 0, 0, 0, 2), [1, 0, 0, 2], 1 - 5 / 20),  # two cells as one: a split is needed
        (row(4, 4, 0, 0, 0), row(1, 0, 0, 0, 2), [0, 1, 0, 2], 1 - 10 / 20),  # one missed
        (row(4, 0, 6, 0, 5), row(1, 0, 0, 0, 2), [0, 0, 1, 2], 1 - 1 / 20),  # one too many
        (row(4, 0, 0, 0, 0), row(1, 1, 0, 0, 2), [0, 2, 1, 2], 0.0),  # half a marker is not detected
        (row(1, 2, 3, 4, 0), row(0, 0, 0, 0, 1), [0, 1, 4, 1], 0.0),  # no worse than an empty result
        (row(0, 0, 0, 0, 0), row(1, 0, 0, 0, 2), [0, 2, 0, 2], 0.0),
        (row(4, 4, 0, 0, 0), row(0, 0, 0, 0, 0), [0, 0, 1, 0], np.nan),
    ],
)
def test_det_counts_the_operations(result: np.ndarray, markers: np.ndarray, counts: list, det: float) -> None:
    np.testing.assert_array_equal(det_counts(result, markers), counts)
    np.testing.assert_allclose(det_score([result], [markers]), det)


def test_det_sums_the_operations_of_all_frames() -> None:
    results, markers = [row(1, 0, 0, 0), row(9, 9, 0, 9)], [row(1, 0, 0, 0), row(1, 0, 0, 2)]
    assert det_score(results, markers) == 1 - 5 / 30
    # false objects in a frame weigh on all frames: the bound is the bound of the whole sequence
    assert det_score([row(0, 1, 2, 3), row(1, 0, 0, 0)], [row(1, 0, 0, 0), row(1, 0, 0, 0)]) == pytest.approx(7 / 20)


# ---------------------------------------------------------------- the organisers' package


def assert_equal_to_organisers(folder: Path, results: Arrays, references: Arrays, markers: Arrays) -> tuple:
    theirs = organisers(folder, results, references, markers)
    seen = [(result, label) for result, label in zip(results, references, strict=True) if label is not None]
    seg, det = seg_score(*zip(*seen, strict=True)), det_score(results, markers)
    assert seg == pytest.approx(theirs["SEG"], abs=1e-12)
    assert det == pytest.approx(theirs["DET"], abs=1e-12)
    return seg, det


@pytest.mark.parametrize("seed", range(3))
def test_seg_and_det_equal_the_organisers_on_made_cells(seed: int, tmp_path: Path) -> None:
    truth = [touching_cells(10 * seed + t) for t in range(4)]
    results = [disturbed(labels, seed) for labels in truth]
    markers = [np.where(np.arange(128) % 2, labels, 0) for labels in truth]
    seg, det = assert_equal_to_organisers(tmp_path, results, truth, markers)
    assert 0.2 < seg < 0.9  # neither trivial
    assert 0.2 < det < 0.99


def test_seg_and_det_equal_the_organisers_on_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = [np.kron(rng.integers(0, 4, (12, 12)), np.ones((4, 4), int)) * np.arange(1, 49) for _ in range(3)]
    results = [np.where(rng.random(labels.shape) < 0.4, 0, labels) for labels in truth]
    assert_equal_to_organisers(tmp_path, results, truth, truth)


@pytest.mark.filterwarnings("ignore:Empty frame:UserWarning")
def test_seg_and_det_equal_the_organisers_with_empty_and_partly_annotated_frames(tmp_path: Path) -> None:
    truth = [touching_cells(5), touching_cells(6), touching_cells(7)]
    few = np.where(truth[0] <= 3, truth[0], 0)
    empty = np.zeros_like(few)
    results = [truth[0], empty, disturbed(truth[2], 1)]
    seg, _ = assert_equal_to_organisers(tmp_path, results, [few, truth[1], None], truth)
    assert seg == 3 / (3 + len(np.unique(truth[1])) - 1)


@pytest.mark.parametrize("name, sequence, every", [("DIC-C2DH-HeLa", "01", 12), ("PhC-C2DH-U373", "02", 17)])
def test_seg_and_det_equal_the_organisers_on_real_frames(
    name: str, sequence: str, every: int, data_root: Path, tmp_path: Path
) -> None:
    """Silver masks as result, gold masks and markers as reference."""
    folder = data_root / name
    gold = {int(file.stem[-3:]) for file in (folder / f"{sequence}_GT/SEG").glob("*.tif")}
    numbers = sorted(gold | set(range(0, 80, every)))

    def read(pattern: str) -> list[np.ndarray]:
        return [tifffile.imread(folder / pattern.format(sequence, t)) for t in numbers]

    silver, markers = read("{}_ST/SEG/man_seg{:03d}.tif"), read("{}_GT/TRA/man_track{:03d}.tif")
    references = [
        tifffile.imread(folder / f"{sequence}_GT/SEG/man_seg{t:03d}.tif") if t in gold else None for t in numbers
    ]
    seg, det = assert_equal_to_organisers(tmp_path, silver, references, markers)
    assert 0.8 < seg < 1
    assert 0.9 < det <= 1


# ---------------------------------------------------------------- instance scores


def test_instance_scores_by_hand() -> None:
    reference = row(1, 1, 1, 1, 0, 2, 2, 0, 3, 0, 0, 4, 4)
    result = row(1, 1, 1, 0, 0, 7, 7, 7, 0, 6, 0, 0, 0)  # IoU 3/4 and 2/3, objects 3 and 4 missed, 6 false
    scores = instance_scores([result], [reference], thresholds=[0.5, 0.7, 0.8])
    np.testing.assert_array_equal(scores["threshold"], [0.5, 0.7, 0.8])
    np.testing.assert_array_equal(scores["matches"], [2, 1, 0])
    np.testing.assert_array_equal(scores["false"], [1, 2, 3])
    np.testing.assert_array_equal(scores["missed"], [2, 3, 4])
    np.testing.assert_allclose(scores["precision"], [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(scores["recall"], [2 / 4, 1 / 4, 0])
    np.testing.assert_allclose(scores["f1"], [4 / 7, 2 / 7, 0])
    np.testing.assert_allclose(scores["mean_matched_iou"], [(3 / 4 + 2 / 3) / 2, 3 / 4, np.nan])


def test_an_iou_equal_to_the_threshold_is_no_match() -> None:
    reference = np.ones((1, 10), int)
    for threshold, covered in ((0.5, 5), (0.6, 6), (0.7, 7), (0.8, 8), (0.9, 9)):
        for more in (0, 1):
            result = np.where(np.arange(10) < covered + more, 1, 0)[None]
            assert instance_counts(result, reference, thresholds=[threshold])[0, 0] == more


def literal_counts(result: np.ndarray, reference: np.ndarray, threshold: float) -> list[float]:
    """Compare every result object with every reference object."""
    ours = [result == i for i in np.unique(result[result > 0])]
    truth = [reference == i for i in np.unique(reference[reference > 0])]
    iou = np.array([[(r & s).sum() / (r | s).sum() for s in ours] for r in truth]).reshape(len(truth), len(ours))
    matched = iou > threshold
    assert matched.sum(axis=0).max(initial=0) <= 1  # one to one
    assert matched.sum(axis=1).max(initial=0) <= 1
    n = matched.sum()
    return [n, len(ours) - n, len(truth) - n, iou[matched].sum()]


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_those_of_comparing_all_pairs(seed: int) -> None:
    reference = touching_cells(seed, 64)
    result = disturbed(reference, seed)
    counts = instance_counts(result, reference)
    for threshold, found in zip((0.5, 0.6, 0.7, 0.8, 0.9), counts, strict=True):
        np.testing.assert_allclose(found, literal_counts(result, reference, threshold))


def test_where_nothing_is_annotated_nothing_counts() -> None:
    reference = row(1, 1, 0, 0, 0, 0, 0, 0)
    result = row(1, 1, 1, 0, 2, 2, 0, 3)
    valid = row(1, 1, 0, 1, 1, 0, 0, 1)  # half of result object 2 is not annotated: left out. 3 is false
    expected = [[1, 1, 0, 1.0]]
    np.testing.assert_array_equal(instance_counts(result, reference, valid, [0.5]), expected)
    np.testing.assert_array_equal(instance_counts(result, reference, 7.5 * valid, [0.5]), expected)
    negative = np.where(valid, reference, -1)
    np.testing.assert_array_equal(instance_counts(result, negative, thresholds=[0.5]), expected)
    np.testing.assert_array_equal(instance_counts(result, reference, thresholds=[0.5]), [[1, 2, 0, 2 / 3]])


def test_a_mask_for_every_frame() -> None:
    frames = [row(1, 0, 2), row(1, 0, 2)], [row(1, 0, 0), row(1, 0, 0)]
    assert instance_scores(*frames, thresholds=[0.5])["precision"] == 0.5
    assert instance_scores(*frames, valid=[row(1, 1, 0), row(1, 1, 1)], thresholds=[0.5])["precision"] == 2 / 3


def test_scores_without_objects_are_nan_and_silent() -> None:
    empty = row(0, 0)
    scores = instance_scores([empty], [empty])
    assert all(np.isnan(scores[name]).all() for name in ("precision", "recall", "f1", "mean_matched_iou"))
    assert np.isnan(seg_score([empty], [empty]))
    missed = instance_scores([empty], [row(1, 0)], thresholds=[0.5])
    assert np.isnan(missed["precision"])
    assert missed["recall"] == missed["f1"] == 0


def test_frames_may_be_a_stack_or_a_generator() -> None:
    references, results = [touching_cells(1, 32), touching_cells(2, 32)], [touching_cells(1, 32), touching_cells(1, 32)]
    expected = seg_score(results, references)
    assert seg_score(np.stack(results), np.stack(references)) == expected
    assert seg_score(iter(results), (labels for labels in references)) == expected


def test_wrong_frames_and_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="list of frames"):
        seg_score(row(1, 2), row(1, 2))
    with pytest.raises(ValueError, match="no frames given"):
        det_score([], [])
    with pytest.raises(ValueError, match="shorter"):
        seg_score([row(1), row(1)], [row(1)])
    for thresholds in ([0.4], [1.0]):
        with pytest.raises(ValueError, match=r"from 0.5 to below 1"):
            instance_counts(row(1), row(1), thresholds=thresholds)
    with pytest.raises(ValueError, match=r"valid has the shape \(1, 2\)"):
        instance_counts(row(1), row(1), row(1, 1))


def test_five_thousand_objects_by_hand() -> None:
    cell = np.zeros((28, 28), int)
    cell[2:-2, 2:-2] = 1
    reference = np.zeros((2048, 2048), np.int32)
    reference[:2044, :2044] = connected_components(np.kron(np.ones((73, 73), int), cell))
    result = np.roll(reference, (3, 2), (0, 1))
    assert reference.max() == 5329
    seg = seg_score([result], [reference])
    det = det_score([result], [reference])
    f1 = instance_scores([result], [reference])["f1"]
    both, area = (24 - 3) * (24 - 2), 24**2
    assert seg == pytest.approx(both / (2 * area - both))
    assert det == 1
    np.testing.assert_array_equal(f1, [1, 1, 0, 0, 0])
