"""Mistakes are counted by objects; the arrays can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.metrics.mistakes import Mistakes, count_mistakes
from scripts.metrics.objects import instance_counts

CASES = {
    "perfect": ([1, 1, 0, 2, 2], [3, 3, 0, 4, 4], Mistakes(truth=2, found=2)),
    "missed": ([0, 0, 0, 2, 2], [3, 3, 0, 4, 4], Mistakes(truth=2, found=1, missed=1)),
    "false": ([1, 1, 0, 2, 2], [0, 0, 0, 4, 4], Mistakes(truth=1, found=2, false=1)),
    "half": ([1, 1, 1, 1, 0], [0, 0, 4, 4, 4], Mistakes(truth=1, found=1, missed=1, false=1)),  # IoU 2 / 5
    "merged": ([1, 1, 1, 1, 1], [3, 3, 0, 4, 4], Mistakes(truth=2, found=1, missed=2, false=1, merged=2)),
    "merged, one matches": ([1, 1, 1, 1, 1], [3, 3, 3, 3, 4], Mistakes(truth=2, found=1, missed=1, merged=2)),
    "split": ([1, 1, 0, 2, 2], [3, 3, 3, 3, 3], Mistakes(truth=1, found=2, missed=1, false=2, split=1)),
    "split, one matches": ([1, 1, 1, 0, 2], [3, 3, 3, 3, 3], Mistakes(truth=1, found=2, false=1, split=1)),
    "not annotated": ([1, 1, 0, 2, 2], [-1, -1, 0, 4, 4], Mistakes(truth=1, found=2)),
    "nothing": ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0], Mistakes()),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes_follow_the_stated_definitions(name: str) -> None:
    found, truth, expected = CASES[name]
    assert count_mistakes(np.array([found]), np.array([truth])) == expected


def test_missed_and_false_objects_are_those_of_the_scores() -> None:
    generator = np.random.default_rng(0)
    reference = generator.integers(-1, 9, (12, 12)).repeat(5, axis=0).repeat(5, axis=1)
    result = np.where(generator.random(reference.shape) < 0.4, 0, np.roll(reference, 1, axis=1).clip(0))
    _, false, missed, _ = instance_counts(result, reference, thresholds=[0.5])[0]
    mistakes = count_mistakes(result, reference)
    assert (mistakes.missed, mistakes.false) == (missed, false)
    assert missed > 0
    assert false > 0
