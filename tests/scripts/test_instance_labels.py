"""Labels as read -> classes and instances: components, the separation gap on arrays to check by eye, errors."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from skimage.io import imread, imsave

from scripts.instance_labels import InstanceLabelsd, instances_from_mask, separation_gap
from scripts.weight_maps import WeightMapd


def made(text: str) -> np.ndarray:
    return np.array([[int(c) for c in row] for row in text.split()])


def least_distance(instances: np.ndarray) -> float:
    """Rows or columns, whichever is more, between the closest pixels of different instances; pair by pair."""
    pixels = [(tuple(position), instances[tuple(position)]) for position in np.argwhere(instances > 0)]
    pairs = product(pixels, pixels)
    return min((max(abs(p[0] - q[0]), abs(p[1] - q[1])) for (p, i), (q, j) in pairs if i != j), default=np.inf)


@pytest.mark.parametrize(
    "mask, connectivity, expected",
    [
        ("1100 1100 0011", 1, "1100 1100 0022"),
        ("1100 1100 0011", 2, "1100 1100 0011"),
        ("1122 1122", 1, "1122 1122"),  # classes: equal values only
        ("3", 1, "1"),
        ("000", 1, "000"),
    ],
)
def test_components(mask: str, connectivity: int, expected: str) -> None:
    instances = instances_from_mask(made(mask), connectivity)
    np.testing.assert_array_equal(instances, made(expected))
    assert instances.dtype == np.int32


def test_touching_cells_of_a_mask_are_one_instance() -> None:
    assert instances_from_mask(made("1122 1122") > 0).max() == 1


@pytest.mark.parametrize(
    "before, width, after",
    [
        ("11112222", 0, "11112222"),
        ("11112222", 1, "11110222"),  # the later one in reading order gives way first,
        ("11112222", 2, "11100222"),  # then the earlier one, in turn
        ("11112222", 3, "11100022"),
        ("11112222", 4, "11000022"),
        ("1111 1111 2222 2222", 1, "1111 1111 0000 2222"),
        ("1100 1100 0022 0022", 1, "1100 1100 0002 0022"),  # corners touch too
        ("0022 0022 1100 1100", 1, "0022 0022 1000 1100"),
        ("111022", 1, "111022"),  # wide enough already
        ("111022", 2, "110022"),
        ("11110000", 3, "11110000"),
        ("0", 2, "0"),
    ],
)
def test_gap_by_hand(before: str, width: int, after: str) -> None:
    np.testing.assert_array_equal(separation_gap(made(before), width), made(after))


@pytest.mark.parametrize(
    "before, width, after",
    [
        ("11121111", 1, "11020111"),  # cell 1 gives way on both sides of the one-pixel cell 2
        ("1111 1211 1111", 1, "0001 0201 0001"),
        ("12", 1, "12"),  # neither can give way: no gap rather than no cell
        ("1233", 2, "1203"),
    ],
)
def test_no_instance_vanishes(before: str, width: int, after: str) -> None:
    np.testing.assert_array_equal(separation_gap(made(before), width), made(after))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_gap_is_as_wide_as_asked_and_takes_only_what_it_must(width: int) -> None:
    rng = np.random.default_rng(width)
    seeds = np.array([(6, 5), (8, 22), (22, 9), (24, 26)]) + rng.integers(-2, 3, (4, 2))
    grid = np.indices((32, 32)).transpose(1, 2, 0)
    before = 1 + np.square(grid[:, :, None] - seeds).sum(-1).argmin(-1)  # four cells that fill the image
    after = separation_gap(before, width)
    assert least_distance(after) == width + 1
    assert set(np.unique(after)) == {0, 1, 2, 3, 4}
    assert ((after == before) | (after == 0)).all()
    assert (separation_gap(after, width) == after).all()


def test_every_instance_survives_any_gap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        before = rng.integers(0, 9, (12, 12))
        for width in (1, 2, 3):
            assert set(np.unique(before[before > 0])) == set(np.unique(separation_gap(before, width))) - {0}


def test_gap_leaves_pixels_that_are_not_annotated() -> None:
    np.testing.assert_array_equal(separation_gap(np.array([[-1, 1, 1, 2, 2, -1]])), [[-1, 1, 1, 0, 2, -1]])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: separation_gap(made("12"), -1), "0 px or more, got -1"),
        (lambda: separation_gap(np.zeros((1, 2, 2), dtype=int)), r"\(height, width\), got shape \(1, 2, 2\)"),
        (lambda: instances_from_mask(made("12"), 4), "connectivity must be 1"),
        (lambda: instances_from_mask(np.zeros((1, 2, 2), dtype=int)), r"\(height, width\), got shape \(1, 2, 2\)"),
        (lambda: InstanceLabelsd(kind="mask"), "kind must be one of"),
        (lambda: InstanceLabelsd(class_values=[0, 255]), 'class_values needs kind "classes"'),
        (lambda: InstanceLabelsd(kind="classes", class_values={0: 0, 255: 2}), r"classes \[2\], but out_channels is 2"),
        (lambda: InstanceLabelsd(out_channels=1), "at least 2"),
        (lambda: InstanceLabelsd(keys=["label", "second"]), "one key per label"),
    ],
)
def test_errors_of_functions_and_options(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def read(values: np.ndarray, dtype: torch.dtype = torch.float32) -> dict[str, MetaTensor]:
    tensor = torch.as_tensor(np.asarray(values)[None]).to(dtype)
    return {"label": MetaTensor(tensor, meta={"filename_or_obj": "labels/03.png"})}


@pytest.mark.parametrize(
    "options, values, classes, instances",
    [
        ({"kind": "binary"}, [[255, 255, 0, 255]], [[1, 1, 0, 1]], [[1, 1, 0, 2]]),
        ({"kind": "binary", "ignore_value": 9}, [[255, 9, 0, 255]], [[1, -1, 0, 1]], [[1, -1, 0, 2]]),
        ({"kind": "instances"}, [[5, 5, 300, 300]], [[1, 1, 0, 1]], [[5, 5, 0, 300]]),
        ({"kind": "instances", "separation_gap": 0}, [[5, 5, 9, 9]], [[1, 1, 1, 1]], [[5, 5, 9, 9]]),
        ({"kind": "instances", "ignore_value": -1}, [[5, 5, -1, 9]], [[1, 1, -1, 1]], [[5, 5, -1, 9]]),
        ({"kind": "classes", "out_channels": 3}, [[0, 1, 2, 2, 0, 1]], [[0, 1, 2, 2, 0, 1]], [[0, 1, 2, 2, 0, 3]]),
        (
            {"kind": "classes", "out_channels": 3, "class_values": {0: 0, 32: 0, 255: 2, 159: 1}, "ignore_value": 7},
            [[0, 32, 255, 159, 7]],
            [[0, 0, 2, 1, -1]],
            [[0, 0, 1, 2, -1]],
        ),
        ({"kind": "classes", "class_values": [255, 0]}, [[0, 255, 0]], [[1, 0, 1]], [[1, 0, 2]]),
        ({"kind": "classes", "ignore_value": 255}, [[0, 1, 255]], [[0, 1, -1]], [[0, 1, -1]]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int64])
def test_kinds(options, values, classes, instances, dtype) -> None:
    data = read(np.array(values), dtype)
    out = InstanceLabelsd(**options)(data)
    np.testing.assert_array_equal(out["label"][0], classes)
    np.testing.assert_array_equal(out["instances"][0], instances)
    assert out["label"].dtype == torch.float32
    assert out["instances"].dtype == torch.int32
    assert all(out[key].meta["filename_or_obj"] == "labels/03.png" for key in ("label", "instances"))
    np.testing.assert_array_equal(data["label"][0], values)  # the input is left alone


@pytest.mark.parametrize(
    "options, values, message",
    [
        (
            {"kind": "classes"},
            np.array([[0, 1, 2]]),
            "labels/03.png: found the values 2.*expected 0, 1. Raise out_channels",
        ),
        ({"kind": "classes"}, np.array([[0, 255]]), 'class_values, set ignore_value, or choose kind "binary"'),
        ({"kind": "classes"}, np.array([[0, 0.5]]), "found the values 0.5"),
        ({"kind": "classes", "class_values": [0, 255]}, np.array([[0, 254]]), "found the values 254.*expected 0, 255"),
        ({"kind": "instances"}, np.array([[0, 0.5]]), "labels/03.png: object numbers must be whole.*got 0.5"),
        ({"kind": "instances"}, np.array([[0, -2]]), "got -2"),
        ({"kind": "binary"}, np.array([[0, np.nan]]), "NaN or infinite"),
    ],
)
def test_values_that_mean_nothing_name_file_value_and_remedy(options, values, message) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceLabelsd(**options)(read(values))


def test_colour_and_missing_channel_name_the_file() -> None:
    for shape in ((3, 4, 4), (4, 4), (1, 2, 4, 4)):
        data = {"label": MetaTensor(torch.zeros(shape), meta={"filename_or_obj": "rgb.png"})}
        with pytest.raises(ValueError, match=r"rgb.png: expected one channel, \(1, height, width\)"):
            InstanceLabelsd()(data)


def test_missing_key() -> None:
    with pytest.raises(KeyError, match="label"):
        InstanceLabelsd()({})
    assert InstanceLabelsd(allow_missing_keys=True)({}) == {}


def test_arrays_and_plain_tensors_have_no_file_name_to_give() -> None:
    out = InstanceLabelsd()({"label": np.array([[[0, 255]]], dtype=np.uint8)})
    assert isinstance(out["instances"], np.ndarray)
    with pytest.raises(ValueError, match="'label' \\(no file name known\\)"):
        InstanceLabelsd(kind="classes")({"label": torch.tensor([[[0, 255]]])})


def test_configs_can_name_it_with_values_as_a_mapping_or_a_list(tmp_path: Path) -> None:
    for values in ({0: 0, 32: 0, 255: 1}, {"0": 0, "32": 0, "255": 1}):
        parser = ConfigParser(
            {"step": {"_target_": "scripts.instance_labels.InstanceLabelsd", "kind": "classes", "class_values": values}}
        )
        out = parser.get_parsed_content("step")(read(np.array([[32, 255]])))
        np.testing.assert_array_equal(out["label"][0], [[0, 1]])


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")  # MONAI's, about a decoder not used here
def test_from_file_to_weight_map_is_not_transposed(tmp_path: Path) -> None:
    values = np.zeros((6, 11), dtype=np.uint8)
    values[1, 2:5], values[3, 2:5] = 3, 4
    imsave(tmp_path / "a.png", values, check_contrast=False)
    steps = [
        LoadImaged("label", reader="PILReader", reverse_indexing=False),
        EnsureChannelFirstd("label"),
        InstanceLabelsd(kind="instances"),
        WeightMapd(),
    ]
    out = Compose(steps)({"label": str(tmp_path / "a.png")})
    np.testing.assert_array_equal(out["instances"][0], values)
    assert out["weight"].shape == (1, 6, 11)
    assert out["weight"][0, 2, 3] == out["weight"].max()


def test_real_slices_have_as_many_cells_as_stated(data_root: Path) -> None:
    files = sorted((data_root / "isbi2012" / "train" / "labels").glob("*.png"))
    counts = [instances_from_mask(imread(file) > 0).max() for file in files]
    assert len(files) == 25
    assert (min(counts), max(counts)) == (88, 137)
