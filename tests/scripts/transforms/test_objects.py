"""Objects from scores, on arrays to check by hand, and the challenge's field of interest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted
from skimage.filters import gaussian
from skimage.io import imread
from skimage.measure import label

from scripts.transforms.objects import InstancesFromScoresd, instances_from_scores
from tests.scripts.transforms.arrays import made


@pytest.mark.parametrize("connectivity", [1, 2])
def test_objects_are_numbered_as_scikit_image_numbers_those_of_an_integer_map(connectivity: int) -> None:
    """scikit-image labels masks by different, faster code."""
    for seed in range(5):
        scores = np.random.default_rng(seed).random((40, 50)) ** 2
        expected = label((scores > 0.3).astype(np.int32), background=0, connectivity=connectivity)
        found = instances_from_scores(scores, 0.3, connectivity=connectivity)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)


def test_above_the_threshold_is_foreground_and_equal_is_not() -> None:
    scores = np.array([[0.49, 0.5, 0.51]])
    np.testing.assert_array_equal(instances_from_scores(scores), [[0, 0, 1]])
    np.testing.assert_array_equal(instances_from_scores(scores, threshold=0.4), [[1, 1, 1]])


TOUCHING_AT_A_CORNER = made(
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
    classes = made("1.11.1", "1.11..")
    instances = instances_from_scores(classes, min_area=min_area)
    sizes = np.bincount(instances.ravel(), minlength=len(areas) + 1)[1:]
    assert sorted(sizes, reverse=True) == areas


RING = made(
    "1111111",
    "1....11",
    "1.2..1.",
    "1....11",
    "1111111",
)


def test_holes_up_to_the_limit_are_filled() -> None:
    one = made("111", "1.1", "111")
    assert instances_from_scores(one)[1, 1] == 0
    assert instances_from_scores(one, fill_holes=1)[1, 1] == 1
    two = made("1111", "1..1", "1111")
    np.testing.assert_array_equal(instances_from_scores(two, fill_holes=1), two)
    np.testing.assert_array_equal(instances_from_scores(two, fill_holes=2), np.ones_like(two))


def test_a_bay_open_to_the_rim_is_no_hole() -> None:
    bay = made("111", "1..", "111")
    np.testing.assert_array_equal(instances_from_scores(bay, fill_holes=100), bay)


def test_a_gap_in_a_corner_closes_the_hole_only_for_diagonal_connectivity() -> None:
    diamond = made(".1.", "1.1", ".1.")
    assert instances_from_scores(diamond, connectivity=1, fill_holes=9)[1, 1] == 0  # four objects, nothing enclosed
    assert instances_from_scores(diamond, connectivity=2, fill_holes=9)[1, 1] == 1


def test_another_object_in_the_hole_stays() -> None:
    instances = instances_from_scores(RING, fill_holes=100)
    assert instances.max() == 2
    assert instances[2, 2] == 2
    assert (instances == 1).sum() == RING.size - 2  # all but the inner object and the notch at the rim


@pytest.mark.parametrize("outer, inner", [(1, 2), (2, 1)])
def test_of_nested_holes_the_innermost_is_filled_by_its_own_ring(outer: int, inner: int) -> None:
    """The outer ring encloses all background inside. The inner ring encloses only a hole."""
    rings = np.zeros((9, 9), int)
    rings[:, :], rings[1:8, 1:8], rings[2:7, 2:7], rings[3:6, 3:6] = outer, 0, inner, 0
    filled = np.ones((9, 9), int)
    filled[2:7, 2:7] = 2
    np.testing.assert_array_equal(instances_from_scores(rings, fill_holes=100), filled)
    only_inner = np.where(rings == outer, 1, np.where(filled == 2, 2, 0))
    np.testing.assert_array_equal(instances_from_scores(rings, fill_holes=9), only_inner)


def test_a_cell_inside_a_cell_survives_when_the_limit_is_smaller_than_the_membrane() -> None:
    probability = (RING > 0) * 0.9
    assert instances_from_scores(probability, fill_holes=5).max() == 2


def test_different_classes_never_join() -> None:
    np.testing.assert_array_equal(instances_from_scores(made("1122", "..22")), made("1122", "..22"))


def test_empty_and_full_images() -> None:
    assert instances_from_scores(np.zeros((3, 4))).max() == 0
    np.testing.assert_array_equal(instances_from_scores(np.ones((3, 4))), np.ones((3, 4)))
    assert instances_from_scores(np.ones((1, 1), bool)).tolist() == [[1]]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(H, W\).*\(2, 3, 4\)"):
        instances_from_scores(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"connectivity must be 1 .* got 4"):
        instances_from_scores(np.zeros((3, 4)), connectivity=4)


NECK = made(  # two squares of 5 x 5, joined by a neck of one row
    "..............",
    ".11111..11111.",
    ".11111..11111.",
    ".111111111111.",
    ".11111..11111.",
    ".11111..11111.",
    "..............",
)


@pytest.mark.parametrize("split, count", [(0, 1), (1, 2), (1.9, 2), (2, 1), (5, 1)])
def test_split_cuts_where_the_neck_is_narrower_than_the_parts_by_more_than_it(split: float, count: int) -> None:
    """A square of 5 pixels is 3 pixels deep, the neck 1."""
    instances = instances_from_scores(NECK, split=split)
    assert instances.max() == count
    np.testing.assert_array_equal(instances > 0, NECK > 0)  # no pixel is lost
    if count == 2:
        np.testing.assert_array_equal(instances[:, :6], NECK[:, :6])
        np.testing.assert_array_equal(instances[:, 8:], 2 * NECK[:, 8:])


def test_a_part_that_is_split_off_can_be_too_small_and_a_clump_is_not() -> None:
    unequal = NECK.copy()
    unequal[:, 8:] = 0
    unequal[2:5, 8:11] = 1  # 3 x 3, 2 deep
    assert np.bincount(instances_from_scores(unequal, min_area=20).ravel())[1:].tolist() == [25 + 2 + 9]
    assert instances_from_scores(unequal, split=0.5, min_area=20).max() == 1
    assert instances_from_scores(unequal, split=0.5, min_area=20)[3, 9] == 0


def test_holes_are_filled_before_necks_are_looked_for() -> None:
    hollow = np.pad(np.ones((9, 9), int), 1)
    hollow[5, 5] = 0
    assert instances_from_scores(hollow, split=0.3).max() > 1  # a ring has peaks in the corners
    assert instances_from_scores(hollow, split=0.3, fill_holes=1).max() == 1


def test_split_never_joins_classes() -> None:
    classes = NECK.copy()
    classes[:, 7:] *= 2
    np.testing.assert_array_equal(instances_from_scores(classes, split=1), classes)


def test_gaps_are_given_back_after_small_objects_are_dropped() -> None:
    classes = made("1111.1111", "1111.1111", "1111.1111", ".........", ".....1...")
    np.testing.assert_array_equal(
        instances_from_scores(classes, min_area=2, gap=1),
        made("111122222", "111122222", "111122222", ".........", "........."),
    )
    assert instances_from_scores(classes, min_area=13, gap=1).max() == 0  # areas without the gap decide


FRAMED = made(  # the label of an object is the number of pixels from the edge to the object's inner end
    "2.......",
    "22......",
    ".....3..",
    "...4.333",
    "..44....",
    "........",
    "........",
    ".....11.",
)


@pytest.mark.parametrize("border", [0, 1, 2, 3])
def test_objects_wholly_within_the_border_are_dropped_and_others_are_kept_whole(border: int) -> None:
    instances = instances_from_scores(FRAMED, field_border=border)
    np.testing.assert_array_equal(instances > 0, border < FRAMED)
    assert set(np.unique(instances)) - {0} == set(range(1, 5 - border))


def test_a_gap_is_closed_before_the_border_is_looked_at() -> None:
    """Object 1 gets a pixel beyond the border of 2 from the gap to object 2."""
    row = np.zeros((7, 9), int)
    row[:, :2], row[:, 4:] = 1, 1
    assert instances_from_scores(row, field_border=2).max() == 1
    assert instances_from_scores(row, field_border=2, gap=2).max() == 2


def test_the_border_that_leaves_nothing_of_the_image_is_refused() -> None:
    for border in (4, -1):
        with pytest.raises(ValueError, match=f"leave some of the image, got {border} for 8 x 8 px"):
            instances_from_scores(FRAMED, field_border=border)


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
    out = InstancesFromScoresd(keys="pred")({"pred": made("1.1")[None]})
    assert isinstance(out["instances"], np.ndarray)
    assert out["instances"].tolist() == [[[1, 0, 2]]]


def test_classes_as_floats_are_refused_as_they_would_join() -> None:
    scores = torch.zeros(3, 2, 6)
    scores[0], scores[1, :, 1:3], scores[2, :, 3:5] = 0.1, 9, 9
    as_floats = AsDiscreted("pred", argmax=True)({"pred": MetaTensor(scores, meta={"filename_or_obj": "a.png"})})
    with pytest.raises(ValueError, match=r"^a\.png: .*0 \.\. 1, got up to 2\..*integers"):
        InstancesFromScoresd("pred")(as_floats)
    as_integers = AsDiscreted("pred", argmax=True, dtype=torch.int32)({"pred": scores})
    out = InstancesFromScoresd("pred")(as_integers)["instances"]
    np.testing.assert_array_equal(out[0], made(".1122.", ".1122."))


def test_scores_that_are_no_probabilities_are_refused_and_rounding_is_not() -> None:
    with pytest.raises(ValueError, match=r"0 \.\. 1, got up to 3\.5"):
        instances_from_scores(np.array([[3.5, -2.0]]))
    assert instances_from_scores(np.array([[1 + 1e-6]])).tolist() == [[1]]


def test_an_image_smaller_than_the_borders_is_named() -> None:
    step = InstancesFromScoresd("pred", field_border=50)
    scores, meta = torch.rand(2, 90, 120), {"filename_or_obj": "01/t000.tif"}
    known = {"pred": scores, "image": MetaTensor(torch.zeros(1), meta=meta)}
    for item in ({"pred": MetaTensor(scores, meta=meta)}, known):
        with pytest.raises(ValueError, match=r"^01/t000\.tif: field_border must .* got 50 for 90 x 120 px"):
            step(item)
    with pytest.raises(ValueError, match=r"^'pred' \(no file name known\): field_border must"):
        step({"pred": scores})


def test_the_transform_passes_every_parameter_on() -> None:
    rng = np.random.default_rng(0)
    blobs = gaussian(rng.random((80, 90)), 4)
    scores = (blobs - blobs.min()) / np.ptp(blobs)
    scores[::9, ::7] = 0  # holes
    options = {
        "threshold": 0.4,
        "min_area": 30,
        "connectivity": 2,
        "fill_holes": 3,
        "split": 1.5,
        "gap": 3,
        "field_border": 8,
    }
    expected = instances_from_scores(scores, **options)
    out = InstancesFromScoresd("pred", "found", **options)({"pred": np.stack([1 - scores, scores])})
    np.testing.assert_array_equal(out["found"][0], expected)
    for name in options:  # each of them changes something here
        rest = {key: value for key, value in options.items() if key != name}
        assert not np.array_equal(instances_from_scores(scores, **rest), expected), name


@pytest.mark.parametrize("folder, objects", [("DIC-C2DH-HeLa/01_GT", 98), ("PhC-C2DH-U373/02_GT", 110)])
def test_no_gold_object_lies_wholly_within_the_challenge_s_border(data_root: Path, folder: str, objects: int) -> None:
    """SEG loses nothing by removing these objects from a result. The border is 50 px in both data sets."""
    found = 0
    for file in sorted((data_root / folder / "SEG").glob("*.tif")):
        reference = imread(file).astype(np.int32)  # each value a class: none join
        ids = np.unique(reference[reference > 0])
        kept = np.unique(reference[50:-50, 50:-50])
        np.testing.assert_array_equal(ids, kept[kept > 0])
        left = np.unique(reference[instances_from_scores(reference, field_border=50) > 0])
        np.testing.assert_array_equal(ids, left)
        found += len(ids)
    assert found == objects
