"""Pixel sizes in micrometres, from any unit of length."""

from __future__ import annotations

import math

import pytest

from scripts.io.units import micrometres, unit_name


@pytest.mark.parametrize(
    "spacing, unit, expected",
    [
        ((4, 5), "nm", (0.004, 0.005)),
        ((0.5, 0.25), "um", (0.5, 0.25)),
        ((0.5, 0.25), "µm", (0.5, 0.25)),
        ((0.5, 0.5), "\u03bcm", (0.5, 0.5)),  # the Greek letter instead of the sign
        ((0.3, 0.2), "mm", (300, 200)),
        ((1e-4, 1e-4), "cm", (1, 1)),
        ((1e-6, 2e-6), "m", (1, 2)),
        ((1 / 25400, 2 / 25400), "in", (1, 2)),
        ((10, 20), "Å", (0.001, 0.002)),
        ((10, 20), "\\u00C5", (0.001, 0.002)),  # as ImageJ writes Å
    ],
)
def test_units_of_length_are_converted(spacing, unit, expected):
    assert micrometres(spacing, unit) == pytest.approx(expected)


@pytest.mark.parametrize(
    "spacing, unit",
    [
        (None, None),
        (None, "um"),
        ((1, 1), "pixel"),
        ((1, 1), "reference frame"),
        ((1, 1), ""),
        ((0, 1), "um"),
        ((1, -1), "um"),
        ((math.inf, 1), "um"),
        ((math.nan, 1), "um"),
        ((1 / 300, 1 / 300), "inch"),  # a print setting that ImageJ took over
        ((1 / 118, 1 / 118), "cm"),
    ],
)
def test_other_sizes_are_unknown(spacing, unit):
    assert micrometres(spacing, unit) is None


def test_capital_letters_of_short_units_matter():
    assert unit_name("Micron") == "um"
    assert unit_name("Mm") == "Mm"  # megametres
    assert micrometres((1, 1), "Mm") is None
