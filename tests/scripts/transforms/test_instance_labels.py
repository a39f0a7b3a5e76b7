"""Label images become classes and instances: components, kinds of labels, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from skimage.io import imread, imsave

from scripts.metrics.ignite import InstanceScore, SegScore
from scripts.transforms.instance_labels import KINDS, InstanceLabelsd, instances_from_mask
from scripts.transforms.weight_maps import WeightMapd
from tests.scripts.transforms.arrays import made


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
def test_connected_components(mask: str, connectivity: int, expected: str) -> None:
    instances = instances_from_mask(made(mask), connectivity)
    np.testing.assert_array_equal(instances, made(expected))
    assert instances.dtype == np.int32


def test_touching_cells_of_a_mask_are_one_instance() -> None:
    assert instances_from_mask(made("1122 1122") > 0).max() == 1


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: instances_from_mask(made("12"), 4), "connectivity must be 1"),
        (lambda: instances_from_mask(np.zeros((1, 2, 2), dtype=int)), r"\(height, width\), got shape \(1, 2, 2\)"),
        (lambda: InstanceLabelsd(kind="mask"), "kind must be one of"),
        (lambda: InstanceLabelsd(class_values=[0, 255]), "label_kind classes"),
        (lambda: InstanceLabelsd(kind="classes", class_values={0: 0, 255: 2}), r"classes \[2\].*has 2"),
        (lambda: InstanceLabelsd(out_channels=1), "at least 2"),
        (lambda: InstanceLabelsd(keys=["label", "second"]), "one key per label"),
        (lambda: InstanceLabelsd(reference_key=["reference", "second"]), "reference_key must name one key per label"),
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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.int64])
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
            r"labels/03\.png: .*2 are no classes.* 0,1\..*3 classes in --class_names",
        ),
        (
            {"kind": "classes"},
            np.array([[0, 255]]),
            r'255 are no classes.*--label_values "\[0,255\]".*--label_kind instances.*#ignore_value',
        ),
        ({"kind": "classes"}, np.array([[0, 0.5]]), "0.5 are no classes"),
        ({"kind": "classes", "class_values": [0, 255]}, np.array([[0, 254]]), "254 are no classes.* 0,255"),
        ({"kind": "instances"}, np.array([[0, 0.5]]), r"labels/03\.png: object.*0\.5"),
        ({"kind": "instances"}, np.array([[0, -2]]), "got -2"),
        ({"kind": "binary"}, np.array([[0, np.nan]]), "NaN or infinite"),
    ],
)
def test_values_that_mean_nothing_name_file_value_and_remedy(options, values, message) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceLabelsd(**options)(read(values))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float64])
def test_numbers_that_single_precision_would_join_are_refused_in_it_alone(dtype: torch.dtype) -> None:
    """2^24 and 2^24 + 1 are the same float32."""
    step = InstanceLabelsd(kind="instances", reference_key="reference")
    large = np.array([[2**24, 2**24 + 1, 0]])
    np.testing.assert_array_equal(step(read(large, dtype))["reference"][0], large)
    for data in (read(large), {**read(np.array([[5, 5, 0]])), "markers": large[None].astype(np.float32)}):
        with pytest.raises(ValueError, match=r"labels/03\.png: .*2\^24.*float32.*16777216.*int32"):
            InstanceLabelsd(kind="instances", markers_key="markers")(data)
    below = np.array([[2**24 - 2, 2**24 - 1, 0]])
    np.testing.assert_array_equal(step(read(below))["reference"][0], below)
    assert InstanceLabelsd(kind="binary")(read(large))["label"].sum() == 2  # their numbers mean nothing


MARKERS = "0700800003"  # the last marker lies on no object; the middle to the next marker is at 6.5


@pytest.mark.parametrize(
    "options, values, reference, label",
    [
        ({"kind": "instances"}, "0552200000", "0552200---", "0110100---"),
        ({"kind": "instances", "separation_gap": 0}, "0552200000", "0552200---", "0111100---"),
        ({"kind": "binary"}, "0550200000", "0110200---", "0110100---"),
        ({"kind": "classes", "out_channels": 3}, "0110200000", "0110200---", "0110200---"),
        ({"kind": "instances", "ignore_value": 9}, "9552200000", "-552200---", "-110100---"),
        ({"kind": "binary", "ignore_value": 9}, "9550200000", "-110200---", "-110100---"),
        ({"kind": "classes", "out_channels": 3, "ignore_value": 9}, "9110200000", "-110200---", "-110200---"),
        (
            {"kind": "instances", "ignore_value": 9},
            "0552200009",
            "055220000-",
            "011010000-",
        ),  # known without the marker
    ],
)
def test_markers_and_reference_in_all_kinds(options: dict, values: str, reference: str, label: str) -> None:
    data = {**read(made(values)), "markers": MetaTensor(made(MARKERS)[None]).float()}
    out = InstanceLabelsd(markers_key="markers", reference_key="reference", **options)(data)
    np.testing.assert_array_equal(out["reference"][0], made(reference))
    np.testing.assert_array_equal(out["label"][0], made(label))
    np.testing.assert_array_equal(out["instances"][0], np.where(made(label) > 0, made(reference), made(label)))
    assert out["reference"].dtype == torch.int32
    assert out["reference"].meta["filename_or_obj"] == "labels/03.png"
    assert out["markers"] is data["markers"]
    for method in ("unet", "plugin", "none"):
        weight = WeightMapd(method=method)(out)["weight"]
        np.testing.assert_array_equal(weight[0] == 0, made(reference) < 0)


def test_without_markers_everything_is_annotated() -> None:
    """Items may lack the markers key."""
    label = made("0552200000")
    plain = InstanceLabelsd(kind="instances", reference_key="reference")(read(label))
    named = InstanceLabelsd(kind="instances", reference_key="reference", markers_key="markers")(read(label))
    marked = {**read(label), "markers": made(MARKERS)[None]}
    unasked = InstanceLabelsd(kind="instances", reference_key="reference")(marked)
    for item in (plain, named, unasked):
        np.testing.assert_array_equal(item["reference"][0], label)
        np.testing.assert_array_equal(item["label"][0], made("0110100000"))
    assert "reference" not in InstanceLabelsd(kind="instances")(read(label))


def test_every_label_has_a_reference_of_its_own_and_the_markers_in_common() -> None:
    data = {
        "first": torch.tensor(made("0552200000")[None]),
        "second": torch.tensor(made("0552200044")[None]),
        "markers": made(MARKERS)[None],
    }
    step = InstanceLabelsd(
        ["first", "second"], ["a", "b"], kind="instances", markers_key="markers", reference_key=["c", "d"]
    )
    out = step(data)
    np.testing.assert_array_equal(out["c"][0], made("0552200---"))
    np.testing.assert_array_equal(out["d"][0], made("0552200044"))


@pytest.mark.parametrize(
    "markers, message",
    [
        (np.zeros((1, 1, 9)), r"labels/03.png: markers have the shape \(1, 9\), the objects \(1, 10\)"),
        (np.zeros((1, 10)), r"labels/03.png: expected one channel, \(1, height, width\), got shape \(1, 10\)"),
        (np.full((1, 1, 10), 0.5), r"labels/03\.png: marker.*0\.5"),
        (np.full((1, 1, 10), np.nan), "marker.*nan"),
    ],
)
def test_markers_that_do_not_fit_are_refused(markers: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceLabelsd(kind="instances", markers_key="markers")({**read(made("0552200000")), "markers": markers})


def test_scores_leave_out_what_is_not_annotated() -> None:
    """A predicted cell without a mask is not a false positive. SEG counts only the two cells with a mask."""
    item = InstanceLabelsd(kind="instances", markers_key="markers", reference_key="reference")(
        {**read(made("0552200000")), "markers": made(MARKERS)[None]}
    )
    expected = {
        "0112200333": (1, 1, 1),  # the third object lies where nothing is known
        "0112200000": (1, 1, 1),
        "0112203333": (1, 1, 1),  # by more than half
        "0112240000": (1, 2 / 3, 1),  # on annotated background: false for the instance scores, free in SEG
        "0110000333": (1 / 2, 1, 1 / 2),
    }
    for result, scores in expected.items():
        engine = Engine(lambda _, batch: batch)
        SegScore().attach(engine, "seg")
        InstanceScore(measure="precision").attach(engine, "precision")
        InstanceScore(measure="recall").attach(engine, "recall")
        metrics = engine.run([[{**item, "pred_instances": torch.from_numpy(made(result))[None]}]]).metrics
        assert (metrics["seg"], metrics["precision"], metrics["recall"]) == pytest.approx(scores), result


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
            {"step": {"_target_": "scripts.transforms.InstanceLabelsd", "kind": "classes", "class_values": values}}
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


@pytest.mark.parametrize("kind", KINDS)
def test_background_in_the_border_of_the_field_weighs_nothing(kind: str) -> None:
    label = torch.zeros(1, 6, 6)
    label[:, 0:3, 2:4] = 1
    prepare = InstanceLabelsd(kind=kind, field_border=1, reference_key="reference")
    item = WeightMapd()(prepare({"label": label}))
    rim = np.ones((6, 6), bool)
    rim[1:-1, 1:-1] = False
    unknown = rim & (label[0].numpy() == 0)
    for key in ("label", "instances", "reference"):
        np.testing.assert_array_equal(np.asarray(item[key])[0] < 0, unknown)
    np.testing.assert_array_equal(np.asarray(item["weight"])[0] == 0, unknown)
