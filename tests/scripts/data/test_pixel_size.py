"""Pixel sizes from headers of all formats, and the description of a training."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
import pytest
import tifffile

from scripts.data.datalist import find_images, find_pairs
from scripts.data.pixel_size import describe_training, pixel_size_of
from tests.scripts.io.made import image, write_any


def imagej(path: Path, height: float, width: float | None = None, unit: str = "nm", **more: Any) -> Path:
    """Write a TIFF with a pixel size as ImageJ does. TIFF gives pixels per length, columns first."""
    resolution = (1 / (width or height), 1 / height)
    return image(path, imagej=True, resolution=resolution, metadata={"unit": unit}, **more)


def items(*paths: Path) -> list[dict[str, Any]]:
    return [{"image": str(path)} for path in paths]


def nifti(path: Path, zoom: float, unit: str) -> None:
    volume = nibabel.Nifti1Image(np.zeros((7, 5, 2), np.uint8), np.diag([zoom, zoom, 1, 1]))
    volume.header.set_xyzt_units(unit)
    nibabel.save(volume, path)


def through_itk(path: Path, spacing: float) -> None:
    volume = itk.image_from_array(np.zeros((5, 7), np.uint8))
    volume.SetSpacing([spacing, spacing])
    itk.imwrite(volume, str(path))


WRITERS = {
    "imagej.tif": lambda path: imagej(path, 650),
    "ome.ome.tif": lambda path: image(
        path, ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65}
    ),
    "tags.tif": lambda path: image(path, resolution=(1e4 / 0.65, 1e4 / 0.65), resolutionunit="CENTIMETER"),
    "mm.nii.gz": lambda path: nifti(path, 0.65e-3, "mm"),
    "micron.nii": lambda path: nifti(path, 0.65, "micron"),
    "itk.mha": lambda path: through_itk(path, 0.65e-3),
    "itk.nrrd": lambda path: through_itk(path, 0.65e-3),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_with_a_pixel_size_gives_micrometres(name: str, tmp_path: Path):
    WRITERS[name](tmp_path / name)
    assert pixel_size_of(find_images(tmp_path)) == pytest.approx(0.65, rel=1e-5)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.nii", "a.mha", "a.nrrd"])
def test_files_without_a_pixel_size_give_none(name: str, tmp_path: Path):
    write_any(tmp_path / name)
    assert pixel_size_of(find_images(tmp_path)) is None


def test_one_image_of_unknown_size_makes_the_size_of_all_unknown(tmp_path: Path):
    known = imagej(tmp_path / "a.tif", 4)
    assert pixel_size_of(items(known, known)) == 0.004
    assert pixel_size_of(items(known, image(tmp_path / "b.tif"))) is None
    assert pixel_size_of(items(known, tmp_path / "missing.tif")) is None
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    assert pixel_size_of(items(known, tmp_path / "broken.tif")) is None
    assert pixel_size_of([]) is None


def test_sizes_within_two_percent_are_equal_and_their_median_is_given(tmp_path: Path):
    paths = [imagej(tmp_path / f"{length}.tif", length) for length in (4.0, 4.01, 4.07)]
    assert pixel_size_of(items(*paths)) == pytest.approx(0.00401)
    assert pixel_size_of(items(*paths, imagej(tmp_path / "c.tif", 4.09))) is None


def test_pixels_that_are_not_square_have_no_single_size(tmp_path: Path):
    assert pixel_size_of(items(imagej(tmp_path / "a.tif", height=4, width=5))) is None
    assert pixel_size_of(items(imagej(tmp_path / "b.tif", height=4, width=4.05))) == pytest.approx(0.004025)


def test_channels_in_several_files_all_count(tmp_path: Path):
    red, green = imagej(tmp_path / "r.tif", 4), imagej(tmp_path / "g.tif", 8)
    assert pixel_size_of([{"image": [str(red), str(red)]}]) == 0.004
    assert pixel_size_of([{"image": [str(red), str(green)]}]) is None


def test_a_stack_is_opened_once_and_wrong_axes_can_be_corrected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stack = np.zeros((3, 5, 7), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(250, 250), metadata={"unit": "um", "axes": "ZYX"}
    )
    listed = find_images(tmp_path)
    opened: list[object] = []

    class Counted(tifffile.TiffFile):
        def __init__(self, file: object, **options: Any) -> None:
            opened.append(file)
            super().__init__(file, **options)

    monkeypatch.setattr(tifffile, "TiffFile", Counted)
    assert len(listed) == 3
    assert pixel_size_of(listed) == 0.004
    assert opened == [tmp_path / "a.tif"]
    assert pixel_size_of(find_images(tmp_path, "CYX"), tiff_axes="CYX") == 0.004
    assert pixel_size_of(items(tmp_path / "a.tif"), tiff_axes="CX") is None  # axes that do not describe the file


def test_a_training_is_described_by_its_folder_images_and_pixel_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "isbi2012"
    for kind in ("images", "labels"):
        (folder / "train" / kind).mkdir(parents=True)
        for name in ("0.tif", "1.tif"):
            imagej(folder / "train" / kind / name, 4)
    pairs = find_pairs(folder)
    expected = {"dataset": "isbi2012", "images": 2, "pixel_size": 0.004}
    assert describe_training(folder, pairs) == expected
    assert describe_training(f"{folder}/", pairs) == expected
    monkeypatch.chdir(folder)
    assert describe_training(".", pairs) == expected
    assert describe_training("train/..", pairs) == expected
    assert describe_training("train", pairs, pixel_size=1)["pixel_size"] == 1.0
    os.symlink(folder, tmp_path / "link")
    assert describe_training(tmp_path / "link", pairs)["dataset"] == "link"


@pytest.mark.parametrize(
    "name, dataset",
    [("dataset.json", "cells"), ("fold_0.json", "fold_0"), ("train-volume.tif", "train-volume"), ("gone", "gone")],
)
def test_a_list_or_a_stack_gives_its_name_to_the_data_set(name: str, dataset: str, tmp_path: Path):
    (tmp_path / "cells").mkdir()
    if name != "gone":
        (tmp_path / "cells" / name).write_text("{}")
    assert describe_training(tmp_path / "cells" / name, [{"image": "a.png"}]) == {
        "dataset": dataset,
        "images": 1,
        "pixel_size": None,
    }


@pytest.mark.parametrize("wrong", [0, -1, math.inf, math.nan, True, "4 nm"])
def test_a_given_size_that_is_no_length_is_refused(wrong: Any):
    with pytest.raises(ValueError, match=r"pixel_size.*micrometres"):
        describe_training("data", [], pixel_size=wrong)
