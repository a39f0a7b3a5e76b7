"""Polygons around objects, and back."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.datasets.synthetic_em import synthetic_section
from scripts.plot.overlays import fill, outlines


def area(polygon: list[list[float]]) -> float:
    """Of a polygon, by the shoelace formula."""
    x, y = np.array(polygon).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def test_an_outline_runs_along_the_edges_of_the_pixels():
    instances = np.zeros((10, 12), np.int32)
    instances[3:6, 7:12] = 4  # rows 3 to 5, columns 7 to 11, which is the last
    instances[4, 9] = 0  # a hole
    (polygon,) = outlines(instances)
    assert np.min(polygon, axis=0).tolist() == [7, 3]
    assert np.max(polygon, axis=0).tolist() == [12, 6]
    assert area(polygon) == pytest.approx(15, abs=0.5)  # the hole is filled, each corner lacks an eighth of a pixel


def test_small_objects_get_no_outline():
    instances = np.zeros((8, 8), np.int32)
    instances[0, 0], instances[3:6, 3:6] = 1, 2
    assert len(outlines(instances)) == 2
    assert len(outlines(instances, min_area=5)) == 1


def test_polygons_filled_are_the_objects_again():
    _, cells = synthetic_section(np.random.default_rng(0), (96, 80))
    numbers = np.unique(cells)[1:]
    polygons = outlines(cells)
    assert len(polygons) == len(numbers)
    assert np.array_equal(fill(zip(numbers.tolist(), polygons, strict=True), cells.shape), cells)


def test_what_a_polygon_covers_is_counted_by_centres_and_cut_at_the_edge():
    triangle = [[0, 0], [3.9, 0], [0, 3.9]]
    assert fill([(7, triangle)], (3, 4)).tolist() == [[7, 7, 7, 0], [7, 7, 0, 0], [7, 0, 0, 0]]
    assert fill([], (2, 2)).tolist() == [[0, 0], [0, 0]]


def test_later_polygons_cover_earlier_ones():
    square = [[0, 0], [2, 0], [2, 2], [0, 2]]
    assert fill([(1, square), (2, [[1, 0], [2, 0], [2, 2], [1, 2]])], (2, 2)).tolist() == [[1, 2], [1, 2]]
