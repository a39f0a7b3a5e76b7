"""NIfTI: channels, planes along z, pixel size."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from scripts.io.reader import read_header
from tests.scripts.io.made import numbered, read


def test_nifti_colour_and_fourth_axis_are_channels(tmp_path: Path):
    colour = np.zeros((7, 5, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])  # x, y, z
    colour["G"] = np.arange(70).reshape(7, 5, 2)
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii")
    assert read(f"{tmp_path}/rgb.nii#page=1").shape == (5, 7, 3)
    np.testing.assert_array_equal(read(f"{tmp_path}/rgb.nii#page=1")[..., 1], colour["G"][..., 1].T)

    four = numbered(7, 5, 2, 3, dtype=np.int16)  # x, y, z, c
    nibabel.save(nibabel.Nifti1Image(four, np.eye(4)), tmp_path / "four.nii")
    assert read_header(tmp_path / "four.nii").planes == 2
    np.testing.assert_array_equal(read(f"{tmp_path}/four.nii#page=1"), four[:, :, 1].transpose(1, 0, 2))


def test_pixel_size_and_unit_are_read(tmp_path: Path):
    image = nibabel.Nifti1Image(numbered(7, 5, 2), np.diag([0.2, 0.3, 2, 1]))  # x, y, z
    nibabel.save(image, tmp_path / "a.nii")
    header = read_header(tmp_path / "a.nii")
    assert (header.spacing, header.plane_distance, header.unit) == (pytest.approx((0.3, 0.2)), 2.0, "mm")
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "b.nii")
    assert read_header(tmp_path / "b.nii").unit == "um"
    nibabel.save(nibabel.Nifti1Image(numbered(7, 5), np.eye(4)), tmp_path / "c.nii")
    assert read_header(tmp_path / "c.nii").unit == "pixel"
