"""MHA and NRRD: channels, dtypes, pixel size."""

from __future__ import annotations

from pathlib import Path

import itk
import numpy as np
import pytest

from scripts.io.reader import read_header
from tests.scripts.io.made import numbered, read


def test_itk_colour_is_channels_and_whole_numbers_of_any_width_are_read(tmp_path: Path):
    colour = numbered(5, 7, 3)
    itk.imwrite(itk.image_from_array(colour, is_vector=True), str(tmp_path / "a.mha"))
    assert read_header(tmp_path / "a.mha").channels == 3
    np.testing.assert_array_equal(read(tmp_path / "a.mha"), colour)
    for name, dtype in (("int8", np.int8), ("int64", np.int64), ("uint64", np.uint64)):
        pixels = numbered(5, 7, dtype=dtype)
        head = f"NRRD0004\ntype: {name}\ndimension: 2\nsizes: 7 5\nendian: little\nencoding: raw\n\n"
        (tmp_path / "a.nrrd").write_bytes(head.encode() + pixels.tobytes())
        np.testing.assert_array_equal(read(tmp_path / "a.nrrd"), pixels)


def test_a_spacing_of_exactly_one_means_that_the_pixel_size_is_unknown(tmp_path: Path):
    volume = itk.image_from_array(numbered(2, 5, 7))
    itk.imwrite(volume, str(tmp_path / "a.nrrd"))
    assert read_header(tmp_path / "a.nrrd").unit == "pixel"
    volume.SetSpacing([0.2, 0.3, 2.0])
    itk.imwrite(volume, str(tmp_path / "a.nrrd"))
    header = read_header(tmp_path / "a.nrrd")
    assert (header.spacing, header.plane_distance, header.unit) == (pytest.approx((0.3, 0.2)), 2.0, "mm")
