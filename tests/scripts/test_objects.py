"""From scores to objects and their table, on arrays that a reader can check by hand."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.objects import InstancesFromScoresd, instances_from_scores, object_table


def _array(*rows: str) -> np.ndarray:
    return np.array([[int(c) for c in row.replace(".", "0")] for row in rows])


def test_above_the_threshold_is_foreground_and_equal_is_not() -> None:
    scores = np.array([[0.49, 0.5, 0.51]])
    np.testing.assert_array_equal(instances_from_scores(scores), [[0, 0, 1]])
    np.testing.assert_array_equal(instances_from_scores(scores, threshold=0.4), [[1, 1, 1]])


TOUCHING_AT_A_CORNER = _array(
    "11..",
    "11..",
    "..11",
)


@pytest.mark.parametrize("connectivity, count", [(1, 2), (2, 1)])
def test_connectivity_decides_whether_corners_join(connectivity: int, count: int) -> None:
    instances = instances_from_scores(TOUCHING_AT_A_CORNER, connectivity=connectivity)
    assert instances.max() == count
    assert instances.dtype == np.int32
    np.testing.assert_array_equal(instances > 0, TOUCHING_AT_A_CORNER > 0)


@pytest.mark.parametrize("min_area, areas", [(0, [4, 2, 1]), (1, [4, 2, 1]), (2, [4, 2]), (3, [4]), (5, [])])
def test_objects_below_the_smallest_area_are_dropped_and_numbers_stay_consecutive(min_area: int, areas: list) -> None:
    classes = _array("1.11.1", "1.11..")
    instances = instances_from_scores(classes, min_area=min_area)
    sizes = np.bincount(instances.ravel(), minlength=len(areas) + 1)[1:]
    assert sorted(sizes, reverse=True) == areas


RING = _array(
    "1111111",
    "1....11",
    "1.2..1.",
    "1....11",
    "1111111",
)


def test_holes_up_to_the_limit_are_filled() -> None:
    one = _array("111", "1.1", "111")
    assert instances_from_scores(one)[1, 1] == 0
    assert instances_from_scores(one, fill_holes=1)[1, 1] == 1
    two = _array("1111", "1..1", "1111")
    np.testing.assert_array_equal(instances_from_scores(two, fill_holes=1), two)
    np.testing.assert_array_equal(instances_from_scores(two, fill_holes=2), np.ones_like(two))


def test_a_bay_open_to_the_rim_is_no_hole() -> None:
    bay = _array("111", "1..", "111")
    np.testing.assert_array_equal(instances_from_scores(bay, fill_holes=100), bay)


def test_a_gap_in_a_corner_closes_the_hole_only_for_diagonal_connectivity() -> None:
    diamond = _array(".1.", "1.1", ".1.")
    assert instances_from_scores(diamond, connectivity=1, fill_holes=9)[1, 1] == 0  # four objects, nothing enclosed
    assert instances_from_scores(diamond, connectivity=2, fill_holes=9)[1, 1] == 1


def test_another_object_in_the_hole_stays() -> None:
    instances = instances_from_scores(RING, fill_holes=100)
    assert instances.max() == 2
    assert instances[2, 2] == 2
    assert (instances == 1).sum() == RING.size - 2  # all but the inner object and the notch at the rim


def test_a_cell_inside_a_cell_survives_when_the_limit_is_smaller_than_the_membrane() -> None:
    probability = (RING > 0) * 0.9
    assert instances_from_scores(probability, fill_holes=5).max() == 2


def test_different_classes_never_join() -> None:
    np.testing.assert_array_equal(instances_from_scores(_array("1122", "..22")), _array("1122", "..22"))


def test_empty_and_full_images() -> None:
    assert instances_from_scores(np.zeros((3, 4))).max() == 0
    np.testing.assert_array_equal(instances_from_scores(np.ones((3, 4))), np.ones((3, 4)))
    assert instances_from_scores(np.ones((1, 1), bool)).tolist() == [[1]]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"one plane \(H, W\), got the shape \(2, 3, 4\)"):
        instances_from_scores(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"connectivity must be 1 .* got 4"):
        instances_from_scores(np.zeros((3, 4)), connectivity=4)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_transform_takes_the_channel_and_keeps_the_meta_data(dtype: torch.dtype) -> None:
    cell = torch.zeros(5, 6)
    cell[1:3, 1:3] = cell[4, 5] = 1
    prob = MetaTensor(torch.stack([1 - cell, cell]).to(dtype), meta={"filename_or_obj": "a.png"})
    out = InstancesFromScoresd(min_area=2)({"prob": prob, "other": 1})
    assert out["instances"].shape == (1, 5, 6)
    assert out["instances"].dtype == torch.int32
    assert out["instances"].meta["filename_or_obj"] == "a.png"
    np.testing.assert_array_equal(out["instances"][0].numpy(), instances_from_scores(cell.numpy(), min_area=2))
    assert out["other"] == 1


def test_the_transform_takes_a_class_map_and_arrays() -> None:
    out = InstancesFromScoresd(keys="pred")({"pred": _array("1.1")[None]})
    assert isinstance(out["instances"], np.ndarray)
    assert out["instances"].tolist() == [[[1, 0, 2]]]
