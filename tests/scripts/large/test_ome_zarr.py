"""Results in OME-Zarr: valid by the specification, equal to the written blocks, with the pixel size of the source."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import block_reduce

from scripts.io import ImageFileError, ImageHeader
from scripts.large import BlockGrid, OmeZarrOutput, open_source

zarr = pytest.importorskip("zarr")  # Python 3.11
v05 = pytest.importorskip("ome_zarr_models.v05")

H, W, SIZE = 1100, 1301, 512
ALL = {"probabilities": "uint8", "classes": "uint8", "instances": "uint32"}
KNOWN = {"spacing": (0.25, 0.5), "unit": "um", "plane_distance": 2.0, "frame_interval": 5.0}


def results(planes: int, height: int = H, width: int = W) -> dict[str, np.ndarray]:
    """Random results (P, [C,] H, W) with whole blocks of background."""
    rng = np.random.default_rng(0)
    foreground = rng.random((planes, height, width), np.float32)
    foreground[:, :SIZE, :SIZE] = 0
    objects = rng.integers(0, 2**32, (planes, height, width), np.uint32) * (foreground > 0.5)
    return {
        "probabilities": np.stack([1 - foreground, foreground], axis=1),
        "classes": (foreground > 0.5).astype(np.uint8),
        "instances": objects.astype(np.uint32),
    }


def create(path: Path, axes: dict[str, int], arrays: dict[str, str] = ALL, **options: object) -> OmeZarrOutput:
    planes = int(np.prod(list(axes.values())))
    header = ImageHeader(planes, H, W, 1, frames=axes.get("t", 1), **KNOWN)
    return OmeZarrOutput.create(path, header, axes, BlockGrid(planes, H, W, SIZE), arrays, **options)


def complete(output: OmeZarrOutput, arrays: dict[str, np.ndarray]) -> None:
    for kind in output.places:
        for block in output.grid:
            output.write(kind, block, arrays[kind][block.plane][..., slice(*block.rows), slice(*block.columns)])
        for level in range(1, output.levels):
            for block in output.level_grid(level):
                output.build_pyramid(kind, level, block)
    output.finish()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Results of two points in time."""
    path = tmp_path_factory.mktemp("written") / "out.ome.zarr"
    arrays = results(planes=2)
    complete(create(path, {"t": 2, "z": 1}, settings={"threshold": 0.5}, class_names=("background", "cell")), arrays)
    return path, arrays


def test_every_image_and_label_is_valid_by_the_specification(written):
    path, _ = written
    image = v05.Image.from_zarr(zarr.open_group(path, mode="r"))
    assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == ["t", "c", "z", "y", "x"]
    labels = v05.Labels.from_zarr(zarr.open_group(path / "labels", mode="r"))
    assert labels.label_paths == ["classes", "instances"]
    for kind in labels.label_paths:
        label = v05.ImageLabel.from_zarr(zarr.open_group(path / "labels" / kind, mode="r"))
        assert [axis.name for axis in label.attributes.ome.multiscales[0].axes] == ["t", "z", "y", "x"]
        assert (
            zarr.open_group(path / "labels" / kind, mode="r").attrs["ome"]["image-label"]["source"]["image"] == "../../"
        )


def test_plain_zarr_reads_the_written_pixels(written):
    path, arrays = written
    group = zarr.open_group(path, mode="r")
    stored = np.rint(arrays["probabilities"] * 255).astype(np.uint8)
    np.testing.assert_array_equal(group["0"][:], stored[:, :, None])
    np.testing.assert_array_equal(group["labels/classes/0"][:], arrays["classes"][:, None])
    np.testing.assert_array_equal(group["labels/instances/0"][:], arrays["instances"][:, None])
    assert group["0"].metadata.dimension_names == ("t", "c", "z", "y", "x")


def test_the_image_is_a_source_with_the_axes_and_pixel_size_of_the_original(written):
    path, arrays = written
    image = open_source(path)
    assert (image.axes, image.header.channels) == ({"t": 2, "z": 1}, 2)
    assert (image.header.spacing, image.header.unit, image.header.frame_interval) == ((0.25, 0.5), "um", 5.0)
    expected = np.rint(arrays["probabilities"][1, :, 500:600, 1200:] * 255)
    np.testing.assert_array_equal(image.read(1, (500, 600), (1200, W)), expected)


def test_pyramids_are_means_of_probabilities_and_the_nearest_of_labels(written):
    path, arrays = written
    group = zarr.open_group(path, mode="r")
    assert sorted(group.array_keys()) == ["0", "1"]
    stored = np.rint(arrays["probabilities"] * 255)
    even = np.pad(stored, ((0, 0), (0, 0), (0, H % 2), (0, W % 2)), mode="edge")
    means = np.rint(block_reduce(even, (1, 1, 2, 2), np.mean))
    np.testing.assert_array_equal(group["1"][:, :, 0], means)
    np.testing.assert_array_equal(group["labels/instances/1"][:, 0], arrays["instances"][:, ::2, ::2])
    for kind in ("", "labels/classes"):
        levels = zarr.open_group(path / kind, mode="r").attrs["ome"]["multiscales"][0]["datasets"]
        scale, translation = levels[1]["coordinateTransformations"]
        assert levels[0]["coordinateTransformations"][0]["scale"][-2:] == [0.25, 0.5]
        assert scale["scale"][-2:] == [0.5, 1.0]
        assert translation["translation"][-2:] == [0.125, 0.25]  # the middle of the first 2 x 2 pixels


def test_metadata_name_units_classes_version_and_settings(written):
    path, _ = written
    attributes = zarr.open_group(path, mode="r").attrs
    units = {axis["name"]: axis.get("unit") for axis in attributes["ome"]["multiscales"][0]["axes"]}
    assert units == {"t": "second", "c": None, "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    assert [channel["label"] for channel in attributes["ome"]["omero"]["channels"]] == ["background", "cell"]
    assert "0 to 255" in attributes["ome"]["multiscales"][0]["metadata"]["values"]
    assert attributes["original_unet"]["settings"] == {"threshold": 0.5}
    assert attributes["original_unet"]["version"]
    classes = zarr.open_group(path / "labels/classes", mode="r").attrs["ome"]["image-label"]["properties"]
    colours = zarr.open_group(path / "labels/classes", mode="r").attrs["ome"]["image-label"]["colors"]
    assert [(colour["label-value"], colour["rgba"][3]) for colour in colours] == [(0, 0), (1, 255)]
    assert classes == [{"label-value": 0, "name": "background"}, {"label-value": 1, "name": "cell"}]


def test_a_block_is_one_file_and_a_block_of_zeros_none(written):
    path, _ = written
    files = [file.relative_to(path / "labels/classes/0/c") for file in (path / "labels/classes/0/c").rglob("*")]
    shards = {file.as_posix() for file in files if len(file.parts) == 4}
    assert shards == {f"{t}/0/{y}/{x}" for t in range(2) for y in range(3) for x in range(3)} - {"0/0/0/0", "1/0/0/0"}


@pytest.mark.parametrize("axes", [{}, {"z": 2}, {"t": 2}, {"t": 1, "z": 2}], ids=str)
def test_results_have_the_axes_of_the_source(axes: dict[str, int], tmp_path: Path):
    arrays = results(int(np.prod(list(axes.values()))))
    output = create(tmp_path / "out.zarr", axes)
    complete(output, arrays)
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert group["0"].shape == (
        *[n for a, n in axes.items() if a == "t"],
        2,
        *[n for a, n in axes.items() if a == "z"],
        H,
        W,
    )
    assert group["labels/classes/0"].shape == (*axes.values(), H, W)
    v05.Image.from_zarr(group)
    for plane, expected in enumerate(arrays["instances"]):
        np.testing.assert_array_equal(output.read("instances", plane, (400, 600), (0, W)), expected[400:600])


@pytest.mark.parametrize(
    "kind, dtype",
    [("classes", "uint8"), ("instances", "uint32"), ("probabilities", "float32"), ("probabilities", "float16")],
)
def test_a_single_result_is_the_image(kind: str, dtype: str, tmp_path: Path):
    arrays = results(1)
    complete(create(tmp_path / "out.zarr", {}, {kind: dtype}), arrays)
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    v05.Image.from_zarr(group)
    assert "labels" not in group
    np.testing.assert_array_equal(group["0"][:], arrays[kind][0].astype(dtype))


def test_without_a_known_pixel_size_no_unit_is_written(tmp_path: Path):
    header, grid = ImageHeader(1, 40, 50, 1), BlockGrid(1, 40, 50, 256)
    output = OmeZarrOutput.create(tmp_path / "out.zarr", header, {}, grid, {"classes": "uint8"})
    assert output.levels == 1
    output.finish()
    (image,) = zarr.open_group(tmp_path / "out.zarr", mode="r").attrs["ome"]["multiscales"]
    assert image["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert open_source(tmp_path / "out.zarr").header.unit == "pixel"


def write_ones(output: OmeZarrOutput, number: int) -> None:
    block = output.grid[number]
    output.write("classes", block, np.full(block.shape, number + 1, np.uint8))


def test_processes_write_blocks_side_by_side(tmp_path: Path):
    output = create(tmp_path / "out.zarr", {}, {"classes": "uint8"}, chunk=256)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        list(processes.map(write_ones, [output] * len(output.grid), range(len(output.grid))))
    for block in pickle.loads(pickle.dumps(output)).grid:
        assert (output.read("classes", 0, block.rows, block.columns) == block.number + 1).all()


@pytest.mark.parametrize("number", [0, 8])
def test_a_block_cut_by_a_kill_is_written_again(number: int, tmp_path: Path):
    """Block 8 lies at the edge of the image."""
    create(tmp_path / "out.zarr", {}, {"classes": "uint8"})
    output = OmeZarrOutput(tmp_path / "out.zarr")
    write_ones(output, number)
    (shard,) = (file for file in (tmp_path / "out.zarr/0/c").rglob("*") if file.is_file())
    shard.write_bytes(shard.read_bytes()[:-9])
    block = output.grid[number]
    with pytest.raises(ImageFileError, match=r"out\.zarr, classes, level 0, plane 0"):
        output.read("classes", 0, block.rows, block.columns)
    (shard.parent / "x.partial").touch()
    write_ones(OmeZarrOutput(tmp_path / "out.zarr"), number)
    output.finish()
    assert (output.read("classes", 0, block.rows, block.columns) == number + 1).all()
    assert not list((tmp_path / "out.zarr").rglob("*.partial"))


@pytest.mark.parametrize(
    "kind, array, named",
    [
        ("classes", np.zeros((SIZE, SIZE - 1), np.uint8), "511"),
        ("classes", np.full((SIZE, SIZE), 256), "256"),
        ("classes", np.full((SIZE, SIZE), -1), "-1"),
        ("classes", np.zeros((SIZE, SIZE)), "float64"),
        ("instances", np.full((SIZE, SIZE), 2**32), "4294967295"),
        ("probabilities", np.full((2, SIZE, SIZE), 1.5), "1.5"),
        ("probabilities", np.full((2, SIZE, SIZE), np.nan), "nan"),
        ("probabilities", np.zeros((3, SIZE, SIZE)), "3"),
        ("probabilities", np.zeros((2, SIZE, SIZE), int), "int64"),
        ("overlays", np.zeros((SIZE, SIZE), np.uint8), "overlays"),
    ],
)
def test_values_that_do_not_fit_are_refused(kind: str, array: np.ndarray, named: str, tmp_path: Path):
    output = create(tmp_path / "out.zarr", {})
    with pytest.raises(ValueError, match=kind) as error:
        output.write(kind, output.grid[0], array)
    assert named in str(error.value)


def test_wrong_plans_are_refused_before_anything_is_written(tmp_path: Path):
    header, grid = ImageHeader(2, 40, 50, 1), BlockGrid(2, 40, 50, 512)
    for wrong in (
        {"arrays": {}},
        {"arrays": {"overlays": "uint8"}},
        {"arrays": {"classes": "float32"}},
        {"chunk": 200},
        {"axes": {"z": 3}},
        {"grid": BlockGrid(2, 40, 51, 512)},
    ):
        options = {"header": header, "axes": {"z": 2}, "grid": grid, "arrays": ALL, **wrong}
        with pytest.raises(ValueError, match=r"expected|multiple|must be|one of"):
            OmeZarrOutput.create(tmp_path / "out.zarr", **options)
        assert not (tmp_path / "out.zarr").exists()
    OmeZarrOutput.create(tmp_path / "out.zarr", header, {"z": 2}, grid, ALL)
    with pytest.raises(FileExistsError, match=r"out\.zarr"):
        OmeZarrOutput.create(tmp_path / "out.zarr", header, {"z": 2}, grid, ALL)


def test_other_folders_are_no_results(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.zarr"):
        OmeZarrOutput(tmp_path / "none.zarr")
    zarr.open_group(tmp_path / "begun.zarr", mode="w")
    with pytest.raises(ImageFileError, match=r"begun\.zarr"):
        OmeZarrOutput(tmp_path / "begun.zarr")


def test_there_is_nothing_beyond_the_image(tmp_path: Path):
    output = create(tmp_path / "out.zarr", {"z": 2})
    for plane, rows, columns in ((2, (0, 1), (0, 1)), (0, (0, H + 1), (0, 1)), (0, (0, 1), (-1, 1))):
        with pytest.raises(IndexError):
            output.read("classes", plane, rows, columns)


def test_a_full_disk_is_named(small_disk: Path):
    output = create(small_disk / "out.zarr", {})
    block = output.grid[0]
    with pytest.raises(OSError, match=r"out\.zarr"):
        output.write("instances", block, np.random.default_rng(0).integers(0, 2**32, block.shape, np.uint32))
