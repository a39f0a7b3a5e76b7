"""TIFF: channels and planes, reading single pages, pixel size, damaged files, results."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

import scripts.io.tiff
from scripts.io.image_file import ImageFileError, ImageHeader
from scripts.io.reader import read_header
from scripts.io.tiff import TiffResult
from scripts.io.writer import SegmentationStore
from tests.scripts.io.made import TIFF_AXES, H, W, image, labels, numbered, read


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


def test_tiff_axes_override_the_file(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", numbered(3, 5, 7), photometric="minisblack")
    assert read_header(tmp_path / "a.tif").planes == 3
    assert read_header(tmp_path / "a.tif", tiff_axes="CYX").planes == 1
    np.testing.assert_array_equal(read(tmp_path / "a.tif", tiff_axes="CYX"), np.moveaxis(numbered(3, 5, 7), 0, -1))
    with pytest.raises(ImageFileError, match="'YX' do not describe"):
        read_header(tmp_path / "a.tif", tiff_axes="YX")


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_a_page_is_read_even_if_the_rest_is_damaged(compression: str | None, tmp_path: Path):
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
    """A sparse ImageJ stack of 8 GiB with a single written plane."""
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


@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"imagej": True}, {"metadata": None}], ids=str)
def test_a_stack_cut_short_is_not_taken_for_a_shorter_stack(options: dict[str, object], tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 255, (4, 40, 50)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", **options)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageFileError, match=r"a\.tif is damaged or was cut short"):
        read_header(tmp_path / "a.tif")


def test_large_results_become_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for limit, big in ((2**32, False), (10, True)):
        monkeypatch.setattr(scripts.io.tiff, "_BIGTIFF_BYTES", limit)
        with SegmentationStore(tmp_path / "out") as store:
            path = store.add("classes", image(tmp_path / "a.tif"), labels())
        with tifffile.TiffFile(path) as tif:
            assert tif.is_bigtiff is big
        np.testing.assert_array_equal(tifffile.imread(path), labels())


NOISE = np.random.default_rng(0).random((4, 3, H, W), dtype=np.float32)


@pytest.mark.parametrize("scores", [NOISE, NOISE.round()], ids=["uncertain", "certain"])
def test_probabilities_are_compressed_float_channels_for_imagej(scores: np.ndarray, tmp_path: Path):
    source = image(tmp_path / "a.tif", 4, imagej=True, resolution=(0.25, 0.2),
                   metadata={"axes": "ZYX", "unit": "nm", "spacing": 50.0})  # fmt: skip
    with SegmentationStore(tmp_path / "out", kinds=["probabilities"]) as store:
        for k, plane in enumerate(scores):
            path = store.add("probabilities", f"{source}#page={k}", torch.tensor(plane))
    with tifffile.TiffFile(path) as tif:
        assert (tif.series[0].axes, tif.series[0].kind) == ("ZCYX", "imagej")
        np.testing.assert_array_equal(tif.series[0].asarray(), scores)
        assert {page.compression for page in tif.pages} == {tifffile.COMPRESSION.ADOBE_DEFLATE}
        assert tif.imagej_metadata is not None
        assert (tif.imagej_metadata["unit"], tif.imagej_metadata["spacing"]) == ("nm", 50.0)
        assert tif.pages[0].get_resolution() == pytest.approx((0.25, 0.2))
    with Image.open(path) as other:
        other.seek(5)  # slice 1, channel 2
        np.testing.assert_array_equal(np.asarray(other), scores[1, 2])


def test_imagej_shows_the_classes_and_objects_of_a_stack_up_to_the_largest_number(tmp_path: Path):
    """A range of 0 to 255 shows classes 0, 1, 2 as black. The range of the first plane hides larger numbers."""
    planes = np.stack([labels(), labels() * 3]).astype(np.uint16)
    source = image(tmp_path / "a.tif", 2)
    with SegmentationStore(tmp_path / "out", kinds=["classes", "instances", "entropy"]) as store:
        for kind in store.kinds:
            for k, plane in enumerate(planes):
                path = store.add(kind, f"{source}#page={k}", plane)
            with tifffile.TiffFile(path) as tif:
                np.testing.assert_array_equal(tif.asarray(), planes)
                found = [tif.imagej_metadata.get(key) for key in ("images", "min", "max")]
                assert found == ([2, None, None] if kind == "entropy" else [2, 0, planes.max()])


def test_units_with_other_letters_are_written_as_imagej_writes_them(tmp_path: Path):
    header = ImageHeader(1, H, W, 1, (0.25, 0.25), unit="Åx")
    result = TiffResult(tmp_path / "a.tif", tmp_path / "source.tif", header)
    result.add(0, labels().astype(np.uint8))
    result.finish()
    assert b"unit=\\u00C5x\n" in (tmp_path / "a.tif").read_bytes()


def test_probabilities_are_stored_uncompressed_if_compression_saves_little(tmp_path: Path):
    generator = np.random.default_rng(0)
    half = generator.random((1, 128, 128), dtype=np.float32)
    planes = {"noise": half, "half": np.where(half > 0.5, half, 0), "certain": half.round()}
    sizes = {}
    for name, plane in planes.items():
        Image.fromarray(np.zeros((128, 128), np.uint8)).save(tmp_path / f"{name}.png")
        with SegmentationStore(tmp_path / "out", kinds=["probabilities"]) as store:
            path = store.add("probabilities", tmp_path / f"{name}.png", plane)
        np.testing.assert_array_equal(tifffile.imread(path), plane[0])
        sizes[name] = path.stat().st_size / plane.nbytes
    assert 1 < sizes["noise"] < 1.02
    assert sizes["half"] < 0.8
    assert sizes["certain"] < 0.1


def test_an_unknown_pixel_size_is_not_written(tmp_path: Path):
    with SegmentationStore(tmp_path / "out", kinds=["classes"]) as store:
        path = store.add("classes", image(tmp_path / "a.tif"), labels())
    with tifffile.TiffFile(path) as tif:
        assert "unit" not in (tif.imagej_metadata or {})
        assert tif.pages[0].get_resolution() == (1, 1)


@pytest.mark.parametrize("length", ["-0.25", "0", "NaN", "INF", "unknown"])
def test_a_pixel_size_in_ome_that_is_no_length_is_unknown(length, tmp_path: Path):
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYCZT" Type="uint8" SizeX="7" SizeY="5" SizeC="1" SizeZ="1" SizeT="1" '
        f'PhysicalSizeX="{length}" PhysicalSizeY="0.25"><TiffData/></Pixels></Image></OME>'
    )
    path = tmp_path / "cells.ome.tif"
    tifffile.imwrite(path, np.zeros((5, 7), np.uint8), description=text, metadata=None)
    header = read_header(path)
    assert (header.spacing, header.unit) == ((1.0, 1.0), "pixel")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_by_its_orientation_as_in_viewers(orientation: int, tmp_path: Path):
    array, path, exif = numbered(5, 7), tmp_path / "a.tif", Image.Exif()
    exif[274] = orientation
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    Image.fromarray(array).save(path, tiffinfo={274: orientation})
    np.testing.assert_array_equal(read(path), shown)
    header = read_header(path)
    assert (header.height, header.width) == shown.shape


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_minimum_is_white_is_read_as_shown_and_as_a_label_as_stored(dtype: type, tmp_path: Path):
    array = numbered(5, 7, dtype=np.uint16) % 2 == 1 if dtype is bool else numbered(5, 7, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    shown = ~array if dtype is bool else np.iinfo(dtype).max - array
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), shown)
    if dtype is not np.uint16:
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), np.asarray(Image.open(tmp_path / "a.tif")))
    np.testing.assert_array_equal(read(tmp_path / "a.tif", labels=True), shown if dtype is bool else array)


def test_a_palette_is_read_as_shown_but_as_grey_values_from_imagej_and_as_indices_from_labels(tmp_path: Path):
    array = numbered(5, 7)
    grey = np.tile(np.arange(255, -1, -1) * 257, (3, 1)).astype(np.uint16)
    colours = np.stack([np.arange(256) * 257, np.zeros(256), np.arange(255, -1, -1) * 257]).astype(np.uint16)
    for name, table in (("grey", grey), ("colours", colours)):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, array, photometric="palette", colormap=table)
        shown = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(read(path), shown if name == "colours" else shown[..., 0])
        assert read_header(path).channels == (3 if name == "colours" else 1)
        np.testing.assert_array_equal(read(path, labels=True), array)
        assert read_header(path, as_label=True).channels == 1
    tifffile.imwrite(tmp_path / "fire.tif", array, imagej=True, colormap=colours)
    np.testing.assert_array_equal(read(tmp_path / "fire.tif"), array)


def test_inks_become_the_colours_that_viewers_show(tmp_path: Path):
    inks = np.random.default_rng(0).integers(0, 256, (5, 7, 4)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated")
    shown = np.asarray(Image.open(tmp_path / "a.tif").convert("RGB"))
    np.testing.assert_allclose(read(tmp_path / "a.tif").astype(int), shown.astype(int), atol=1)
    assert read_header(tmp_path / "a.tif").channels == 3


def test_time_stays_time_in_results_with_the_interval(tmp_path: Path):
    stack = numbered(3, 2, 5, 7)
    tifffile.imwrite(tmp_path / "j.tif", stack, imagej=True, metadata={"axes": "TZYX", "finterval": 60.0})
    ome = {"axes": "TZYX", "TimeIncrement": 1.5, "TimeIncrementUnit": "min"}
    tifffile.imwrite(tmp_path / "o.ome.tif", stack, metadata=ome)
    tifffile.imwrite(tmp_path / "zt.ome.tif", stack.swapaxes(0, 1), metadata={**ome, "axes": "ZTYX"})
    for name, seconds in (("j.tif", 60.0), ("o.ome.tif", 90.0), ("zt.ome.tif", 90.0)):
        header = read_header(tmp_path / name)
        assert (header.planes, header.frames, header.frame_interval) == (6, 3, seconds)
        result = TiffResult(tmp_path / "out.tif", tmp_path / name, header)
        for index in range(6):
            result.add(index, read(f"{tmp_path / name}#page={index}"))
        result.finish()
        with tifffile.TiffFile(tmp_path / "out.tif") as tif:
            assert tif.series[0].axes == "TZYX"
            assert tif.imagej_metadata["finterval"] == seconds
            np.testing.assert_array_equal(tif.asarray(), stack)


def test_the_largest_series_is_read_and_the_others_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(numbered(2, 3), metadata={"Name": "overview"})
        tif.write(numbered(5, 7), metadata={"Name": "field"})
    for _ in range(3):
        np.testing.assert_array_equal(read(tmp_path / "a.ome.tif"), numbered(5, 7))
    assert caplog.text.count("overview") == 1


def test_planes_that_tifffile_wrote_as_colours_are_named_with_the_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tifffile: photometric is guessed
        tifffile.imwrite(tmp_path / "a.tif", numbered(4, 5, 7))
    read_header(tmp_path / "a.tif")
    assert "a.tif" in caplog.text
    assert "--tiff_axes ZYX" in caplog.text
    np.testing.assert_array_equal(read(f"{tmp_path}/a.tif#page=3", tiff_axes="ZYX"), numbered(4, 5, 7)[3])
