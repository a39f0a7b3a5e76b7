"""The score is 0 for certain objects, rises with lost, merged and blurred objects, and works for any threshold."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.metrics.stability import object_instability as score


def squares(chances: list[float], background: float = 0.0, between: float | None = None) -> np.ndarray:
    """Draw a row of squares of 8 x 8 pixels with these probabilities, 4 pixels apart. `between` fills a bridge."""
    image = np.full((16, 12 * len(chances) + 4), background, np.float32)
    for k, chance in enumerate(chances):
        image[4:12, 12 * k + 4 : 12 * k + 12] = chance
    if between is not None:
        image[7:9, 12:16] = between
    return image


@pytest.mark.parametrize("image", [squares([]), squares([1, 1, 1]), squares([0.9, 0.1], 0.05), np.zeros((1, 1))])
def test_certain_images_have_the_score_0(image):
    assert score(image) == 0


def test_lost_objects_count_as_one_minus_f1_with_a_certain_object_more():
    assert score(squares([1, 1, 0.6])) == pytest.approx(1 - 6 / 7)  # 2 of 3 stay, at all thresholds of IoU
    assert score(squares([1, 1, 1, 1, 1, 0.6])) < score(squares([1, 1, 0.6])) < score(squares([1, 0.6, 0.6]))


def test_an_uncertain_bridge_between_objects_counts():
    assert score(squares([1, 1], between=0.5)) > score(squares([1, 1], between=0.1)) == 0


def test_blurred_outlines_count_less_than_lost_objects():
    blurred = squares([1, 1])
    blurred[3] = blurred[4] / 2  # a row of pixels of 0.5 at one side of each object
    assert 0 < score(blurred) < score(squares([1, 0.5]))


def test_images_of_any_size_are_comparable():
    few, many = squares([1, 0.6]), squares([1, 0.6] * 50)
    assert abs(score(few) - score(many)) < 0.2
    assert score(np.pad(few, 200)) == score(few)  # empty surroundings change nothing


@pytest.mark.parametrize("threshold", [0.02, 0.3, 0.97])
def test_the_score_follows_the_threshold_of_the_objects(threshold):
    assert score(squares([0.0, 1.0]), threshold) == 0
    assert score(squares([threshold, 1.0]), threshold) > 0


def test_options_reach_the_objects():
    assert score(squares([0.6]), min_area=100) == 0  # both are too small
