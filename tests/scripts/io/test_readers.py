"""Addresses, headers, channels against planes, reading one plane alone, the size of a pixel, and what errors say."""

from __future__ import annotations

import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import itk
import nibabel
import numpy as np
import pytest
import tifffile
from monai.bundle import ConfigParser
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged
from PIL import Image

from scripts.io.image_file import ImageFileError
from scripts.io.names import image_name, image_suffix, plane_address, split_address
from scripts.io.reader import PlaneReader, count_planes, plane_size, read_header


def numbered(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def read(address: object, **options: str) -> np.ndarray:
    reader = PlaneReader(**options)
    return reader.get_data(reader.read(str(address)))[0]


# ---------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    "address, path, page",
    [
        ("a.tif", "a.tif", None),
        ("a.tif#page=0", "a.tif", 0),
        ("a/b c#2.tif#page=12", "a/b c#2.tif", 12),
        ("a#page=x.tif", "a#page=x.tif", None),
    ],
)
def test_an_address_is_a_path_and_perhaps_a_page(address: str, path: str, page: int | None):
    assert split_address(address) == (Path(path), page)
    if page is not None:
        assert plane_address(path, page) == address


@pytest.mark.parametrize(
    "address, name, suffix",
    [
        ("d/a.png", "a", ".png"),
        ("d/a.b.PNG", "a.b", ".png"),
        ("d/a.nii.gz#page=3", "a", ".nii.gz"),
        ("d/a.ome.tif", "a", ".ome.tif"),
        ("d/notes.txt", "notes.txt", ""),
    ],
)
def test_results_are_named_by_the_file_without_its_ending(address: str, name: str, suffix: str):
    assert image_name(address) == name
    assert image_suffix(split_address(address)[0]) == suffix


# ---------------------------------------------------------------- through MONAI
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


def test_a_failure_is_not_answered_by_another_reader(tmp_path: Path):
    """LoadImage would else try MONAI's own, which give the first page of a stack, transposed."""
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


# ---------------------------------------------------------------- planes and channels
TIFF_AXES = {  # shape written, how, (planes, channels), index of plane k in the array -> (H, W[, C])
    "plane": ((5, 7), {}, (1, 1)),
    "colour": ((5, 7, 3), {"photometric": "rgb"}, (1, 3)),
    "colour planar": ((3, 5, 7), {"photometric": "rgb", "planarconfig": "separate"}, (1, 3)),
    "colour + alpha": ((5, 7, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, (1, 3)),
    "two samples": ((5, 7, 2), {"planarconfig": "contig"}, (1, 2)),
    "pages": ((4, 5, 7), {}, (4, 1)),
    "three pages": ((3, 5, 7), {}, (3, 1)),
    "colour pages": ((4, 5, 7, 3), {"photometric": "rgb"}, (4, 3)),
    "imagej slices": ((4, 5, 7), {"imagej": True, "metadata": {"axes": "ZYX"}}, (4, 1)),
    "imagej channels": ((2, 5, 7), {"imagej": True, "metadata": {"axes": "CYX"}}, (1, 2)),
    "imagej hyperstack": ((2, 3, 2, 5, 7), {"imagej": True, "metadata": {"axes": "TZCYX"}}, (6, 2)),
    "ome": ((2, 3, 5, 7), {"ome": True, "metadata": {"axes": "CZYX"}}, (3, 2)),
    "ome lzw": ((2, 3, 5, 7), {"ome": True, "metadata": {"axes": "CZYX"}, "compression": "lzw"}, (3, 2)),
}


@pytest.mark.parametrize("case", TIFF_AXES)
def test_tiff_axes_tell_planes_from_channels(case: str, tmp_path: Path):
    shape, options, (planes, channels) = TIFF_AXES[case]
    array = numbered(*shape, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, **{"photometric": "minisblack", **options})
    header = read_header(tmp_path / "a.tif")
    assert (header.planes, header.channels, header.height, header.width) == (planes, channels, 5, 7)

    if "ome" in case:
        expected = np.moveaxis(array, 0, -1)  # C Z Y X -> Z Y X C
    elif "imagej hyperstack" in case:
        expected = np.moveaxis(array.reshape(6, 2, 5, 7), 1, -1)
    elif case in ("colour planar", "imagej channels"):
        expected = np.moveaxis(array, 0, -1)[None]
    else:
        expected = array if planes > 1 else array[None]
    expected = expected[..., :3] if "alpha" in case else expected
    for k in range(planes):
        np.testing.assert_array_equal(read(f"{tmp_path}/a.tif#page={k}"), expected[k])


def test_axes_can_be_overruled(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", numbered(3, 5, 7), photometric="minisblack")
    assert count_planes(tmp_path / "a.tif") == 3
    assert count_planes(tmp_path / "a.tif", tiff_axes="CYX") == 1
    np.testing.assert_array_equal(read(tmp_path / "a.tif", tiff_axes="CYX"), np.moveaxis(numbered(3, 5, 7), 0, -1))
    with pytest.raises(ImageFileError, match="'YX' do not describe"):
        count_planes(tmp_path / "a.tif", tiff_axes="YX")


@pytest.mark.parametrize(
    "mode, shape", [("1", (5, 7)), ("L", (5, 7)), ("P", (5, 7)), ("LA", (5, 7)), ("RGBA", (5, 7, 3))]
)
def test_png_modes_give_numbers_without_alpha(mode: str, shape: tuple[int, ...], tmp_path: Path):
    image = Image.fromarray((numbered(5, 7) % 2 * 255).astype(np.uint8)).convert(mode)
    image.save(tmp_path / "a.png")
    array = read(tmp_path / "a.png")
    assert array.shape == shape
    assert array.dtype == np.uint8
    assert read_header(tmp_path / "a.png").channels == (shape[2] if len(shape) == 3 else 1)
    np.testing.assert_array_equal(array.reshape(5, 7, -1)[..., 0] > 0, numbered(5, 7) % 2 == 1)


def test_a_palette_image_gives_its_indices(tmp_path: Path):
    image = Image.fromarray(numbered(5, 7) % 4)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), numbered(5, 7) % 4)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_16_bit_colour_png_keeps_its_16_bits(samples: int, tmp_path: Path):
    array = numbered(5, 7, samples, dtype=np.uint16) * 301
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    colours = array[..., 0] if samples == 2 else array[..., :3]
    np.testing.assert_array_equal(read(tmp_path / "a.png"), colours)
    assert read_header(tmp_path / "a.png").channels == (1 if samples == 2 else 3)


def test_nifti_colour_and_fourth_axis_are_channels(tmp_path: Path):
    colour = np.zeros((7, 5, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])  # x, y, z
    colour["G"] = np.arange(70).reshape(7, 5, 2)
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii")
    assert read(f"{tmp_path}/rgb.nii#page=1").shape == (5, 7, 3)
    np.testing.assert_array_equal(read(f"{tmp_path}/rgb.nii#page=1")[..., 1], colour["G"][..., 1].T)

    four = numbered(7, 5, 2, 3, dtype=np.int16)  # x, y, z, c
    nibabel.save(nibabel.Nifti1Image(four, np.eye(4)), tmp_path / "four.nii")
    assert count_planes(tmp_path / "four.nii") == 2
    np.testing.assert_array_equal(read(f"{tmp_path}/four.nii#page=1"), four[:, :, 1].transpose(1, 0, 2))


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


# ---------------------------------------------------------------- reading no more than needed
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_a_page_is_read_though_all_others_are_spoilt(compression: str | None, tmp_path: Path):
    path = tmp_path / "a.tif"
    array = np.random.default_rng(0).integers(0, 99, (5, 40, 50)).astype(np.uint8)
    tifffile.imwrite(path, array, photometric="minisblack", compression=compression, metadata=None)
    with tifffile.TiffFile(path) as tif:
        places = [(page.dataoffsets[0], page.databytecounts[0]) for k, page in enumerate(tif.pages) if k != 2]
    content = bytearray(path.read_bytes())
    for offset, count in places:
        content[offset : offset + count] = b"\xff" * count
    path.write_bytes(content)
    np.testing.assert_array_equal(read(f"{path}#page=2"), array[2])


def test_a_plane_of_a_huge_stack_needs_neither_its_memory_nor_its_time(tmp_path: Path):
    """8 GiB of sparse ImageJ stack, of which one plane was ever written."""
    height, width, planes = 1024, 1024, 8192
    text = f"ImageJ=1.54f\nimages={planes}\nslices={planes}\n".encode() + b"\0"
    data = 4096
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (270, 2, len(text), 1024), (273, 4, 1, data), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, height * width),
    ]  # fmt: skip
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    head += b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    plane = np.random.default_rng(0).integers(0, 255, (height, width)).astype(np.uint8)
    with (tmp_path / "a.tif").open("wb") as file:
        file.write(head)
        file.seek(1024)
        file.write(text)
        file.seek(data + 8000 * plane.size)
        file.write(plane.tobytes())
        file.truncate(data + planes * plane.size)
    assert read_header(tmp_path / "a.tif").planes == planes
    np.testing.assert_array_equal(read(f"{tmp_path}/a.tif#page=8000"), plane)


# ---------------------------------------------------------------- the size of a pixel
def test_pixel_size_of_tiffs(tmp_path: Path):
    def size(**options: object) -> tuple[tuple[float, float], float, str]:
        tifffile.imwrite(tmp_path / "a.tif", numbered(4, 5, 7), **{"photometric": "minisblack", **options})
        header = read_header(tmp_path / "a.tif")
        return pytest.approx(header.spacing), header.plane_distance, header.unit

    unknown = ((1.0, 1.0), 1.0, "pixel")
    assert size() == unknown
    assert size(resolution=(300, 300), resolutionunit="INCH") == unknown  # a print setting
    assert size(resolution=(72, 72), resolutionunit="INCH") == unknown
    assert size(resolution=(20000, 10000), resolutionunit="CENTIMETER") == ((1.0, 0.5), 1.0, "um")  # given as x, y
    slices = {"axes": "ZYX", "spacing": 50.0, "unit": "nm"}
    assert size(imagej=True, resolution=(0.25, 0.2), metadata=slices) == ((5.0, 4.0), 50.0, "nm")
    assert size(imagej=True, resolution=(4, 4), metadata={"axes": "ZYX", "unit": "micron"}) == ((0.25, 0.25), 1.0, "um")
    assert size(imagej=True, resolution=(4, 4), metadata={"axes": "ZYX", "unit": "\\u00B5m"}) == (
        (0.25, 0.25),
        1.0,
        "um",
    )
    assert size(imagej=True, resolution=(4, 4), metadata={"axes": "ZYX"}) == unknown
    ome = {"axes": "ZYX", "PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.005, "PhysicalSizeZ": 0.05}
    assert size(ome=True, metadata=ome) == ((0.005, 0.004), 0.05, "um")


def test_pixel_size_of_medical_files(tmp_path: Path):
    image = nibabel.Nifti1Image(numbered(7, 5, 2), np.diag([0.2, 0.3, 2, 1]))  # x, y, z
    nibabel.save(image, tmp_path / "a.nii")
    header = read_header(tmp_path / "a.nii")
    assert (header.spacing, header.plane_distance, header.unit) == (pytest.approx((0.3, 0.2)), 2.0, "mm")
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "b.nii")
    assert read_header(tmp_path / "b.nii").unit == "um"
    nibabel.save(nibabel.Nifti1Image(numbered(7, 5), np.eye(4)), tmp_path / "c.nii")
    assert read_header(tmp_path / "c.nii").unit == "pixel"
    volume = itk.image_from_array(numbered(2, 5, 7))
    itk.imwrite(volume, str(tmp_path / "a.nrrd"))
    assert read_header(tmp_path / "a.nrrd").unit == "pixel"
    volume.SetSpacing([0.2, 0.3, 2.0])
    itk.imwrite(volume, str(tmp_path / "a.nrrd"))
    header = read_header(tmp_path / "a.nrrd")
    assert (header.spacing, header.plane_distance, header.unit) == (pytest.approx((0.3, 0.2)), 2.0, "mm")


def test_the_metadata_carry_the_size_of_a_pixel(tmp_path: Path):
    nibabel.save(nibabel.Nifti1Image(numbered(7, 5, 2), np.diag([0.2, 0.3, 2, 1])), tmp_path / "a.nii")
    image = LoadImage(reader=PlaneReader())(f"{tmp_path}/a.nii#page=1")
    assert np.asarray(image.meta["spacing"]) == pytest.approx([0.3, 0.2])
    assert image.meta["unit"] == "mm"
    assert np.asarray(image.affine) == pytest.approx(np.diag([0.3, 0.2, 2.0, 1.0]))
    assert tuple(image.meta["spatial_shape"]) == plane_size(tmp_path / "a.nii") == (5, 7)


# ---------------------------------------------------------------- names
NAMES = ["a b.png", "ü#1.png", "A.PNG", "A.TIF", "A.NII", "A.NII.GZ", "A.MHA", "A.NRRD", "z ü#1.mha", "z ü#1.nrrd"]


@pytest.mark.parametrize("name", NAMES)
def test_spaces_accents_hashes_and_capitals_in_names_do_not_matter(name: str, tmp_path: Path):
    suffix = "".join(Path(name).suffixes[-2:]).lower() if "GZ" in name else Path(name).suffix.lower()
    write_any(tmp_path / f"plain{suffix}")
    expected = read(tmp_path / f"plain{suffix}")
    (tmp_path / f"plain{suffix}").rename(tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name), expected)


def test_dicom_is_known_by_its_first_bytes(tmp_path: Path):
    for name in ("IM0001", "1.2.840.10008.7"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
        assert image_suffix(tmp_path / name) == ".dcm"
        assert image_name(tmp_path / name) == name
    (tmp_path / "IM0001").rename(tmp_path / "DICOMDIR")
    assert image_suffix(tmp_path / "DICOMDIR") == ""  # the table of contents of a folder, no image


def test_a_section_larger_than_pillow_expects_is_no_error(tmp_path: Path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 30000, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    assert plane_size(tmp_path / "a.png") == (30000, 20000)


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_that_are_no_numbers_are_refused(value: float, dtype: type, tmp_path: Path):
    array = numbered(2, 5, 7, dtype=dtype)
    array[1, 2, 3] = value
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    np.testing.assert_array_equal(read(f"{tmp_path}/a.tif#page=0"), array[0])
    with pytest.raises(ImageFileError, match=r"a\.tif#page=1 holds 1 pixels that are NaN or infinite.*: replace them"):
        read(f"{tmp_path}/a.tif#page=1")


def test_errors_name_the_file_and_the_remedy(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", numbered(4, 5, 7), photometric="minisblack")
    with pytest.raises(
        ValueError, match=r"a\.tif holds 4 planes .* 'a\.tif#page=0' to 'a\.tif#page=3', or let .*find_images"
    ):
        read(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif has 4 planes, counted from 0; got page 4"):
        read(f"{tmp_path}/a.tif#page=4")
    with pytest.raises(FileNotFoundError, match=r"b\.tif does not exist"):
        read(tmp_path / "b.tif")
    (tmp_path / "c.xyz").write_text("no image")
    with pytest.raises(ImageFileError, match=r"c\.xyz is of no known image format; expected one of \.png"):
        read(tmp_path / "c.xyz")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.nii", "a.nii.gz", "a.mha", "a.nrrd", "a.dcm"])
def test_what_is_not_an_image_is_named(name: str, tmp_path: Path):
    for content in (b"", b"this is not an image " * 20):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageFileError, match=name):
            read_header(tmp_path / name)
        with pytest.raises(ImageFileError, match=name):
            read(tmp_path / name)


def write_any(path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    if path.suffix in (".png", ".jpg", ".bmp"):
        Image.fromarray(array).save(path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack", compression="lzw" if "lzw" in path.name else None)
    elif ".nii" in path.name:
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    else:
        itk.imwrite(itk.image_from_array(array), str(path))


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.bmp", "a.tif", "lzw.tif", "a.nii", "a.nii.gz", "a.mha", "a.nrrd"]
)
def test_a_file_cut_short_is_an_error_and_not_an_image(name: str, tmp_path: Path):
    write_any(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ImageFileError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"imagej": True}, {"metadata": None}], ids=str)
def test_a_stack_cut_short_is_not_taken_for_a_shorter_stack(options: dict[str, object], tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 255, (4, 40, 50)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", **options)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageFileError, match=r"a\.tif is damaged or was cut short"):
        count_planes(tmp_path / "a.tif")
