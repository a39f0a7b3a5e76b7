"""Objects measured block by block have the measures of the whole plane."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.io import read_csv
from scripts.large import BlockGrid, BlockMeasures, final_labels, measure_block, write_plane
from scripts.metrics import ObjectsCSV, image_summary, object_table
from scripts.metrics.measures import ObjectMeasures
from scripts.metrics.shapes import measures_table
from scripts.transforms.objects import instances_from_scores
from tests.scripts.large.blockwise import blobs, objects_of_blocks, read_joined, window


def measured(labels: np.ndarray, grid: BlockGrid, images: np.ndarray | None = None, classes: np.ndarray | None = None):
    """Measure the blocks of label images (P, H, W)."""
    return [
        measure_block(
            window(labels, grid, block.number, halo=2),
            grid,
            block,
            None if images is None else window(images, grid, block.number),
            None if classes is None else window(classes, grid, block.number),
        )
        for block in grid
    ]


class Rows:
    """Keep tables as `ObjectsCSV` does, without a file."""

    def __init__(self) -> None:
        self.tables: list[dict[str, np.ndarray]] = []

    def add(self, name: str, table: dict[str, np.ndarray]) -> None:
        self.tables.append(table)

    def whole(self) -> dict[str, np.ndarray]:
        return {name: np.concatenate([table[name] for table in self.tables]) for name in self.tables[0]}


def assert_equal_tables(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, column in expected.items():
        assert found[name].dtype == column.dtype, name
        # the eccentricity of a circle is the root of a difference of almost equal numbers
        np.testing.assert_allclose(found[name], column, rtol=1e-9, atol=1e-6 if name == "eccentricity" else 1e-9)


@pytest.mark.parametrize("size", [16, 37, 64, 200])
@pytest.mark.parametrize("seed", range(4))
def test_the_table_is_that_of_the_plane(seed, size):
    labels = instances_from_scores(blobs(seed, (110, 130), 1 + seed), 0.45)
    image = np.random.default_rng(seed).random((2, 110, 130))
    grid = BlockGrid(planes=1, height=110, width=130, size=size)
    found = measured(labels[None], grid, image[None])
    rows = Rows()
    write_plane(rows, "a.tif", grid, 0, lambda block: found[block.number], (0.5, 0.5), "um")
    table = rows.whole()
    order = np.argsort(table["label"])
    expected = object_table(labels, image, (0.5, 0.5), "um")
    assert_equal_tables({name: column[order] for name, column in table.items()}, expected)


@pytest.mark.parametrize("seed", range(6))
def test_objects_of_scores_by_blocks_have_the_measures_of_the_objects_of_the_plane(seed):
    scores = blobs(seed, (2, 100, 120), (0, 2, 2))
    options = {"connectivity": 1 + seed % 2, "fill_holes": 4, "split": seed % 3}
    grid = BlockGrid(2, 100, 120, size=(16, 24, 50)[seed % 3])
    blocks = objects_of_blocks(scores, grid, halo=120, min_area=9, **options)
    joined, read = read_joined(grid, blocks, min_area=9)
    found = [
        measure_block(
            final_labels(read, grid, block, gap=3, objects=joined.objects[block.plane], margin=2),
            grid,
            block,
            window(scores, grid, block.number),
        )
        for block in grid
    ]
    for plane in range(2):
        rows = Rows()
        write_plane(rows, "a.tif", grid, plane, lambda block: found[block.number])
        table = rows.whole()
        np.testing.assert_array_equal(table["label"], np.arange(1, joined.objects[plane] + 1))  # in order

        labels = instances_from_scores(scores[plane], min_area=9, gap=3, **options)
        expected = object_table(labels, scores[plane])
        assert len(table["label"]) == len(expected["label"]) > 5
        places = ("area_px", "centroid_y_px", "centroid_x_px")
        first, second = (np.lexsort([np.round(t[name], 6) for name in places]) for t in (table, expected))
        assert_equal_tables(
            {name: column[first] for name, column in table.items() if name != "label"},
            {name: column[second] for name, column in expected.items() if name != "label"},
        )


def test_measures_far_from_the_origin_keep_their_digits():
    labels = instances_from_scores(blobs(1, (60, 60)), 0.4)
    halves = [slice(0, 31), slice(31, 60)]
    parts = [ObjectMeasures.of(labels, core=(rows, slice(0, 60)), origin=(99_000, 98_000)) for rows in halves]
    there, here = measures_table(ObjectMeasures.merged(parts)), object_table(labels)
    for name in ("area_px", "perimeter_px", "major_axis_px", "minor_axis_px"):
        np.testing.assert_allclose(there[name], here[name], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(there["centroid_y_px"], here["centroid_y_px"] + 99_000, rtol=1e-12)
    np.testing.assert_array_equal(there["bbox_left"], here["bbox_left"] + 98_000)


def test_planes_are_summarised_as_whole_images():
    labels = instances_from_scores(blobs(3, (70, 90)))
    classes = np.digitize(blobs(4, (70, 90)), [0.4, 0.6])
    grid = BlockGrid(planes=1, height=70, width=90, size=32)
    found = measured(labels[None], grid, classes=classes[None])
    names = ("background", "cell", "fluid")
    summary = write_plane(Rows(), "a", grid, 0, lambda b: found[b.number], (2, 3), "nm", names)
    expected = image_summary(labels, classes, names, (2, 3), "nm")
    del expected["objects_fluid"]  # regions of other classes are not joined
    assert summary == expected
    plain = measured(labels[None], grid)
    assert write_plane(Rows(), "a", grid, 0, lambda b: plain[b.number]) == image_summary(labels)


def test_the_file_of_a_plane_by_blocks_equals_the_file_of_the_whole_plane(tmp_path):
    labels = instances_from_scores(blobs(5, (60, 80)))
    grey = np.random.default_rng(5).integers(0, 255, (60, 80)).astype(np.uint8)
    grid = BlockGrid(planes=1, height=60, width=80, size=16)
    for number, found in enumerate(measured(labels[None], grid, grey[None])):
        found.save(tmp_path / f"{number}.npz")
    table = ObjectsCSV(tmp_path / "blocks.csv")
    write_plane(table, "a.tif", grid, 0, lambda block: BlockMeasures.load(tmp_path / f"{block.number}.npz"))
    table.close()
    whole = ObjectsCSV(tmp_path / "whole.csv")
    whole.add("a.tif", object_table(labels, grey))
    whole.close()
    rows = [
        sorted(read_csv(tmp_path / name), key=lambda row: int(row["label"])) for name in ("blocks.csv", "whole.csv")
    ]
    assert rows[0] == rows[1]


def test_planes_without_objects_have_the_columns_of_others(tmp_path):
    grid = BlockGrid(planes=1, height=20, width=30, size=16)
    found = measured(np.zeros((1, 20, 30), np.uint32), grid, np.zeros((1, 20, 30)))
    rows = Rows()
    summary = write_plane(rows, "a.tif", grid, 0, lambda block: found[block.number])
    assert_equal_tables(rows.whole(), object_table(np.zeros((20, 30), int), np.zeros((20, 30))))
    assert summary["objects"] == 0
    assert np.isnan(summary["median_area_px"])


def test_arrays_of_another_shape_are_refused():
    grid = BlockGrid(planes=1, height=40, width=40, size=20)
    labels = np.zeros((22, 22), int)
    with pytest.raises(ValueError, match=r"block 1.*22 x 22.*\(20, 20\)"):
        measure_block(np.zeros((20, 20), int), grid, grid[1])
    with pytest.raises(ValueError, match=r"image.*20 x 20.*\(3, 21, 20\)"):
        measure_block(labels, grid, grid[0], image=np.zeros((3, 21, 20)))
