"""Kinds of errors, of pixels and of objects."""

from __future__ import annotations

import numpy as np

from scripts.metrics.objects import instance_counts
from scripts.plot.errors import (
    CONFUSED,
    CORRECT,
    FALSE,
    FOUND,
    MISSED,
    OUTLINE,
    UNKNOWN,
    error_map,
    object_errors,
)


def test_error_map_names_every_kind_of_pixel() -> None:
    label = np.array([[0, 1, 0, 2, 1, -1, -1]])
    found = np.array([[0, 0, 1, 1, 1, 0, 1]])
    expected = [CORRECT, MISSED, FALSE, CONFUSED, CORRECT, UNKNOWN, UNKNOWN]
    assert error_map(found, label).tolist() == [expected]
    weight = np.array([[1.0, 0.0, 2.0, 0.0, 1.0, 1.0, 1.0]])
    expected[1] = expected[3] = UNKNOWN
    assert error_map(found, label, weight).tolist() == [expected]


def test_error_map_marks_exactly_the_wrong_pixels() -> None:
    generator = np.random.default_rng(0)
    label, found = generator.integers(0, 3, (2, 30, 40))
    np.testing.assert_array_equal(error_map(found, label) != CORRECT, found != label)


def test_objects_are_found_missed_false_or_of_a_wrong_shape() -> None:
    reference = np.array([[3, 3, 3, 0, 5, 5, 0, 6, 6, 7, 7, 0, 0]])
    result = np.array([[1, 1, 1, 1, 0, 0, 0, 2, 2, 2, 2, 0, 9]])  # 6 and 7 are merged
    found = object_errors(result, reference)
    expected = [FOUND] * 3 + [OUTLINE] + [MISSED] * 2 + [CORRECT] + [CONFUSED] * 4 + [CORRECT, FALSE]
    assert found.kinds.tolist() == [expected]
    assert (found.missed, found.false, found.objects) == (3, 2, 4)


def test_pixels_without_annotation_are_neither_missed_nor_false() -> None:
    reference = np.array([[3, 3, -1, -1, -1]])
    result = np.array([[1, 1, 0, 2, 2]])
    found = object_errors(result, reference)
    assert found.kinds.tolist() == [[FOUND, FOUND, UNKNOWN, UNKNOWN, UNKNOWN]]
    assert (found.missed, found.false, found.objects) == (0, 0, 1)
    weight = np.array([[1.0, 1.0, 1.0, 1.0, 0.0]])
    assert object_errors(result, reference.clip(0), weight).kinds[0, 4] == UNKNOWN


def test_the_numbers_are_those_of_the_scores() -> None:
    generator = np.random.default_rng(0)
    reference = generator.integers(0, 9, (12, 12)).repeat(5, axis=0).repeat(5, axis=1)
    result = np.where(generator.random(reference.shape) < 0.4, 0, np.roll(reference, 1, axis=1))
    found = object_errors(result, reference)
    _, false, missed, _ = instance_counts(result, reference, thresholds=[0.5])[0]
    assert (found.missed, found.false) == (missed, false)


def test_an_empty_image_has_no_errors() -> None:
    found = object_errors(np.zeros((4, 5), int), np.zeros((4, 5), int))
    assert not found.kinds.any()
    assert (found.missed, found.false, found.objects) == (0, 0, 0)
