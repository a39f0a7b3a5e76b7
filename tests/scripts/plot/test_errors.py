"""Kinds of errors, of pixels and of objects."""

from __future__ import annotations

import numpy as np

from scripts.metrics.mistakes import Mistakes, count_mistakes
from scripts.plot.errors import (
    CONFUSED,
    CORRECT,
    FALSE,
    FOUND,
    MERGED,
    MISSED,
    OUTLINE,
    SPLIT,
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


def test_objects_are_found_missed_false_or_merged() -> None:
    reference = np.array([[3, 3, 3, 0, 5, 5, 0, 6, 6, 7, 7, 0, 0]])
    result = np.array([[1, 1, 1, 1, 0, 0, 0, 2, 2, 2, 2, 0, 9]])  # 6 and 7 are merged
    found = object_errors(result, reference)
    expected = [FOUND] * 3 + [OUTLINE] + [MISSED] * 2 + [CORRECT] + [MERGED] * 4 + [CORRECT, FALSE]
    assert found.kinds.tolist() == [expected]
    assert found.mistakes == count_mistakes(result, reference)
    assert (found.mistakes.missed, found.mistakes.false, found.mistakes.merged) == (3, 2, 2)


def test_parts_of_a_split_object_and_wrong_shapes_are_marked_where_they_are_wrong() -> None:
    reference = np.array([[3, 3, 3, 3, 3, 0, 4, 4, 4, 0, 0]])
    result = np.array([[1, 1, 1, 0, 2, 0, 0, 0, 5, 5, 5]])
    found = object_errors(result, reference)
    expected = [FOUND] * 3 + [OUTLINE, SPLIT, CORRECT] + [MISSED] * 2 + [CONFUSED] + [FALSE] * 2
    assert found.kinds.tolist() == [expected]


def test_pixels_without_annotation_are_neither_missed_nor_false() -> None:
    reference = np.array([[3, 3, -1, -1, -1]])
    result = np.array([[1, 1, 0, 2, 2]])
    found = object_errors(result, reference)
    assert found.kinds.tolist() == [[FOUND, FOUND, UNKNOWN, UNKNOWN, UNKNOWN]]
    assert (found.mistakes.missed, found.mistakes.false, found.mistakes.truth) == (0, 0, 1)
    weight = np.array([[1.0, 1.0, 1.0, 1.0, 0.0]])
    assert object_errors(result, reference.clip(0), weight).kinds[0, 4] == UNKNOWN


def test_an_empty_image_has_no_errors() -> None:
    found = object_errors(np.zeros((4, 5), int), np.zeros((4, 5), int))
    assert not found.kinds.any()
    assert found.mistakes == Mistakes()
