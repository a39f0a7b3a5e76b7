"""Mistakes are counted by objects; the arrays can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.reporting.mistakes import Mistakes, count_mistakes

CASES = {
    "perfect": ([1, 1, 0, 2, 2], [3, 3, 0, 4, 4], Mistakes(truth=2, found=2)),
    "missed": ([0, 0, 0, 2, 2], [3, 3, 0, 4, 4], Mistakes(truth=2, found=1, missed=1)),
    "false": ([1, 1, 0, 2, 2], [0, 0, 0, 4, 4], Mistakes(truth=1, found=2, false=1)),
    "merged": ([1, 1, 1, 1, 1], [3, 3, 0, 4, 4], Mistakes(truth=2, found=1, merged=1, in_merged=2)),
    "split": ([1, 1, 0, 2, 2], [3, 3, 3, 3, 3], Mistakes(truth=1, found=2, split=1, missed=1)),
    "not annotated": ([1, 1, 0, 2, 2], [-1, -1, 0, 4, 4], Mistakes(truth=1, found=1)),
    "nothing": ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0], Mistakes()),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes_follow_the_stated_definitions(name: str) -> None:
    found, truth, expected = CASES[name]
    assert count_mistakes(np.array([found]), np.array([truth]))[0] == expected


def test_places_are_those_where_prediction_and_truth_differ() -> None:
    _, places = count_mistakes(np.array([[1, 1, 0, 0]]), np.array([[5, 0, 5, -1]]))
    assert places.tolist() == [[0, 2, 1, 4]]
