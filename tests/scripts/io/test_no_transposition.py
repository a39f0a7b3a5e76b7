"""Row r, column c of an image is row r, column c of the result, in each format, read by independent libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import tifffile
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image

from scripts.data.datalist import find_images
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.io.reader import PlaneReader
from scripts.io.writer import SegmentationStore
from tests.scripts.io.made import save_dicom

ROWS, COLUMNS, PLANES = 5, 9, 3
infer = OverlapTileInferer(depth=1, padding="same", margin=2, tile_size=8)  # several tiles even here
load = Compose([LoadImaged("image", reader=PlaneReader()), EnsureChannelFirstd("image")])


def plane(dtype: type = np.uint8, page: int = 0) -> np.ndarray:
    """(5, 9) with a different value in each pixel. Flips and transpositions show."""
    return (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + 60 * page).astype(dtype)


def stack(dtype: type = np.uint8) -> np.ndarray:
    return np.stack([plane(dtype, page) for page in range(PLANES)])


def rgb(dtype: type = np.uint8) -> np.ndarray:
    return np.stack([plane(dtype), plane(dtype) + 60, plane(dtype) + 120], axis=-1).astype(dtype)


def save_nifti(path: Path, rows_first: np.ndarray) -> None:
    """(y, x) or (z, y, x) stored as NIfTI's (x, y[, z])."""
    affine = np.array([[0, 0.3, 0, 7], [0.2, 0, 0, -5], [0, 0, 2, 3], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(rows_first.T.copy(), affine), path)


def save_itk(path: Path, rows_first: np.ndarray) -> None:
    image = itk.image_from_array(rows_first)
    image.SetSpacing([0.2, 0.3, 2.0][: rows_first.ndim])
    image.SetOrigin([7.0, -5.0, 3.0][: rows_first.ndim])
    turn = np.eye(rows_first.ndim)
    turn[:2, :2] = [[0.6, -0.8], [0.8, 0.6]]
    image.SetDirection(itk.matrix_from_array(turn))
    itk.imwrite(image, str(path))


def save_pillow(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


def tiff(**options: object) -> Callable[[Path, np.ndarray], None]:
    return lambda path, array: tifffile.imwrite(path, array, **options)


CASES = {  # name: file name, writer of another library, array with rows first
    "png 8 bit": ("a.png", save_pillow, plane()),
    "png 16 bit": ("a.png", save_pillow, plane(np.uint16) * 1000),
    "png colour": ("a.png", save_pillow, rgb()),
    "bmp": ("a.bmp", save_pillow, plane()),
    "tiff 8 bit": ("a.tif", tiff(photometric="minisblack"), plane()),
    "tiff 16 bit": ("a.tif", tiff(photometric="minisblack"), plane(np.uint16) * 1000),
    "tiff 16 bit big-endian": ("a.tif", tiff(photometric="minisblack", byteorder=">"), plane(np.uint16) * 1000),
    "tiff 32 bit": ("a.tif", tiff(photometric="minisblack"), plane(np.uint32) * 100000),
    "tiff 32 bit signed": ("a.tif", tiff(photometric="minisblack"), plane(np.int32) - 20),
    "tiff float": ("a.tif", tiff(photometric="minisblack"), plane(np.float32) / 7),
    "tiff lzw": ("a.tif", tiff(photometric="minisblack", compression="lzw"), plane()),
    "tiff deflate": ("a.tif", tiff(photometric="minisblack", compression="zlib", predictor=True), plane(np.uint16)),
    "tiff tiled": ("a.tif", tiff(photometric="minisblack", tile=(16, 16)), plane()),
    "tiff big": ("a.tif", tiff(photometric="minisblack", bigtiff=True), plane()),
    "tiff colour": ("a.tif", tiff(photometric="rgb"), rgb()),
    "tiff stack": ("a.tif", tiff(photometric="minisblack"), stack()),
    "tiff stack lzw": ("a.tif", tiff(photometric="minisblack", compression="lzw"), stack(np.uint16)),
    "tiff stack without metadata": ("a.tiff", tiff(photometric="minisblack", metadata=None), stack()),
    "tiff imagej stack": ("a.tif", tiff(imagej=True, metadata={"axes": "ZYX"}), stack(np.float32)),
    "tiff ome stack": ("a.ome.tif", tiff(ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"), stack()),
    "nifti plane": ("a.nii", save_nifti, plane(np.int16)),
    "nifti volume": ("a.nii", save_nifti, stack(np.float32)),
    "nifti volume packed": ("a.nii.gz", save_nifti, stack()),
    "mha plane": ("a.mha", save_itk, plane()),
    "mha volume": ("a.mha", save_itk, stack(np.int16)),
    "mhd volume": ("a.mhd", save_itk, stack()),
    "nrrd plane": ("a.nrrd", save_itk, plane(np.uint16)),
    "nrrd volume": ("a.nrrd", save_itk, stack(np.float32)),
    "dicom": ("a.dcm", save_dicom, plane(np.uint16)),
    "dicom without ending": ("a", save_dicom, plane()),
}
RESULT = {".png": ".png", ".bmp": ".png", ".tiff": ".tif", ".dcm": ".mha", "": ".mha", ".mhd": ".mha", ".gz": ".nii.gz"}


def read_elsewhere(path: Path) -> np.ndarray:
    """Rows first, by the usual library of the format: (y, x), (z, y, x), several channels (c, y, x)."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image)
    if path.suffix == ".tif":
        return tifffile.imread(path)
    if ".nii" in path.name:
        return np.asarray(nibabel.load(path).dataobj).T
    return np.asarray(itk.array_from_image(itk.imread(str(path))))


@pytest.mark.parametrize("case", CASES)
def test_pixels_stay_where_they_are_from_loading_to_the_saved_result(case: str, tmp_path: Path):
    name, save, array = CASES[case]
    save(tmp_path / name, array)
    items = find_images(tmp_path / name)
    planes = [array] if len(items) == 1 else list(array)
    with SegmentationStore(tmp_path / "out") as store:
        for item, expected in zip(items, planes, strict=True):
            image = load(item)["image"]
            channels_first = np.moveaxis(expected, -1, 0) if expected.ndim == 3 else expected[None]
            np.testing.assert_array_equal(image.numpy(), channels_first.astype(np.float32))
            source = image.meta["filename_or_obj"]
            found = infer(image[None], torch.nn.Identity())[0, :1]  # (1, H, W): the unchanged first channel
            classes = found.long() % 256
            store.add("classes", source, classes)
            store.add("instances", source, classes + 300)
            store.add("probabilities", source, found / 1000)

    suffix = RESULT.get(Path(name).suffix, Path(name).suffix)
    classes = (array[..., 0] if "colour" in case else array).astype(np.uint8)
    found = read_elsewhere(tmp_path / "out" / "classes" / f"a{suffix}")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found.reshape(classes.shape), classes)
    other = ".tif" if suffix == ".png" else suffix
    found = read_elsewhere(tmp_path / "out" / "instances" / f"a{other}")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found.reshape(classes.shape), classes + np.uint16(300))
    found = read_elsewhere(tmp_path / "out" / "probabilities" / f"a{other}")
    assert found.dtype == np.float32
    first = array[..., 0] if "colour" in case else array
    np.testing.assert_allclose(found.reshape(classes.shape), first.astype(np.float32) / 1000, rtol=1e-6)


def test_a_jpeg_is_read_rows_first_and_answered_without_loss(tmp_path: Path):
    dark_left = np.repeat([[10] * 16 + [200] * 32], 16, axis=0).astype(np.uint8)  # 16 rows, 48 columns
    save_pillow(tmp_path / "a.jpg", dark_left)
    image = load({"image": str(tmp_path / "a.jpg")})["image"]
    assert image.shape == (1, 16, 48)
    assert image[0, :, :12].max() < 60 < 150 < image[0, :, 20:].min()
    with SegmentationStore(tmp_path) as store:
        path = store.add("classes", tmp_path / "a.jpg", dark_left // 200)
    assert path == tmp_path / "classes" / "a.png"
    np.testing.assert_array_equal(read_elsewhere(path), dark_left // 200)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd"])
def test_a_result_lies_on_its_image_in_space(name: str, tmp_path: Path):
    save_itk(tmp_path / name, stack())
    with SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        for k, array in enumerate(stack()):
            path = store.add("classes", f"{tmp_path / name}#page={k}", array)
    image, result = itk.imread(str(tmp_path / name)), itk.imread(str(path))
    for index in ([0, 0, 0], [8, 0, 0], [0, 4, 0], [3, 2, 2]):
        expected = image.TransformIndexToPhysicalPoint(index)
        assert list(result.TransformIndexToPhysicalPoint(index)) == pytest.approx(list(expected))
        assert result.GetPixel(index) == image.GetPixel(index)


def test_a_nifti_result_has_the_affine_and_the_unit_of_its_image(tmp_path: Path):
    save_nifti(tmp_path / "a.nii.gz", stack(np.float32))
    with SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        for k, array in enumerate(stack()):
            store.add("classes", f"{tmp_path / 'a.nii.gz'}#page={k}", array)
    image, result = nibabel.load(tmp_path / "a.nii.gz"), nibabel.load(tmp_path / "out" / "classes" / "a.nii.gz")
    np.testing.assert_allclose(result.affine, image.affine)
    assert result.shape == image.shape == (COLUMNS, ROWS, PLANES)
    assert result.header.get_zooms() == image.header.get_zooms()
    assert result.header.get_data_dtype() == np.uint8


def test_a_dicom_result_has_the_spacing_and_nothing_of_the_patient(tmp_path: Path):
    save_dicom(tmp_path / "a.dcm", plane(np.uint16))
    with SegmentationStore(tmp_path, kinds=["classes"]) as store:
        path = store.add("classes", tmp_path / "a.dcm", plane())
    assert list(itk.imread(str(path)).GetSpacing())[:2] == pytest.approx([0.2, 0.3])  # x, y
    assert b"Nobody" not in path.read_bytes()


def test_a_real_lzw_frame_is_read_as_pillow_reads_it(data_root: Path):
    path = data_root / "PhC-C2DH-U373" / "02" / "t000.tif"
    image = load({"image": str(path)})["image"]
    with Image.open(path) as other:
        assert image.shape == (1, other.height, other.width) == (1, 520, 696)
        np.testing.assert_array_equal(image[0].numpy(), np.asarray(other))
    assert image.meta["unit"] == "um"
    assert np.asarray(image.meta["spacing"]) == pytest.approx([0.65, 0.65], rel=1e-3)  # the organisers' pixel size
