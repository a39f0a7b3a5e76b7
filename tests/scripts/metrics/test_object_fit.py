"""Settings of objects that are fitted to annotated images give better objects, and change nothing without a gain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from scripts.metrics.membranes import thinned_curves
from scripts.metrics.object_fit import enough_images, fit_objects
from scripts.metrics.objects import instance_scores, seg_score
from scripts.transforms.objects import instances_from_scores
from scripts.transforms.separation import separation_gap

START = {"threshold": 0.5, "min_area": 0, "fill_holes": 0, "split_necks": 0, "close_gaps": 0, "field_border": 0}


def discs(seed: int, shape: tuple[int, int] = (96, 96), radius: int = 8) -> np.ndarray:
    """Label image of discs on a jittered grid, away from the edge. Some touch."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    labels = np.zeros(shape, dtype=np.int32)
    places = [(y, x) for y in range(16, shape[0] - 12, 17) for x in range(16, shape[1] - 12, 17)]
    for number, place in enumerate(places, start=1):
        y, x = place + rng.integers(-2, 3, size=2)
        labels[((rows - y) ** 2 + (columns - x) ** 2 < radius**2) & (labels == 0)] = number
    return labels


def predicted(labels: np.ndarray, seed: int, blur: float = 1.5) -> np.ndarray:
    """Probabilities as of a network: blurred, so that gaps between touching discs are lost, with specks."""
    rng = np.random.default_rng(seed)
    specks = np.zeros(labels.shape)
    specks[tuple(rng.integers(0, s - 3, size=25) for s in labels.shape)] = 8
    return np.clip(gaussian_filter((separation_gap(labels) > 0) + specks * (labels == 0), blur), 0, 1)


def objects(probability: np.ndarray, settings: dict) -> np.ndarray:
    names = {"split_necks": "split", "close_gaps": "gap"}
    return instances_from_scores(probability, **{names.get(name, name): value for name, value in settings.items()})


@pytest.fixture(scope="module")
def examples() -> tuple[list[np.ndarray], list[np.ndarray]]:
    labels = [discs(seed) for seed in range(3)]
    return [predicted(label, seed) for seed, label in enumerate(labels)], labels


@pytest.mark.parametrize("measure", ["instance_f1", "seg"])
def test_the_fitted_settings_score_as_stated_and_better_than_before(examples, measure):
    probabilities, labels = examples
    fit = fit_objects(probabilities, labels, START, measure)

    def score(settings: dict) -> float:
        results = [objects(probability, settings) for probability in probabilities]
        if measure == "seg":
            return seg_score(results, labels)
        return float(instance_scores(results, labels)["f1"][0])

    assert score(START) == pytest.approx(fit.before, abs=5e-4)
    assert score(START | fit.settings) == pytest.approx(fit.after, abs=5e-4)
    assert fit.after > fit.before + 0.03
    assert fit.images == 3


def test_the_fitted_settings_are_better_on_other_images(examples):
    fit = fit_objects(*examples, START)
    others = [discs(seed) for seed in range(10, 14)]
    scores = [predicted(label, seed) for seed, label in enumerate(others, start=10)]
    before, after = (
        instance_scores([objects(p, s) for p in scores], others)["f1"][0] for s in (START, START | fit.settings)
    )
    assert after > before + 0.03


def test_specks_vanish_also_where_the_measure_counts_no_false_objects():
    """SEG is an average over the annotated objects: specks beside them leave SEG as it is."""
    cell = np.zeros((64, 64), np.int32)
    cell[20:40, 20:40] = 1
    probability = np.where(cell > 0, 0.9, 0.0)
    probability[::9, ::9] = np.maximum(probability[::9, ::9], 0.9)  # specks of a pixel
    assert seg_score([objects(probability, START)], [cell]) == 1
    fitted = fit_objects([probability], [cell], START, "seg")
    assert objects(probability, START | fitted.settings).max() == 1
    assert fitted.after == 1


def test_a_small_loss_of_seg_does_not_keep_specks():
    """A small cell, cut by the image border, vanishes together with a hundred specks of its size."""
    cells = np.zeros((96, 96), np.int32)
    for number, row in enumerate(range(4, 90, 22), start=1):
        cells[row : row + 16, 40:56] = number
    cells[0:2, 0:2] = 9
    probability = np.where(cells > 0, 0.9, 0.0)
    probability[6::8, 62::8], probability[7::8, 62::8] = 0.9, 0.9
    probability[6::8, 63::8], probability[7::8, 63::8] = 0.9, 0.9
    specks = int(objects(probability, START).max()) - 5
    fitted = fit_objects([probability], [cells], START | {"min_area": 0}, "seg", fixed=["fill_holes"])
    assert specks > 30
    assert objects(probability, START | fitted.settings).max() < 10


def test_given_settings_stay(examples):
    fit = fit_objects(*examples, START, fixed=["min_area", "threshold"])
    assert "min_area" not in fit.settings
    assert "threshold" not in fit.settings
    assert {"close_gaps", "split_necks"} <= fit.settings.keys()


def test_nothing_changes_where_nothing_is_gained():
    labels = [discs(0, radius=6)]
    fit = fit_objects([(labels[0] > 0) * 0.9], labels, START)
    assert {**START, **fit.settings} == START
    assert fit.before == fit.after == 1


@pytest.mark.parametrize("annotated", [True, False])
def test_holes_are_filled_unless_the_annotated_objects_have_them(annotated):
    labels = np.zeros((40, 60), dtype=np.int32)
    labels[4:16, 4:56], labels[24:36, 4:56] = 1, 2
    hollow = labels.copy()
    hollow[8:12, 10:50:10] = hollow[28:32, 10:50:10] = 0
    fit = fit_objects([(hollow > 0) * 0.9], [labels if annotated else hollow], START, "seg")
    assert (fit.settings["fill_holes"] > 0) == annotated


def test_the_gap_of_the_training_is_the_least_gap_that_is_closed(examples):
    wide = {**START, "close_gaps": 7}
    assert fit_objects(*examples, wide, least_gap=1).settings["close_gaps"] in (1, 3, 5)
    assert fit_objects(*examples, START, least_gap=1).settings["close_gaps"] >= 1


@pytest.mark.parametrize("bridges", [0.58, 0.62, 0.76])
def test_a_threshold_is_found_beyond_values_without_a_gain(bridges):
    labels = np.zeros((20, 60), np.int32)
    probability = np.zeros((20, 60))
    probability[9:11, 4:56] = bridges
    for k in range(6):
        labels[6:14, 4 + 9 * k : 11 + 9 * k] = k + 1
        probability[6:14, 4 + 9 * k : 11 + 9 * k] = 0.95
    fit = fit_objects([probability], [labels], START)
    assert (fit.before, fit.after) == (0, 1)
    assert fit.settings["threshold"] >= bridges or fit.settings["split_necks"] > 0


def test_large_object_numbers_take_no_memory(examples):
    probabilities, labels = examples
    large = [np.where(label > 0, label + 2_000_000_000, 0).astype(np.int32) for label in labels]
    assert fit_objects(probabilities, large, START) == fit_objects(probabilities, labels, START)


def test_enough_images_have_objects_and_not_too_many_pixels():
    dense, empty = np.arange(10_000).reshape(100, 100) // 4, np.zeros((100, 100), int)
    assert enough_images([empty, dense, dense]) == [1]
    assert enough_images([empty, np.eye(50, dtype=int)]) == [0, 1]
    assert enough_images([]) == []
    assert len(enough_images([np.eye(2048, dtype=np.int8)] * 8)) == 4


def test_pixels_without_annotation_count_neither_way():
    labels = discs(1)
    probability = predicted(labels, 1)
    partly = labels.copy()
    partly[:, 60:] = -1
    ruined = probability.copy()
    ruined[:, 66:] = np.random.default_rng(0).random(ruined[:, 66:].shape)
    whole, other = (fit_objects([p], [partly], START) for p in (probability, ruined))
    assert whole.settings["threshold"] == pytest.approx(other.settings["threshold"], abs=0.11)


@pytest.mark.parametrize("measure", ["v_rand", "v_info"])
def test_membranes_get_the_threshold_of_the_challenge_s_best_score(measure):
    cells = np.ones((40, 40), np.int32)
    cells[:, 20] = cells[20] = 0
    probability = np.where(cells, 0.95, 0.65)
    fit = fit_objects([probability], [cells], START, measure)
    curve = thinned_curves(probability, cells)[("v_rand", "v_info").index(measure)]
    assert list(fit.settings) == ["threshold"]
    assert fit.settings["threshold"] == curve.best_threshold == 0.7
    assert (fit.before, fit.after) == (pytest.approx(curve.f[5]), curve.score)


def test_images_without_objects_leave_everything_as_it_is():
    empty = np.zeros((20, 20), np.int32)
    fit = fit_objects([np.full((20, 20), 0.2)], [empty], START)
    assert math.isnan(fit.after)
    assert {**START, **fit.settings} == START
