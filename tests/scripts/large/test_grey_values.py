"""Grey values of blocks are scaled as those of the whole plane; percentiles are exact."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tifffile

from scripts.io import ImageFileError
from scripts.large import BlockGrid, BlockStatistics, GreyValues, LargeImage, open_source, plane_statistics
from scripts.large.percentiles import PercentileSearch, count_keys, from_key, to_keys
from scripts.transforms import normalize_image

H, W = 50, 61
RNG = np.random.default_rng(0)
CELLS = RNG.gamma(2.0, 0.1, (H, W)) + np.linspace(0, 0.2, W)  # skewed, with uneven light
IMAGES = {
    "uint8": (CELLS * 150).astype(np.uint8),
    "int8": (CELLS * 50 - 60).astype(np.int8),
    "uint16": (CELLS * 30000).astype(np.uint16),
    "int16": (CELLS * 9000 - 3000).astype(np.int16),
    "uint32": (CELLS * 1e6).astype(np.uint32),
    "uint32 with an offset": (CELLS * 200).astype(np.uint32) + np.uint32(2**31),
    "int32": (CELLS * 1e6 - 1e5).astype(np.int32),
    "float16": CELLS.astype(np.float16),
    "float32": CELLS.astype(np.float32),
    "float32 with an offset": (CELLS * 50).astype(np.float32) + np.float32(1e6),
    "float64": CELLS * 7,
    "float64 with an offset": CELLS + 1e9,
    "large float64": CELLS * 1e200,
    "beyond float32": CELLS * 1e60,
    "small float64": CELLS * 1e-200,
    "mostly background": np.where(CELLS.max() == CELLS, 9, 1).astype(np.uint8),
    "mostly background, large": np.where(CELLS.max() == CELLS, 9e99, 1e99),
    "constant": np.full((H, W), 7, np.uint16),
    "constant float": np.full((H, W), 0.1, np.float32),
}


def source(folder: Path, planes: np.ndarray, axes: str = "ZCYX") -> LargeImage:
    """Write planes (P, C, H, W) as tiles and open them."""
    tifffile.imwrite(folder / "a.tif", planes, tile=(16, 16), photometric="minisblack", metadata={"axes": axes})
    return open_source(folder / "a.tif")


def by_blocks(image: LargeImage, plane: int, grid: BlockGrid, values: GreyValues) -> np.ndarray:
    result = np.full((image.header.channels, grid.height, grid.width), np.nan, np.float32)
    for block in grid:
        if block.plane == plane:
            part = values.normalize(image, plane, block.rows, block.columns)
            assert part.dtype == np.float32
            result[:, slice(*block.rows), slice(*block.columns)] = part
    return result


@pytest.mark.parametrize("flatten", [0.0, 3.0, 15.0])
@pytest.mark.parametrize("method", ["z_score", "percentile"])
@pytest.mark.parametrize("name", IMAGES)
def test_blocks_are_scaled_as_the_whole_plane(name: str, method: str, flatten: float, tmp_path: Path):
    array = IMAGES[name]
    image, grid = source(tmp_path, array[None, None]), BlockGrid(1, H, W, size=32)
    expected = normalize_image(array[None], method, flatten=flatten)
    found = by_blocks(image, 0, grid, plane_statistics(image, 0, grid, method, flatten))
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)
    if "constant" in name:
        assert (found == 0).all()
    else:
        assert found.std() > 0.01


@pytest.mark.parametrize("size", [16, 50, 200])
@pytest.mark.parametrize("method", ["z_score", "percentile"])
def test_channels_and_planes_have_scales_of_their_own(method: str, size: int, tmp_path: Path):
    planes = np.stack([np.stack([CELLS * 100, 50 + CELLS[::-1] * 30, np.full((H, W), 3)]) + 20 * k for k in range(2)])
    planes = planes.astype(np.uint16)
    image, grid = source(tmp_path, planes), BlockGrid(2, H, W, size)
    for plane in range(2):
        values = plane_statistics(image, plane, grid, method, lower=5, upper=90)
        expected = normalize_image(planes[plane], method, lower=5, upper=90)
        np.testing.assert_allclose(by_blocks(image, plane, grid, values), expected, atol=1e-5)
        assert values.scales[2] == 0
        blocks = [block for block in grid if block.plane == plane]
        regions = [planes[plane, :, slice(*block.rows), slice(*block.columns)] for block in blocks]
        assert values.maxima == tuple(region.max() for region in regions)


def test_variances_do_not_cancel_at_a_large_offset():
    values = RNG.normal(0, 1, (1, 40, 50)) + 1e9
    parts = [BlockStatistics.of(part) for part in np.array_split(values, 7, axis=1)]
    for order in (parts, parts[::-1]):
        total = order[0]
        for part in order[1:]:
            total = total.merge(part)
        assert total.count == 2000
        np.testing.assert_allclose(total.mean, values.mean(), rtol=1e-15)
        np.testing.assert_allclose(total.squares / total.count, values.var(), rtol=1e-7)
        assert (total.lowest, total.highest) == (values.min(), values.max())


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64, "f2", "f4", "f8"]
)
def test_percentiles_are_those_of_sorted_values(dtype: str):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        values = np.concatenate([RNG.normal(0, 30, (2, 998)), [[0.0, -0.0]] * 2], axis=1).astype(dtype)
    else:
        ends = np.iinfo(dtype)
        values = RNG.integers(ends.min, ends.max, (2, 1000), dtype=dtype, endpoint=True)
    assert (values[0][np.argsort(to_keys(values[0]))] == np.sort(values[0])).all()
    assert [from_key(int(key), dtype) for key in to_keys(values[0])] == [float(value) for value in values[0]]
    percents = (0, 1, 12.34, 50, 99, 100)
    search, passes = PercentileSearch(dtype, 1000, 2, percents), 0
    while not search.done:
        search.add(sum(count_keys(part, search.prefixes, search.known) for part in np.array_split(values, 3, axis=1)))
        passes += 1
    assert passes == max(1, dtype.itemsize // 2)
    exact = values.astype(np.float64)
    for percent in percents:
        np.testing.assert_allclose(search.percentile(percent), np.percentile(exact, percent, axis=1), rtol=1e-14)


def test_workers_find_the_same_scale(tmp_path: Path):
    image, grid = source(tmp_path, IMAGES["float32"][None, None]), BlockGrid(1, H, W, size=16)
    expected = plane_statistics(image, 0, grid, "percentile", flatten=2)
    with ThreadPoolExecutor(3) as threads:
        assert plane_statistics(image, 0, grid, "percentile", flatten=2, run=threads.map) == expected
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        assert plane_statistics(image, 0, grid, "percentile", flatten=2, run=processes.map) == expected


def test_scales_survive_json(tmp_path: Path):
    image, grid = source(tmp_path, IMAGES["float64"][None, None]), BlockGrid(1, H, W, size=32)
    values = plane_statistics(image, 0, grid, flatten=2)
    assert GreyValues.from_json(json.loads(json.dumps(values.as_json()))) == values
    for wrong in ({}, {"offsets": [1.0]}, {"offsets": [1.0], "scales": ["x"]}, {"offsets": [1.0], "scales": 2.0}):
        with pytest.raises(ValueError, match="offsets"):
            GreyValues.from_json(wrong)


def test_given_scales_need_no_pass(tmp_path: Path):
    image = source(tmp_path, np.stack([IMAGES["uint8"], IMAGES["uint8"]])[None])
    part = GreyValues((10.0, 20.0), (2.0, 4.0)).normalize(image, 0, (3, 9), (5, 6))
    expected = IMAGES["uint8"][3:9, 5:6].astype(float)
    np.testing.assert_allclose(part, [(expected - 10) / 2, (expected - 20) / 4])
    with pytest.raises(ValueError, match="2 channels"):
        GreyValues((10.0,), (2.0,)).normalize(image, 0, (3, 9), (5, 6))


@pytest.mark.parametrize(
    "offsets, scales, flatten",
    [((1.0,), (), 0), ((), (), 0), ((np.nan,), (1.0,), 0), ((0.0,), (-1.0,), 0), ((0.0,), (1.0,), 0.5)],
)
def test_impossible_scales_are_refused(offsets: tuple, scales: tuple, flatten: float):
    with pytest.raises(ValueError, match=r"expected|flatten"):
        GreyValues(offsets, scales, flatten)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_number_are_named_with_their_place(value: float, tmp_path: Path):
    planes = np.stack([CELLS, CELLS])[:, None].astype(np.float32)
    planes[1, 0, 40, 57] = value
    image, grid = source(tmp_path, planes), BlockGrid(2, H, W, size=32)
    plane_statistics(image, 0, grid)
    for use in (
        lambda: plane_statistics(image, 1, grid, flatten=3),
        lambda: GreyValues((0.0,), (1.0,)).normalize(image, 1, (32, 50), (32, 61)),
    ):
        with pytest.raises(ImageFileError, match=r"a\.tif, plane 1.* row 40, column 57"):
            use()


def test_unknown_methods_and_ranges_are_refused(tmp_path: Path):
    image, grid = source(tmp_path, CELLS[None, None]), BlockGrid(1, H, W, size=32)
    for wrong in ({"method": "mean"}, {"method": "percentile", "lower": 99, "upper": 1}, {"flatten": 0.5}):
        with pytest.raises(ValueError, match=r"method|percentiles|flatten"):
            plane_statistics(image, 0, grid, **wrong)
