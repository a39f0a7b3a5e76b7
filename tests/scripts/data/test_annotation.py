"""Unannotated pixels from markers and borders: small arrays by hand, and real data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from tifffile import imread

from scripts.data.annotation import NOT_ANNOTATED, annotated_pixels, mark_border, mark_unannotated, unmasked_markers


def made(text: str) -> np.ndarray:
    """Array from a digit per pixel, "-" for -1."""
    return np.array([[-1 if c == "-" else int(c) for c in row] for row in text.split()])


def test_pixels_count_that_are_neither_negative_nor_masked_out() -> None:
    labels = made("01-2-")
    assert annotated_pixels(labels).tolist() == [[True, True, False, True, False]]
    assert annotated_pixels(labels, np.array([[0.0, 0.5, 3, 7, 0]])).tolist() == [[False, True, False, True, False]]
    with pytest.raises(ValueError, match=r"valid has the shape \(5,\), the labels \(1, 5\)"):
        annotated_pixels(labels, np.ones(5))


@pytest.mark.parametrize(
    "objects, markers, missing",
    [
        ("1110222", "0100020", []),
        ("1110000", "0100020", [2]),
        ("0000000", "0300020", [2, 3]),
        ("0000000", "0000000", []),
        ("1110000", "0044000", [4]),  # half outside
        ("1110000", "0444000", []),  # a third outside
        ("1110222", "0033300", []),  # two thirds inside, on two objects
        ("1110000", "7000000", []),  # IDs of markers and objects are independent
        ("111--00", "0100200", []),  # already marked as not annotated
        ("111-000", "0102200", [2]),
    ],
)
def test_a_cell_without_mask_has_half_of_its_marker_or_more_on_background(
    objects: str, markers: str, missing: list[int]
) -> None:
    assert unmasked_markers(made(objects), made(markers)) == missing


@pytest.mark.parametrize(
    "objects, markers, expected",
    [
        ("1110000000", "0100000020", "11100-----"),  # the middle between the markers is at 4.5
        ("1111111000", "0100000020", "1111111---"),  # objects keep their pixels
        ("0001110000000", "0000100000032", "00011100-----"),  # two cells without mask
        ("0000000", "0300000", "-------"),  # nothing annotated at all
        ("111-000000", "0100000020", "111-0-----"),  # unannotated pixels stay unannotated
        ("1110222", "0100020", "1110222"),
        ("0110000", "0000000", "0110000"),  # without markers no cell is missing
    ],
)
def test_background_whose_nearest_marker_has_no_mask_is_not_annotated(
    objects: str, markers: str, expected: str
) -> None:
    np.testing.assert_array_equal(mark_unannotated(made(objects), made(markers)), made(expected))


def test_distances_are_euclidean() -> None:
    """Compare with the distance to each marker, computed separately."""
    markers = np.zeros((40, 50), dtype=int)
    markers[5, 6], markers[30:33, 40], markers[20, 10:13], markers[8, 44] = 1, 2, 3, 4
    objects = np.zeros_like(markers)
    objects[1:10, 2:12], objects[15:25, 8:20] = 9, 3
    distances = np.stack([distance_transform_edt(markers != number) for number in (1, 2, 3, 4)])
    expected = np.where(
        (objects == 0) & (distances[[1, 3]].min(axis=0) < distances[[0, 2]].min(axis=0)), NOT_ANNOTATED, objects
    )
    tied = distances[[1, 3]].min(axis=0) == distances[[0, 2]].min(axis=0)
    np.testing.assert_array_equal(mark_unannotated(objects, markers)[~tied], expected[~tied])
    assert tied.mean() < 0.01


@pytest.mark.parametrize(
    "dtype, expected", [("int16", "int16"), ("int32", "int32"), ("uint8", "int64"), ("uint16", "int64")]
)
def test_unsigned_dtypes_become_signed(dtype: str, expected: str) -> None:
    for markers in ("0100020", "0100000"):
        objects = made("1110000").astype(dtype)
        marked = mark_unannotated(objects, made(markers).astype(np.uint16))
        assert marked.dtype == expected
        assert marked is not objects
        np.testing.assert_array_equal(objects, made("1110000"))
        assert marked.min() == (-1 if "2" in markers else 0)


def test_shapes_must_be_equal() -> None:
    for function in (unmasked_markers, mark_unannotated):
        with pytest.raises(ValueError, match=r"markers have the shape \(1, 2\), the objects \(1, 3\)"):
            function(made("110"), made("10"))


def frames(data_root: Path, name: str, sequence: str, reference: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Objects and markers by frame."""
    folder = data_root / name
    files = sorted((folder / f"{sequence}_{reference}/SEG").glob("man_seg*.tif"))
    markers = folder / f"{sequence}_GT/TRA"
    return {int(file.stem[-3:]): (imread(file), imread(markers / f"man_track{file.stem[-3:]}.tif")) for file in files}


@pytest.mark.parametrize(
    "name, sequence, reference, partly",
    [
        ("DIC-C2DH-HeLa", "01", "GT", {34: 1, 39: 1, 67: 15}),
        (
            "DIC-C2DH-HeLa",
            "01",
            "ST",
            {t: 1 + (t in (71, 72, 75)) for t in (9, 34, 35, 39, 57, 68, *range(71, 76), 80, 81)},
        ),
        ("PhC-C2DH-U373", "02", "GT", {26: 1, 51: 1, 85: 1, 106: 2}),
        ("PhC-C2DH-U373", "02", "ST", {}),
    ],
)
def test_which_real_frames_are_partly_annotated(
    data_root: Path, name: str, sequence: str, reference: str, partly: dict[int, int]
) -> None:
    """`partly`: frame -> cells without a mask. Only frames of `partly` get unannotated pixels."""
    missing, marked = {}, set()
    for frame, (objects, markers) in frames(data_root, name, sequence, reference).items():
        if unmasked := unmasked_markers(objects, markers):
            missing[frame] = len(unmasked)
        result = mark_unannotated(objects, markers)
        np.testing.assert_array_equal(result[objects > 0], objects[objects > 0])
        if (result < 0).any():
            marked.add(frame)
    assert missing == partly
    assert marked == set(partly)


def test_most_of_a_cell_without_mask_is_not_annotated(data_root: Path) -> None:
    """Remove each mask of crowded HeLa frames in turn. How much of the cell would train as background?"""
    shares = []
    for objects, markers in list(frames(data_root, "DIC-C2DH-HeLa", "01", "ST").values())[:60:20]:
        for number in np.unique(objects)[1:]:
            cell = objects == number
            marked = mark_unannotated(np.where(cell, 0, objects), markers)
            shares.append((marked[cell] < 0).mean())
    assert len(shares) > 30
    assert np.mean(shares) > 0.9
    assert min(shares) > 0.6


def test_background_in_the_border_is_not_annotated() -> None:
    objects = np.zeros((5, 6), np.int32)
    objects[1:4, 0:3] = 7  # reaches in
    objects[0, 5] = -1  # not annotated
    expected = [
        [-1, -1, -1, -1, -1, -1],
        [7, 7, 7, 0, 0, -1],
        [7, 7, 7, 0, 0, -1],
        [7, 7, 7, 0, 0, -1],
        [-1, -1, -1, -1, -1, -1],
    ]
    np.testing.assert_array_equal(mark_border(objects, 1), expected)
    np.testing.assert_array_equal(mark_border(objects, 0), objects)
    np.testing.assert_array_equal(mark_border(objects, 3), np.where(objects == 0, -1, objects))
    assert mark_border(objects.astype(np.uint16), 1).dtype == np.int64
    with pytest.raises(ValueError, match="0 px or more, got -1"):
        mark_border(objects, -1)
