"""The table of objects: by hand, and equal to scikit-image's `regionprops_table`."""

from __future__ import annotations

from functools import cache
from math import pi, sqrt

import numpy as np
import pytest
from skimage.measure import label, regionprops_table

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


def test_units_are_added_if_the_spacing_is_known() -> None:
    table = object_table(RECTANGLE, spacing=(0.5, 0.5), unit="µm")
    assert table["area_px"] == 18
    assert table["area_um2"] == 4.5
    assert table["centroid_x_um"] == 2.75
    assert table["perimeter_um"] == 7
    assert table["major_axis_um"] == pytest.approx(2 * sqrt(35 / 12))
    assert {n for n in object_table(RECTANGLE, spacing=(1, 1)) if n.endswith("units")} >= {"centroid_x_units"}


def test_pixels_that_are_not_square_count_with_their_height_and_width() -> None:
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


def test_an_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\).*\(8, 10\)"):
        object_table(RECTANGLE, np.zeros((3, 3)))


def scattered(seed: int, size: tuple[int, int], share: float) -> np.ndarray:
    """Give connected objects of every shape, from single pixels to a net over the whole image."""
    return label(np.random.default_rng(seed).random(size) < share, connectivity=1).astype(np.int32)


def lines() -> np.ndarray:
    """Measure objects without an extent along an axis. Most numbers are missing."""
    image = np.zeros((20, 20), np.int32)
    image[range(8), range(8)] = 3
    image[10, 3:9], image[12:19, 2], image[15, 15] = 5, 6, 900
    return image


IMAGES = {
    "dots": scattered(0, (80, 90), 0.1),
    "blobs": scattered(1, (90, 80), 0.5),
    "a net with islands in its holes": scattered(2, (70, 70), 0.7),
    "many pixels": scattered(3, (300, 300), 0.6),
    "objects in many pieces that touch": np.random.default_rng(4).integers(0, 40, (60, 50)),
    "one object everywhere": np.ones((7, 9), np.uint16),
    "lines": lines(),
    "nothing": np.zeros((5, 6), np.int32),
}
COLUMNS = {  # column -> name in scikit-image
    "area_{}": "area",
    "centroid_y_{}": "centroid-0",
    "centroid_x_{}": "centroid-1",
    "equivalent_diameter_{}": "equivalent_diameter_area",
    "perimeter_{}": "perimeter",
    "major_axis_{}": "axis_major_length",
    "minor_axis_{}": "axis_minor_length",
}
IN_PIXELS = {"label": "label", "eccentricity": "eccentricity"} | {
    f"bbox_{side}": f"bbox-{k}" for k, side in enumerate(("top", "left", "bottom", "right"))
}


@cache
def by_scikit_image(name: str, spacing: tuple[float, float]) -> dict[str, np.ndarray]:
    """Measure an image by scikit-image, without the perimeter for pixels that are not square."""
    names = {column.split("-")[0] for column in (*COLUMNS.values(), *IN_PIXELS.values())}
    square = spacing[0] == spacing[1]
    return regionprops_table(IMAGES[name], properties=names if square else names - {"perimeter"}, spacing=spacing)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.25, 0.25), (4.0, 1.5)], ids=str)
@pytest.mark.parametrize("name", IMAGES)
def test_every_column_is_that_of_scikit_image(name: str, spacing: tuple[float, float]) -> None:
    in_pixels, in_units = by_scikit_image(name, (1.0, 1.0)), by_scikit_image(name, spacing)
    expected = {column: in_pixels[theirs] for column, theirs in IN_PIXELS.items()}
    expected |= {column.format("px"): in_pixels[theirs] for column, theirs in COLUMNS.items()}
    expected |= {
        c.format("um").replace("area_um", "area_um2"): in_units[t] for c, t in COLUMNS.items() if t in in_units
    }

    table = object_table(IMAGES[name], spacing=spacing, unit="um")

    assert table.keys() == expected.keys()
    for column, values in table.items():
        assert values.dtype == expected[column].dtype, column
        np.testing.assert_allclose(values, expected[column], rtol=1e-9, atol=1e-6, err_msg=column)


def test_the_label_image_is_not_changed() -> None:
    image = lines()
    object_table(image)
    np.testing.assert_array_equal(image, lines())


def test_empty_images_and_foreign_byte_orders_are_measured() -> None:
    assert len(object_table(np.zeros((0, 5), np.int32))["label"]) == 0
    assert object_table(np.array([[0, 7, 7]], ">u2"))["area_px"] == 2
