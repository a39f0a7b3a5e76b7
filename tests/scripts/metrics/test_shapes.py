"""The table of objects, on shapes that a reader can measure by hand."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest

from scripts.metrics.shapes import object_table

RECTANGLE = np.zeros((8, 10), int)
RECTANGLE[2:5, 3:9] = 1  # 3 rows x 6 columns


def test_table_of_a_rectangle_in_pixels() -> None:
    table = object_table(RECTANGLE, image=np.arange(80.0).reshape(8, 10))
    row = {name: column.item() for name, column in table.items()}
    assert row == pytest.approx(
        {
            "label": 1,
            "area_px": 18,
            "centroid_y_px": 3,
            "centroid_x_px": 5.5,
            "bbox_top": 2,
            "bbox_left": 3,
            "bbox_bottom": 5,
            "bbox_right": 9,
            "equivalent_diameter_px": sqrt(4 * 18 / pi),
            "perimeter_px": 14,  # through the centres of the outer pixels
            "major_axis_px": 4 * sqrt((6**2 - 1) / 12),  # four times the standard deviation of 6 equidistant points
            "minor_axis_px": 4 * sqrt((3**2 - 1) / 12),
            "eccentricity": sqrt(1 - 8 / 35),
            "mean_intensity": 35.5,  # row 3, column 5.5
        }
    )


def test_units_are_added_where_the_spacing_is_known() -> None:
    table = object_table(RECTANGLE, spacing=(0.5, 0.5), unit="µm")
    assert table["area_px"] == 18
    assert table["area_um2"] == 4.5
    assert table["centroid_x_um"] == 2.75
    assert table["perimeter_um"] == 7
    assert table["major_axis_um"] == pytest.approx(2 * sqrt(35 / 12))
    assert {n for n in object_table(RECTANGLE, spacing=(1, 1)) if n.endswith("units")} >= {"centroid_x_units"}


def test_pixels_that_are_not_square_are_measured_as_they_are() -> None:
    table = object_table(RECTANGLE, spacing=(4.0, 2.0), unit="nm")  # 12 nm x 12 nm
    assert table["area_nm2"] == 144
    assert table["centroid_y_nm"] == 12
    assert table["centroid_x_nm"] == 11
    assert table["equivalent_diameter_nm"] == pytest.approx(sqrt(4 * 144 / pi))
    assert "perimeter_nm" not in table
    assert "perimeter_px" in table


def test_no_object_gives_the_same_columns_without_rows() -> None:
    image = np.zeros((8, 10))
    empty = object_table(np.zeros((8, 10), int), image, (0.5, 0.5), "um")
    assert list(empty) == list(object_table(RECTANGLE, image, (0.5, 0.5), "um"))
    assert {len(column) for column in empty.values()} == {0}


def test_channels_have_a_column_each() -> None:
    table = object_table(RECTANGLE, np.stack([np.full((8, 10), v) for v in (1.0, 2.0, 3.0)]))
    assert [table[f"mean_intensity_{c}"].item() for c in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("spacing", [(0, 1), (1, -1)])
def test_impossible_spacing_is_refused(spacing: tuple) -> None:
    with pytest.raises(ValueError, match="two positive numbers"):
        object_table(RECTANGLE, spacing=spacing)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image has the shape \(3, 3\), the instances \(8, 10\)"):
        object_table(RECTANGLE, np.zeros((3, 3)))
