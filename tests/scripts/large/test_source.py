"""Regions of images equal the same pixels of whole planes, in all formats; damage is named with its place."""

from __future__ import annotations

import itertools
import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from scripts.io import ImageFileError, read_header
from scripts.io.reader import open_image
from scripts.large import open_source
from tests.scripts.io.made import TIFF_AXES, numbered, write_any

H, W = 83, 131
zarr = pytest.importorskip("zarr")  # Python 3.11


def random(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def regions(height: int, width: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Corners, single pixels, regions across tiles, and the whole plane."""
    rows = [(0, 1), (height // 3, height // 2 + 1), (height - 2, height), (0, height)]
    columns = [(0, 2), (width // 4, width // 2), (width - 1, width), (0, width)]
    return list(itertools.product(rows, columns))


def check_as_planes(path: Path, tiff_axes: str | None = None) -> None:
    """Compare all regions with the planes of the readers of small images."""
    file = open_image(path, tiff_axes)
    with open_source(path, tiff_axes) as image:
        assert image.header == file.header == read_header(path, tiff_axes)
        assert int(np.prod(list(image.axes.values()))) == image.header.planes
        for plane in range(image.header.planes):
            whole = np.moveaxis(np.atleast_3d(file.plane(plane)), -1, 0)
            assert image.dtype == whole.dtype
            for rows, columns in regions(image.header.height, image.header.width):
                part = image.read(plane, rows, columns)
                assert part.dtype == whole.dtype
                assert part.flags.c_contiguous
                np.testing.assert_array_equal(part, whole[:, slice(*rows), slice(*columns)])


@pytest.mark.parametrize("case", TIFF_AXES)
def test_tiffs_have_the_planes_and_channels_of_the_whole_files(case: str, tmp_path: Path):
    shape, options, _ = TIFF_AXES[case]
    tifffile.imwrite(tmp_path / "a.tif", numbered(*shape, dtype=np.uint16), **{"photometric": "minisblack", **options})
    check_as_planes(tmp_path / "a.tif")


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "jpeg", "zstd"])
@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 7}, {"rowsperstrip": H}], ids=str)
def test_tiles_and_strips(layout: dict[str, object], compression: str | None, bigtiff: bool, tmp_path: Path):
    tifffile.imwrite(
        tmp_path / "grey.tif",
        random(2, H, W),
        photometric="minisblack",
        compression=compression,
        bigtiff=bigtiff,
        **layout,
    )
    check_as_planes(tmp_path / "grey.tif")
    tifffile.imwrite(tmp_path / "rgb.tif", random(H, W, 3), photometric="rgb", compression=compression, **layout)
    check_as_planes(tmp_path / "rgb.tif")


@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 7}], ids=str)
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True}, {"byteorder": ">"}], ids=str)
def test_planar_colours_predictors_and_byte_orders(
    layout: dict[str, object], options: dict[str, object], tmp_path: Path
):
    array = random(3, H, W, dtype=np.uint16) * 200
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", planarconfig="separate", **layout, **options)
    check_as_planes(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "f.tif", array.astype(np.float32), photometric="minisblack", **layout, **options)
    check_as_planes(tmp_path / "f.tif")
    check_as_planes(tmp_path / "f.tif", tiff_axes="CYX")


def test_pyramids_of_ome_are_read_at_the_full_resolution(tmp_path: Path):
    stack = random(2, 3, H, W, dtype=np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", bigtiff=True) as tif:
        options = {"photometric": "minisblack", "tile": (32, 32), "compression": "zlib"}
        tif.write(stack, subifds=2, metadata={"axes": "ZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, **options)
        tif.write(stack[..., ::2, ::2], subfiletype=1, **options)
        tif.write(stack[..., ::4, ::4], subfiletype=1, **options)
    check_as_planes(tmp_path / "a.ome.tif")
    image = open_source(tmp_path / "a.ome.tif")
    assert (image.header.spacing, image.header.unit, image.axes) == ((0.5, 0.5), "um", {"z": 2})
    np.testing.assert_array_equal(image.read(1, (3, 40), (5, 70)), stack[1, :, 3:40, 5:70])


def test_an_ome_series_of_several_files(tmp_path: Path):
    planes = random(2, H, W)
    data = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'
        for z in range(2)
    )
    for z, plane in enumerate(planes):
        text = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{z}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="{W}" SizeY="{H}" '
            f'SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0"/>{data}</Pixels></Image></OME>'
        )
        options = {"tile": (16, 16), "compression": "zlib", "photometric": "minisblack"}
        tifffile.imwrite(tmp_path / f"{z}.ome.tif", plane, description=text, metadata=None, **options)
    check_as_planes(tmp_path / "0.ome.tif")
    with open_source(tmp_path / "0.ome.tif") as image:
        np.testing.assert_array_equal(image.read(1, (3, 40), (5, 70))[0], planes[1, 3:40, 5:70])


@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 7}], ids=str)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float32])
def test_grey_values_and_colours_are_those_that_viewers_show(dtype: type, layout: dict[str, object], tmp_path: Path):
    array = random(H, W).astype(dtype)
    tifffile.imwrite(tmp_path / "white.tif", array, photometric="miniswhite", **layout)
    check_as_planes(tmp_path / "white.tif")
    for orientation in range(1, 9):
        tag = (274, "H", 1, orientation, True)
        tifffile.imwrite(tmp_path / "turned.tif", array, photometric="minisblack", extratags=[tag], **layout)
        check_as_planes(tmp_path / "turned.tif")
    colours = random(3, 256, dtype=np.uint16) * 257
    tifffile.imwrite(tmp_path / "palette.tif", random(H, W), photometric="palette", colormap=colours, **layout)
    check_as_planes(tmp_path / "palette.tif")
    tifffile.imwrite(tmp_path / "cmyk.tif", random(H, W, 4), photometric="separated", **layout)
    check_as_planes(tmp_path / "cmyk.tif")


def test_empty_tiles_of_sparse_tiffs_are_zero(tmp_path: Path):
    def tiles() -> list[np.ndarray | None]:
        return [None if number % 2 else numbered(16, 16) for number in range(12)]

    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(iter(tiles()), shape=(48, 64), dtype=np.uint8, tile=(16, 16), compression="zlib")
    check_as_planes(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.nii.gz", "a.mha", "a.nrrd"])
def test_other_formats_are_read_plane_by_plane(name: str, tmp_path: Path):
    write_any(tmp_path / name)
    check_as_planes(tmp_path / name)


def test_a_region_of_a_tiff_with_tiles_takes_little_time_and_memory_of_the_plane(tmp_path: Path):
    """60,000 x 60,000 pixels in a sparse file: 3.6 GB as a plane."""
    full = np.full((4096, 4096), 9, np.uint8)
    data = iter([full, *[None] * 15, full, *[None] * 208])
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as tif:
        tif.write(data, shape=(60_000, 60_000), dtype=np.uint8, tile=(4096, 4096), compression="zlib")
    with open_source(tmp_path / "a.tif") as image:
        part = image.read(0, (4090, 4100), (4090, 4100))
    np.testing.assert_array_equal(part[0].sum(axis=1), [54] * 6 + [36] * 4)


def test_strips_are_decoded_once_for_regions_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tifffile.imwrite(tmp_path / "a.tif", random(64, 96), rowsperstrip=8, compression="zlib", photometric="minisblack")
    read, count = tifffile.FileHandle.read_segments, 0

    def counted(self: tifffile.FileHandle, offsets: list[int], *args: object, **options: object) -> object:
        nonlocal count
        count += len(offsets)
        return read(self, offsets, *args, **options)

    monkeypatch.setattr(tifffile.FileHandle, "read_segments", counted)
    image = open_source(tmp_path / "a.tif")
    for column in range(0, 96, 16):
        image.read(0, (10, 30), (column, column + 16))
    assert count == 3  # of 8 rows each


def write_zarr(
    path: Path, axes: str, shape: tuple[int, ...], version: int, dtype: type = np.uint16, **options: object
) -> np.ndarray:
    """Write an OME-Zarr image of random pixels in two levels; 0.4 as Zarr 2, 0.5 as Zarr 3."""
    array = random(*shape).astype(dtype)
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for name, pixels in (("0", array), ("1", array[..., ::2, ::2])):
        group.create_array(name, data=pixels, chunks=tuple(min(n, 32) for n in pixels.shape), **options)
    types = {"t": ("time", "second"), "c": ("channel", None)}
    stated = []
    for axis in axes:
        kind, unit = types.get(axis, ("space", "micrometer"))
        stated.append({"name": axis, "type": kind, **({"unit": unit} if unit else {})})
    size = {"t": 5.0, "c": 1.0, "z": 2.0, "y": 0.25, "x": 0.5}
    datasets = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": [size[axis] for axis in axes]}]}
        for name in ("0", "1")
    ]
    image = {"axes": stated, "datasets": datasets}
    if version == 2:
        group.attrs["multiscales"] = [{"version": "0.4", **image}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return array


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "axes", ["yx", "cyx", "zyx", "tyx", "czyx", "zcyx", "tcyx", "tczyx", "tzcyx", "ztcyx", "ctzyx"]
)
def test_ome_zarr_has_its_planes_channels_and_pixel_size(axes: str, version: int, tmp_path: Path):
    sizes = {"t": 2, "c": 3, "z": 4, "y": H, "x": W}
    array = write_zarr(tmp_path / "a.zarr", axes, tuple(sizes[axis] for axis in axes), version)
    image = open_source(tmp_path / "a.zarr")
    header = image.header
    assert image.axes == {axis: sizes[axis] for axis in "tz" if axis in axes}
    assert (header.planes, header.channels) == (int(np.prod(list(image.axes.values()))), 3 if "c" in axes else 1)
    assert (header.height, header.width, image.dtype) == (H, W, np.uint16)
    assert (header.spacing, header.unit, header.plane_distance) == ((0.25, 0.5), "um", 2.0 if "z" in axes else 1.0)
    assert (header.frames, header.frame_interval) == ((2, 5.0) if "t" in axes else (1, None))
    order = [axes.index(axis) for axis in "tzcyx" if axis in axes]
    planes = array.transpose(order).reshape(header.planes, header.channels, H, W)
    for plane in range(header.planes):
        for rows, columns in regions(H, W):
            expected = planes[plane, :, slice(*rows), slice(*columns)]
            np.testing.assert_array_equal(image.read(plane, rows, columns), expected)


@pytest.mark.parametrize("dtype", [bool, ">u2", np.int32, np.float32, np.float64])
def test_types_of_pixels_become_native(dtype: type, tmp_path: Path):
    array = write_zarr(tmp_path / "a.zarr", "yx", (H, W), 2, dtype)
    image = open_source(tmp_path / "a.zarr")
    assert image.read(0, (0, H), (0, W)).dtype == image.dtype
    assert image.dtype.isnative
    np.testing.assert_array_equal(image.read(0, (0, H), (0, W))[0], array)


def test_axes_of_length_1_stay_for_the_results(tmp_path: Path):
    write_zarr(tmp_path / "a.zarr", "tczyx", (1, 1, 1, H, W), 3)
    assert open_source(tmp_path / "a.zarr").axes == {"t": 1, "z": 1}


def changed(path: Path, key: str, value: object) -> Path:
    """Change a key of the multiscales of an OME-Zarr 0.4; None: remove the key."""
    write_zarr(path, "tcyx", (1, 1, H, W), 2)
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0][key] = value
    if value is None:
        del attributes["multiscales"][0][key]
    (path / ".zattrs").write_text(json.dumps(attributes))
    return path


SPACE = [{"name": axis, "type": "space"} for axis in "yx"]
BEFORE = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]


def test_pixel_sizes_of_dataset_and_multiscale_are_multiplied(tmp_path: Path):
    path = changed(tmp_path / "a.zarr", "coordinateTransformations", [{"type": "scale", "scale": [2, 1, 10, 10]}])
    header = open_source(path).header
    assert (header.spacing, header.unit, header.frame_interval) == ((2.5, 5.0), "um", 10.0)


def test_without_units_the_pixel_size_is_unknown(tmp_path: Path):
    header = open_source(changed(tmp_path / "a.zarr", "axes", BEFORE + SPACE)).header
    assert (header.spacing, header.unit, header.frame_interval) == ((1.0, 1.0), "pixel", None)


@pytest.mark.parametrize(
    "key, value, named",
    [
        ("version", "0.2", "0.2"),
        ("version", "0.6", "0.5"),
        ("axes", None, "axes"),
        ("axes", ["t", "c", "y", "x"], "axes"),
        ("axes", BEFORE + SPACE[::-1], "t, c, x, y"),
        ("axes", SPACE + BEFORE, "y, x, t, c"),
        ("axes", [{"name": "angle"}, *BEFORE[1:], *SPACE], "angle"),
        ("axes", SPACE, "axes"),
        ("datasets", [], "multiscales"),
        ("datasets", [{"path": "7"}], "'7'"),
        ("datasets", [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}], "scale of 2"),
    ],
)
def test_metadata_without_a_readable_image_are_refused(key: str, value: object, named: str, tmp_path: Path):
    path = changed(tmp_path / "a.zarr", key, value)
    with pytest.raises(ImageFileError, match=r"a\.zarr") as error:
        open_source(path)
    assert named in str(error.value)


@pytest.mark.parametrize(
    "attributes, named",
    [
        ({"plate": {}}, "A/1/0"),
        ({"well": {}}, "a.zarr/0"),
        ({"labels": ["nuclei"]}, "labels"),
        ({"image-label": {}, "multiscales": [{}]}, "labels"),
        ({"bioformats2raw.layout": 3}, "a.zarr/0"),
        ({}, "a.zarr/cells"),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_groups_that_are_no_image_name_the_path_to_give(attributes: dict, named: str, version: int, tmp_path: Path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    group.create_array("cells", data=numbered(5, 7))
    group.attrs.update(attributes if version == 2 else {"ome": {"version": "0.5", **attributes}})
    with pytest.raises(ImageFileError) as error:
        open_source(tmp_path / "a.zarr")
    assert named in str(error.value)


def test_plain_arrays_need_axes_beyond_two(tmp_path: Path):
    zarr.save(tmp_path / "yx.zarr", numbered(5, 7))
    np.testing.assert_array_equal(
        open_source(tmp_path / "yx.zarr").read(0, (1, 3), (2, 7))[0], numbered(5, 7)[1:3, 2:7]
    )
    zarr.save(tmp_path / "a.zarr", numbered(3, 5, 7))
    with pytest.raises(ImageFileError, match="tiff_axes"):
        open_source(tmp_path / "a.zarr")
    assert open_source(tmp_path / "a.zarr", "CYX").header.channels == 3
    assert open_source(tmp_path / "a.zarr", "ZYX").header.planes == 3
    zarr.create_array(tmp_path / "named.zarr", data=numbered(3, 5, 7), dimension_names=["c", "y", "x"])
    assert open_source(tmp_path / "named.zarr").header.channels == 3


def test_folders_and_missing_files_are_named(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImageFileError, match=r"folder.*zarr\.json"):
        open_source(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match=r"none\.tif"):
        _ = open_source(tmp_path / "none.tif").header


def test_a_missing_chunk_is_the_fill_value(tmp_path: Path):
    array = write_zarr(tmp_path / "a.zarr", "yx", (64, 64), 3, fill_value=7)
    (tmp_path / "a.zarr/0/c/0/1").unlink()
    array[:32, 32:] = 7
    np.testing.assert_array_equal(open_source(tmp_path / "a.zarr").read(0, (0, 64), (0, 64))[0], array)


def test_a_damaged_chunk_is_named_with_its_place_and_leaves_the_others(tmp_path: Path):
    array = write_zarr(tmp_path / "a.zarr", "yx", (64, 64), 3)
    (tmp_path / "a.zarr/0/c/0/1").write_bytes(b"no chunk")
    image = open_source(tmp_path / "a.zarr")
    with pytest.raises(ImageFileError, match=r"a\.zarr, plane 0, rows 0 to 8, columns 30 to 40"):
        image.read(0, (0, 8), (30, 40))
    np.testing.assert_array_equal(image.read(0, (0, 64), (0, 32))[0], array[:, :32])


@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 8}], ids=str)
def test_a_damaged_tile_is_named_with_its_place_and_leaves_the_others(layout: dict[str, object], tmp_path: Path):
    path, array = tmp_path / "a.tif", random(64, 64)
    tifffile.imwrite(path, array, compression="zlib", photometric="minisblack", **layout)
    with tifffile.TiffFile(path) as tif:
        offset, size = tif.pages[0].dataoffsets[-1], tif.pages[0].databytecounts[-1]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\xff" * size
    path.write_bytes(content)
    image = open_source(path)
    with pytest.raises(ImageFileError, match=r"a\.tif, plane 0, rows 50 to 64, columns 60 to 64"):
        image.read(0, (50, 64), (60, 64))
    np.testing.assert_array_equal(image.read(0, (0, 48), (0, 64))[0], array[:48])


def test_there_is_nothing_beyond_the_planes(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", numbered(5, 7))
    image = open_source(tmp_path / "a.tif")
    for plane, rows, columns in ((1, (0, 1), (0, 1)), (-1, (0, 1), (0, 1)), (0, (0, 6), (0, 1)), (0, (0, 1), (-1, 3))):
        with pytest.raises(IndexError):
            image.read(plane, rows, columns)


@pytest.mark.parametrize("kind", ["tiles", "strips", "png", "zarr"])
def test_threads_and_copies_read_the_same(kind: str, tmp_path: Path):
    array = random(256, 256)
    path = tmp_path / f"a.{'zarr' if kind == 'zarr' else 'png' if kind == 'png' else 'tif'}"
    if kind == "png":
        Image.fromarray(array).save(path)
    elif kind == "zarr":
        array = write_zarr(path, "yx", (256, 256), 3)
    else:
        layout = {"tile": (16, 16)} if kind == "tiles" else {"rowsperstrip": 5}
        tifffile.imwrite(path, array, compression="zlib", photometric="minisblack", **layout)
    with open_source(path) as image:
        wrong: list[object] = []

        def read(seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                for _ in range(20):
                    top, left = (int(n) for n in rng.integers(0, 200, 2))
                    part = image.read(0, (top, top + 50), (left, left + 50))[0]
                    if not np.array_equal(part, array[top : top + 50, left : left + 50]):
                        wrong.append((top, left))
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        with pickle.loads(pickle.dumps(image)) as copy:
            np.testing.assert_array_equal(copy.read(0, (7, 99), (0, 256))[0], array[7:99])
        image.close()
        np.testing.assert_array_equal(image.read(0, (7, 99), (0, 256))[0], array[7:99])  # opened again


def test_real_images_have_the_same_pixels_by_region(data_root: Path):
    for path in (data_root / "PhC-C2DH-U373").rglob("t000.tif"):
        check_as_planes(path)


def test_damaged_metadata_of_the_array_name_the_image(tmp_path):
    group = zarr.open_group(tmp_path / "image.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=(4, 4), dtype="uint8")
    group.attrs["multiscales"] = [{"version": "0.4", "axes": [{"name": a} for a in "yx"], "datasets": [{"path": "0"}]}]
    (tmp_path / "image.zarr" / "0" / ".zarray").write_text("{")
    with pytest.raises(ImageFileError, match=r"image\.zarr.*'0'"):
        open_source(tmp_path / "image.zarr")
