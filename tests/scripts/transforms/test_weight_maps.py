"""Eq. 2 against the literal formula, values computed by hand, and a real EM slice."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, Dataset, MetaTensor
from monai.transforms import Compose
from scipy.ndimage import distance_transform_edt
from skimage.io import imread

from scripts.losses import WeightedCrossEntropyLoss
from scripts.transforms.elastic import Rand2DElasticTiled
from scripts.transforms.instance_labels import InstanceLabelsd, instances_from_mask
from scripts.transforms.resampling import apply_displacements
from scripts.transforms.weight_maps import WeightMapd, balance_classes, plugin_weight_map, weight_map
from tests.scripts.transforms.arrays import blobs, literal_distances, made, random_cells


def literal_weight_map(instances: np.ndarray, w0: float, sigma: float, everywhere: bool = False) -> np.ndarray:
    d1, d2 = literal_distances(instances, everywhere)
    border = w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return 1 + (border if everywhere else border * (instances == 0))


HAND_MADE = {
    "one pixel, empty": made("0"),
    "one pixel, a cell": made("1"),
    "no cell": np.zeros((5, 7), dtype=int),
    "one cell": made("00000 01100 00000"),
    "one cell fills the image": np.full((4, 3), 9),
    "abutting": made("000000 011220 011220 000000"),
    "two fill the image": made("1122 1122"),
    "nested": made("0000000 0111110 0100010 0102010 0100010 0111110 0000000"),
    "at the corners": made("10002 00000 30004"),
    "one cell in two pieces": made("1020001"),
    "a row": made("1002003"),
    "a column": made("1002003").T,
    "far apart": np.pad(made("1"), (0, 40)) + np.pad(made("2"), (40, 0)),
}


@pytest.mark.parametrize("everywhere", [False, True], ids=["background", "everywhere"])
@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_maps_equal_the_literal_formula(name: str, everywhere: bool) -> None:
    ours = weight_map(HAND_MADE[name], border="everywhere" if everywhere else "background")
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, literal_weight_map(HAND_MADE[name], 10, 5, everywhere), atol=1e-5, rtol=0)


@pytest.mark.parametrize("everywhere", [False, True], ids=["background", "everywhere"])
@pytest.mark.parametrize("w0, sigma", [(10, 5), (10, 1), (3, 12), (100, 2.5), (1e-7, 5), (0, 5)])
@pytest.mark.parametrize(
    "size, cells", [((40, 56), 9), ((64, 31), 40), ((1, 90), 12), ((90, 1), 12), ((33, 33), 2)], ids=str
)
def test_random_maps_equal_the_literal_formula(size, cells, w0, sigma, everywhere) -> None:
    instances = random_cells(seed=sum(size), size=size, cells=cells)
    ours = weight_map(instances, w0, sigma, border="everywhere" if everywhere else "background")
    np.testing.assert_allclose(ours, literal_weight_map(instances, w0, sigma, everywhere), atol=1e-5, rtol=0)


def test_strip_by_hand() -> None:
    # Cells at the columns 0 and 4: columns 1, 2, 3 lie 1 + 3, 2 + 2, 3 + 1 from them, columns 5 and 6 1 + 5 and 2 + 6.
    weight = weight_map(np.array([[7, 0, 0, 0, 2, 0, 0]]))
    between, after, last = (1 + 10 * math.exp(-(d**2) / 50) for d in (4, 6, 8))
    np.testing.assert_allclose(weight, [[1, between, between, between, 1, after, last]], atol=1e-6)


def test_strip_by_hand_everywhere() -> None:
    # The outline of cell 1 is column 3, next to the background. The image edge is no outline.
    instances = np.array([[1, 1, 1, 1, 0, 2, 2]])
    d1_plus_d2 = np.array([3 + 5, 2 + 4, 1 + 3, 0 + 2, 1 + 1, 0 + 2, 1 + 3])
    expected = 1 + 10 * np.exp(-(d1_plus_d2**2) / 50)
    np.testing.assert_allclose(weight_map(instances, border="everywhere")[0], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_type_gives_the_same(dtype: type) -> None:
    instances = HAND_MADE["nested"]
    expected = weight_map(instances, class_balance="per_image")
    np.testing.assert_array_equal(weight_map(instances.astype(dtype), class_balance="per_image"), expected)


@pytest.mark.parametrize("view", [np.asfortranarray, lambda x: np.repeat(x, 2, 1)[:, ::2], lambda x: x[::-1][::-1]])
@pytest.mark.parametrize("function", [weight_map, plugin_weight_map, lambda x: weight_map(x, border="everywhere")])
def test_order_in_memory_does_not_matter(function, view) -> None:
    instances = random_cells(seed=4, size=(30, 50), cells=9)
    np.testing.assert_array_equal(function(view(instances)), function(instances))


def test_not_annotated_weighs_nothing_and_is_no_cell() -> None:
    weight = weight_map(np.array([[1, 0, -1, 0, 2]]), class_balance="per_image")
    border = 10 * math.exp(-16 / 50)
    np.testing.assert_allclose(weight, [[1, 1 + border, 0, 1 + border, 1]], atol=1e-6)
    np.testing.assert_array_equal(weight_map(np.array([[1, 0, 2]]), labels=np.array([[1, -1, 1]])), [[1, 0, 1]])


def test_touching_cells_have_a_border_only_where_instances_are_known() -> None:
    instances = made("0000000 0111220 0111220 0000000")
    from_mask = weight_map(instances_from_mask(instances > 0))
    assert (from_mask == 1).all()  # the trap: one component, no border anywhere
    assert weight_map(instances).max() > 1 + 10 * math.exp(-9 / 50)


def test_balance_by_hand() -> None:
    labels = np.array([[0, 0, 0, 1], [0, 0, 0, 1]])  # 6 and 2 of 8 pixels, 2 classes: 8 / 12 and 8 / 4
    np.testing.assert_allclose(balance_classes(labels), np.where(labels == 1, 2, 2 / 3), atol=1e-6)
    np.testing.assert_allclose(
        weight_map(labels, class_balance="per_image"), np.where(labels == 1, 2, 2 / 3), atol=1e-6
    )


def test_balance_of_an_absent_class_and_of_pixels_not_annotated() -> None:
    labels = np.array([[0, 3, -1, 3, 3]])  # 4 annotated pixels, 2 classes occur
    np.testing.assert_allclose(balance_classes(labels), [[2, 2 / 3, 0, 2 / 3, 2 / 3]], atol=1e-6)
    np.testing.assert_array_equal(balance_classes(np.full((2, 2), 4)), 1)
    np.testing.assert_array_equal(balance_classes(np.full((2, 2), -1)), 0)


def test_balance_given_and_none() -> None:
    labels = np.array([[0, 1, 2, -1]])
    np.testing.assert_array_equal(balance_classes(labels, [0.5, 2, 3]), np.float32([[0.5, 2, 3, 0]]))
    np.testing.assert_array_equal(balance_classes(labels, None), [[1, 1, 1, 0]])
    np.testing.assert_array_equal(
        weight_map(np.array([[0, 1, 1]]), class_balance=[0.5, 2], labels=np.array([[0, 1, 0]])), [[0.5, 2, 0.5]]
    )


def test_plugin_map_equals_its_formula() -> None:
    instances = random_cells(seed=3, size=(50, 60), cells=8)
    d1, d2 = literal_distances(instances)
    background = 0.1 + 0.9 * np.exp(-(d1**2) / 200) + 50 * np.exp(-((d1 + d2) ** 2) / 72)
    expected = np.where(instances > 0, 1, background)
    np.testing.assert_allclose(plugin_weight_map(instances), expected, atol=1e-5, rtol=0)


def test_plugin_map_without_cells_or_with_one() -> None:
    np.testing.assert_array_equal(plugin_weight_map(np.zeros((3, 3), dtype=int)), np.float32(0.1))
    one = plugin_weight_map(np.array([[1, 0, -1]]))
    np.testing.assert_allclose(one, [[1, 0.1 + 0.9 * math.exp(-1 / 200), 0]], atol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"instances": np.zeros((3, 3))}, "integer array, got float64"),
        ({"instances": np.zeros((3, 3, 3), dtype=int)}, r"\(height, width\), got shape \(3, 3, 3\)"),
        (
            {"labels": np.zeros((2, 2), dtype=int)},
            r"labels must have the shape of the instances, \(1, 4\), got \(2, 2\)",
        ),
        ({"sigma": 0}, "sigma must be above 0 px, got 0"),
        ({"w0": -1}, "height must be 0 or above, got -1"),
        ({"sigma": 1000}, "smaller sigma"),
        ({"border": "foreground"}, "border must be one of"),
        ({"class_balance": "per_batch"}, 'None, "per_image" or one weight per class'),
        ({"class_balance": [1.0]}, "1 weights, but class 1 occurs"),
        ({"class_balance": [1.0, -1.0]}, "at least 0"),
        ({"instances": np.array([[0, 2**31]])}, "below 2\\^31"),
    ],
)
def test_errors_say_what_was_expected(arguments: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        weight_map(**{"instances": np.array([[0, 1, 0, 2]]), **arguments})


def test_real_slice_equals_one_distance_map_per_cell(data_root: Path) -> None:
    mask = imread(data_root / "isbi2012" / "train" / "labels" / "00.png") > 0
    instances = instances_from_mask(mask)[:256, :256]
    nearest = np.full((2, *instances.shape), np.inf)
    for cell in np.unique(instances[instances > 0]):
        nearest = np.sort([*nearest, distance_transform_edt(instances != cell)], axis=0)[:2]
    expected = 1 + 10 * np.exp(-(nearest.sum(0) ** 2) / 50) * (instances == 0)
    ours = weight_map(instances)
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)
    assert ours.max() > 9  # membranes a few pixels wide


def item(label: np.ndarray, instances: np.ndarray) -> dict[str, MetaTensor]:
    meta = {"filename_or_obj": "07.png"}
    return {
        "label": MetaTensor(torch.tensor(label[None], dtype=torch.float32), meta=meta),
        "instances": MetaTensor(torch.tensor(instances[None], dtype=torch.int32), meta=meta),
    }


def test_transform_writes_a_float_map_with_the_labels_metadata_and_changes_nothing_else() -> None:
    instances = HAND_MADE["nested"]
    data = item(instances > 0, instances)
    out = WeightMapd()(data)
    assert set(data) == {"label", "instances"}
    assert isinstance(out["weight"], MetaTensor)
    assert out["weight"].dtype == torch.float32
    assert out["weight"].shape == (1, *instances.shape)
    assert out["weight"].meta["filename_or_obj"] == "07.png"
    np.testing.assert_array_equal(out["weight"][0], weight_map(instances, class_balance="per_image"))
    assert out["label"] is data["label"]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"class_balance": None}, weight_map(HAND_MADE["a row"])),
        ({"w0": 3, "sigma": 2, "class_balance": [1, 2]}, weight_map(HAND_MADE["a row"], 3, 2, [1, 2])),
        ({"border": "everywhere", "class_balance": None}, weight_map(HAND_MADE["a row"], border="everywhere")),
        ({"method": "plugin"}, plugin_weight_map(HAND_MADE["a row"])),
        ({"method": "plugin", "border_factor": 7}, plugin_weight_map(HAND_MADE["a row"], border_factor=7)),
        ({"method": "none"}, np.ones((1, 7))),
    ],
    ids=str,
)
def test_transform_equals_the_function(options: dict, expected: np.ndarray) -> None:
    instances = HAND_MADE["a row"]
    np.testing.assert_array_equal(WeightMapd(**options)(item(instances > 0, instances))["weight"][0], expected)


@pytest.mark.parametrize("method", ["unet", "plugin", "none"])
def test_transform_gives_weight_zero_where_not_annotated_and_leaves_the_labels_alone(method: str) -> None:
    data = item(np.array([[1, 0, -1, 1]]), np.array([[1, 0, -1, 2]]))
    out = WeightMapd(method=method)(data)
    np.testing.assert_array_equal(out["weight"][0] == 0, [[False, False, True, False]])
    assert out["label"] is data["label"]
    assert out["instances"] is data["instances"]


def test_a_deformation_lends_no_weight_to_pixels_that_are_not_annotated() -> None:
    # halves of a pixel: weights are interpolated between annotated and unannotated pixels, labels are not
    data = item(np.array([[1, 1, -1, -1, 0, 0]] * 4), np.array([[1, 1, -1, -1, 0, 0]] * 4))
    mapped = WeightMapd(method="none")(data)
    moved = {
        key: apply_displacements(mapped[key], np.full((2, 2, 2), 0.4), mode=mode)
        for key, mode in (("label", "nearest"), ("weight", "bilinear"))
    }
    assert ((moved["label"] < 0) & (moved["weight"] > 0)).any()  # the label has to prevent this weight
    scores = torch.zeros(1, 2, 4, 6, requires_grad=True)
    WeightedCrossEntropyLoss()(scores, torch.cat([moved["label"], moved["weight"]])[None]).backward()
    assert (scores.grad[0, 0] != 0).equal(moved["label"][0].as_tensor() >= 0)


def test_weights_may_be_computed_after_the_deformation_from_the_instances_it_moved() -> None:
    instances = random_cells(seed=6, size=(60, 50), cells=12)
    keys = ["image", "label", "instances"]
    tile = Rand2DElasticTiled(keys, keys[1:], input_size=40, output_size=24, mode=("bilinear", "nearest", "nearest"))
    data = item(instances > 0, instances) | {"image": torch.rand(1, 60, 50)}
    out = Compose([tile, WeightMapd()]).set_random_state(0)(data)
    assert out["weight"].shape == (1, 24, 24)
    assert out["instances"].max() > 0
    expected = weight_map(out["instances"][0].numpy(), class_balance="per_image")
    np.testing.assert_array_equal(out["weight"][0], expected)


def test_transform_takes_arrays_and_plain_tensors() -> None:
    instances = HAND_MADE["abutting"]
    expected = weight_map(instances, class_balance="per_image")
    arrays = {"label": (instances > 0).astype(np.float32)[None], "instances": instances[None]}
    np.testing.assert_array_equal(WeightMapd()(arrays)["weight"][0], expected)
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    np.testing.assert_array_equal(WeightMapd()(tensors)["weight"][0], expected)


def test_transforms_are_cached_because_they_are_not_random() -> None:
    label = MetaTensor(torch.tensor([[[255, 255, 0, 0, 255]]], dtype=torch.uint8))
    dataset = CacheDataset([{"label": label}], [InstanceLabelsd(), WeightMapd()], progress=False)
    assert dataset[0]["weight"] is not None
    assert set(dataset._cache[0]) == {"label", "instances", "weight"}
    pickle.loads(pickle.dumps(dataset.transform))  # spawned workers need this


def test_transform_refuses_unknown_options_and_missing_keys() -> None:
    with pytest.raises(ValueError, match="method must be one of"):
        WeightMapd(method="2015")
    with pytest.raises(ValueError, match="border must be one of"):
        WeightMapd(border="none")
    with pytest.raises(KeyError, match=r"instances.*label.*InstanceLabelsd"):
        WeightMapd()({"label": torch.zeros(1, 2, 2)})
    with pytest.raises(ValueError, match=r"'label' must have shape \(1, height, width\), got \(2, 2\)"):
        WeightMapd()({"label": torch.zeros(2, 2), "instances": torch.zeros(1, 2, 2)})


def test_tiles_of_cached_weight_maps_equal_tiles_of_new_maps():
    instances = instances_from_mask(blobs(0))[None]
    items = [{"image": torch.rand(1, 30, 40), "label": torch.tensor(instances > 0), "instances": instances}] * 2

    def tiles(kind: type[Dataset], **arguments: object) -> list[dict[str, torch.Tensor]]:
        keys = ["image", "label", "weight"]
        tile = Rand2DElasticTiled(keys, ["label", "weight"], 60, depth=2, mode=["bilinear", "nearest", "bilinear"])
        dataset = kind(items, Compose([WeightMapd(), tile]).set_random_state(0), **arguments)
        return [dataset[k % 2] for k in range(6)]

    for cached, plain in zip(tiles(CacheDataset, progress=False), tiles(Dataset), strict=True):
        for key in ("image", "label", "weight"):
            assert torch.equal(cached[key], plain[key])
