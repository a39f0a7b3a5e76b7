"""Planes through MONAI's LoadImaged; names and errors of files of any format."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import tifffile
from monai.bundle import ConfigParser
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged
from PIL import Image

from scripts.io.image_file import ImageFileError
from scripts.io.reader import PlaneReader, plane_size, read_header
from tests.scripts.io.made import numbered, read, write_any


@pytest.mark.parametrize("reader", [PlaneReader(), PlaneReader, "scripts.io.PlaneReader"], ids=["one", "class", "name"])
def test_load_image_takes_the_reader_in_each_of_its_ways(reader: object, tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", numbered(4, 5, 7), photometric="minisblack")
    load = Compose([LoadImaged("image", reader=reader), EnsureChannelFirstd("image")])
    image = load({"image": f"{tmp_path}/a.tif#page=2"})["image"]
    assert image.shape == (1, 5, 7)
    np.testing.assert_array_equal(image[0].numpy(), numbered(4, 5, 7)[2])
    assert image.meta["filename_or_obj"] == f"{tmp_path}/a.tif#page=2"


def test_a_configuration_can_name_the_reader(tmp_path: Path):
    Image.fromarray(numbered(5, 7)).save(tmp_path / "a.png")
    parser = ConfigParser(
        {"load": {"_target_": "LoadImaged", "keys": "image", "reader": {"_target_": "scripts.io.PlaneReader"}}}
    )
    assert parser.get_parsed_content("load")({"image": str(tmp_path / "a.png")})["image"].shape == (5, 7)


def test_after_a_failure_no_reader_of_monai_is_tried(tmp_path: Path):
    """LoadImage would else try MONAI's own readers. They give the first page of a stack, transposed."""
    tifffile.imwrite(tmp_path / "a.tif", numbered(4, 5, 7), photometric="minisblack")
    with pytest.raises(ValueError, match="holds 4 planes"):
        LoadImage(reader=PlaneReader())(tmp_path / "a.tif")


def test_several_files_are_the_channels_of_one_image(tmp_path: Path):
    for k in range(3):
        Image.fromarray(numbered(5, 7) + np.uint8(k)).save(tmp_path / f"{k}.png")
    load = Compose([LoadImaged("image", reader=PlaneReader()), EnsureChannelFirstd("image")])
    image = load({"image": [str(tmp_path / f"{k}.png") for k in range(3)]})["image"]
    np.testing.assert_array_equal(image.numpy(), numbered(5, 7) + np.arange(3)[:, None, None])


def test_one_reader_serves_many_threads_and_travels_to_workers(tmp_path: Path):
    for name in ("a", "b"):
        itk.imwrite(itk.image_from_array(numbered(4, 5, 7) + np.uint8(ord(name))), str(tmp_path / f"{name}.nrrd"))
    reader = pickle.loads(pickle.dumps(PlaneReader()))
    names = [f"{tmp_path}/{name}.nrrd#page={k}" for k in range(4) for name in "ab"] * 5
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: reader.get_data(reader.read(name))[0], names))
    for name, array in zip(names, found, strict=True):
        np.testing.assert_array_equal(array, numbered(4, 5, 7)[int(name[-1])] + np.uint8(ord(name[-13])), err_msg=name)


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path):
    reader, path = PlaneReader(), tmp_path / "a.mha"
    for value in (1, 200):
        itk.imwrite(itk.image_from_array(np.full((5, 7 + value), value, np.uint8)), str(path))
        assert (reader.get_data(reader.read(path))[0] == np.full((5, 7 + value), value)).all()


def test_the_metadata_carry_the_size_of_a_pixel(tmp_path: Path):
    nibabel.save(nibabel.Nifti1Image(numbered(7, 5, 2), np.diag([0.2, 0.3, 2, 1])), tmp_path / "a.nii")
    image = LoadImage(reader=PlaneReader())(f"{tmp_path}/a.nii#page=1")
    assert np.asarray(image.meta["spacing"]) == pytest.approx([0.3, 0.2])
    assert image.meta["unit"] == "mm"
    assert np.asarray(image.affine) == pytest.approx(np.diag([0.3, 0.2, 2.0, 1.0]))
    assert tuple(image.meta["spatial_shape"]) == plane_size(tmp_path / "a.nii") == (5, 7)


NAMES = ["a b.png", "ü#1.png", "A.PNG", "A.TIF", "A.NII", "A.NII.GZ", "A.MHA", "A.NRRD", "z ü#1.mha", "z ü#1.nrrd"]


@pytest.mark.parametrize("name", NAMES)
def test_spaces_accents_hashes_and_capitals_in_names_do_not_matter(name: str, tmp_path: Path):
    suffix = "".join(Path(name).suffixes[-2:]).lower() if "GZ" in name else Path(name).suffix.lower()
    write_any(tmp_path / f"plain{suffix}")
    expected = read(tmp_path / f"plain{suffix}")
    (tmp_path / f"plain{suffix}").rename(tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinite_pixels_are_refused(value: float, dtype: type, tmp_path: Path):
    array = numbered(2, 5, 7, dtype=dtype)
    array[1, 2, 3] = value
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    np.testing.assert_array_equal(read(f"{tmp_path}/a.tif#page=0"), array[0])
    with pytest.raises(ImageFileError, match=r"a\.tif#page=1 holds 1 pixels that are NaN or infinite.*: replace them"):
        read(f"{tmp_path}/a.tif#page=1")


def test_complex_pixels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 4), np.complex64))
    with pytest.raises(ImageFileError, match=r"a\.tif.*complex64"):
        read(tmp_path / "a.tif")


def test_errors_name_the_file_and_the_remedy(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", numbered(4, 5, 7), photometric="minisblack")
    with pytest.raises(
        ValueError, match=r"a\.tif holds 4 planes.* 'a\.tif#page=0' to 'a\.tif#page=3', or let .*find_images"
    ):
        read(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif has 4 planes, counted from 0; got page 4"):
        read(f"{tmp_path}/a.tif#page=4")
    with pytest.raises(FileNotFoundError, match=r"b\.tif does not exist"):
        read(tmp_path / "b.tif")
    (tmp_path / "c.xyz").write_text("no image")
    with pytest.raises(ImageFileError, match=r"c\.xyz is of no known image format; expected \.png"):
        read(tmp_path / "c.xyz")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.nii", "a.nii.gz", "a.mha", "a.nrrd", "a.dcm"])
def test_errors_name_a_file_without_an_image(name: str, tmp_path: Path):
    for content in (b"", b"this is not an image " * 20):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageFileError, match=name):
            read_header(tmp_path / name)
        with pytest.raises(ImageFileError, match=name):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.bmp", "a.tif", "lzw.tif", "a.nii", "a.nii.gz", "a.mha", "a.nrrd"]
)
def test_a_file_cut_short_is_an_error_and_not_an_image(name: str, tmp_path: Path):
    write_any(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ImageFileError, match=name):
        read(tmp_path / name)
