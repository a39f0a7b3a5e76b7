"""Axes of charts: numbers are whole, distinct and inside the drawing."""

from __future__ import annotations

import re

import pytest

from scripts.reporting.charts import CHARACTER, Line, chart


def numbers(values: list[float], **options: bool) -> list[tuple[float, str]]:
    """Draw values. Returns the place and the text of each number of the vertical axis."""
    drawn = chart("a", [Line("a", list(enumerate(values)))], "epoch", "b", **options)
    assert drawn is not None
    found = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="end">(.*?)</text>', drawn.svg)
    return [(float(x), text) for x, text in found]


@pytest.mark.parametrize(
    "values",
    [[0.0, 0.0], [1e-3, 9e-4], [0.9001, 0.9003], [123456.0, 7e6], [-1e9, 2e9], [1e-12, 3e-12], [0.001, 0.00125]],
)
@pytest.mark.parametrize("options", [{}, {"log": True}, {"is_score": True}])
def test_the_numbers_of_an_axis_are_distinct_and_fit_beside_it(values: list[float], options: dict[str, bool]) -> None:
    if "is_score" in options and not 0 <= min(values) <= max(values) <= 1:
        pytest.skip("no score")
    found = numbers(values, **options)
    assert len({text for _, text in found}) == len(found) > 1 or options == {"log": True}
    assert all(x >= CHARACTER * len(text) for x, text in found)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_axis_of_a_flat_score_stays_between_0_and_1_and_shows_no_noise(value: float) -> None:
    ticks = [float(text) for _, text in numbers([value, value], is_score=True)]
    assert 0 <= min(ticks) <= value <= max(ticks) <= 1
    assert max(ticks) - min(ticks) == pytest.approx(0.1)


def test_a_flat_line_at_0_has_no_negative_axis() -> None:
    assert min(float(text) for _, text in numbers([0.0, 0.0])) == 0


def test_an_axis_from_zero_has_the_number_zero() -> None:
    assert min(float(text) for _, text in numbers([0.0123, 0.0124], from_zero=True)) == 0


def test_a_logarithmic_axis_has_several_numbers_within_a_decade() -> None:
    assert [text for _, text in numbers([0.015, 0.4], log=True)] == ["0.02", "0.05", "0.10", "0.20"]
