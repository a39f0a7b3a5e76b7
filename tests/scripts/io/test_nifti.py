"""NIfTI: channels, planes along z, pixel size."""

from __future__ import annotations

from pathlib import Path

import itk
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


def test_the_place_in_space_is_the_one_itk_reads(tmp_path: Path):
    turned = np.array([[0.0, -0.4, 0.6, 3], [0.5, 0.3, 0.1, -4], [0.2, 0.7, -0.9, 5], [0, 0, 0, 1]])
    orthogonal = np.linalg.qr(turned[:3, :3])[0] * [0.2, 0.3, 2.0]
    nibabel.save(
        nibabel.Nifti1Image(numbered(7, 5, 2), np.vstack([np.c_[orthogonal, [3, -4, 5]], [0, 0, 0, 1]])),
        tmp_path / "a.nii",
    )
    volume = itk.imread(str(tmp_path / "a.nii"))
    itk.imwrite(volume, str(tmp_path / "a.mha"))
    itk.imwrite(volume, str(tmp_path / "a.nrrd"))
    point = list(volume.TransformIndexToPhysicalPoint([6, 3, 1]))  # x, y, z
    for name in ("a.nii", "a.mha", "a.nrrd"):
        np.testing.assert_allclose((read_header(tmp_path / name).world @ (3, 6, 1, 1))[:3], point, atol=1e-5)


def test_without_a_stated_place_there_is_none(tmp_path: Path):
    image = nibabel.Nifti1Image(numbered(7, 5, 2), None)
    image.header.set_sform(None, 0)
    image.header.set_qform(None, 0)
    nibabel.save(image, tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").world is None
    image.header.set_xyzt_units("micron")
    image.set_sform(np.diag([2.0, 3.0, 4.0, 1.0]), 1)
    nibabel.save(image, tmp_path / "c.nii")
    np.testing.assert_allclose(read_header(tmp_path / "c.nii").world @ (1, 0, 0, 0), (0, -3e-3, 0, 0), atol=1e-9)
