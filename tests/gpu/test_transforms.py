"""Transforms of items on a GPU have the same results as on a CPU, and the results stay on the GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundle.datasets.synthetic_em import synthetic_section
from scripts.transforms.activations import LikeliestClassd, ProbabilitiesFromScoresd
from scripts.transforms.elastic import Rand2DElasticTiled
from scripts.transforms.instance_labels import InstanceLabelsd
from scripts.transforms.intensity import NormalizeImaged
from scripts.transforms.pixel_size import MatchPixelSized, RestoreSized
from scripts.transforms.weight_maps import WeightMapd


def item(device: torch.device) -> dict[str, torch.Tensor]:
    """Image (1, 96, 80) and instance labels."""
    grey, labels = synthetic_section(np.random.default_rng(0), (96, 80))
    planes = {"image": grey.astype(np.float32), "label": labels.astype(np.int32)}
    return {key: MetaTensor(torch.from_numpy(plane)[None]).to(device) for key, plane in planes.items()}


def both(transform, device: torch.device, *before) -> tuple[dict, dict]:
    """Transform the item on `device` and on the CPU."""
    results = []
    for where in (device, torch.device("cpu")):
        data = item(where)
        for step in (*before, transform):
            data = step(data)
        results.append(data)
    return results[0], results[1]


@pytest.mark.parametrize(
    "arguments", [{}, {"method": "percentile"}, {"flatten": 10.0}, {"method": "percentile", "flatten": 10.0}], ids=str
)
def test_grey_values_are_normalised_where_they_lie(device, arguments):
    got, expected = both(NormalizeImaged("image", **arguments), device)
    assert got["image"].device.type == device.type
    assert torch.allclose(got["image"].cpu(), expected["image"], atol=1e-4)


@pytest.mark.parametrize("method", ["unet", "plugin", "none"])
def test_weight_maps_of_labels_come_back_to_where_these_lie(device, method):
    got, expected = both(WeightMapd(method=method), device, InstanceLabelsd("label", kind="instances"))
    for key in ("label", "instances", "weight"):
        assert got[key].device.type == device.type
        assert torch.equal(got[key].cpu(), expected[key])


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_training_tiles_are_cut_and_deformed_where_they_lie(device, prob):
    labels, weights = InstanceLabelsd("label", kind="instances"), WeightMapd()
    keys = ("image", "label", "weight")
    found = []
    for where in (device, torch.device("cpu")):
        tiles = Rand2DElasticTiled(
            keys, output_keys=keys[1:], input_size=220, prob=prob, mode=["bilinear", "nearest", "bilinear"]
        ).set_random_state(seed=3)
        data = weights(labels(item(where)))
        found.append([tiles(data) for _ in range(3)])
    for got, expected in zip(*found, strict=True):
        assert {got[key].device.type for key in keys} == {device.type}
        assert [tuple(got[key].shape) for key in keys] == [(1, 220, 220), (1, 36, 36), (1, 36, 36)]
        for key in ("image", "weight"):
            difference = (got[key].cpu() - expected[key]).abs()
            assert difference.max() < 2e-2 * expected[key].abs().max()  # coordinates differ by 1e-4 pixel
        # in the middle between two pixels, either may be taken
        assert (got["label"].cpu() == expected["label"]).float().mean() > 0.99


def test_scores_become_classes_and_probabilities_where_they_lie(device):
    scores = torch.randn(3, 40, 50, generator=torch.Generator().manual_seed(0))
    for transform in (LikeliestClassd("pred"), ProbabilitiesFromScoresd("pred")):
        got = transform({"pred": scores.to(device)})["pred"]
        assert got.device.type == device.type
        assert torch.allclose(got.cpu().float(), transform({"pred": scores})["pred"].float(), atol=1e-6)


@pytest.mark.parametrize("pixel_size", [0.0013, 0.006])
def test_images_are_rescaled_and_results_restored_where_they_lie(device, pixel_size):
    match = MatchPixelSized(trained=0.004, pixel_size=pixel_size)
    got, expected = both(match, device)
    assert got["image"].device.type == device.type
    assert torch.allclose(got["image"].cpu(), expected["image"], atol=0.1)  # of 255
    labels = torch.arange(expected["image"].numel(), dtype=torch.int32).reshape(expected["image"].shape) // 50
    for mode, result in (("linear", expected["image"] / 255), ("nearest", labels), ("instances", labels)):
        there, here = (
            RestoreSized("pred", mode)({"image": data["image"], "pred": result.to(data["image"].device)})["pred"]
            for data in (got, expected)
        )
        assert there.device.type == device.type
        assert there.shape == (1, 96, 80)
        assert there.dtype == result.dtype
        if mode == "linear":
            assert torch.allclose(there.cpu(), here, atol=1e-4)
        else:  # in the middle between two pixels, either may be taken
            assert (there.cpu() == here).float().mean() > 0.99
