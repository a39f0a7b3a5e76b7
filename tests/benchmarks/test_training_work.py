"""What a training step and the preparation of its tile cost, counted: operations, copies, pixels, calls. No clock."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from bundle.datasets.synthetic_em import synthetic_section
from scripts.inferers.overlap_tile import MixedPrecisionInferer
from scripts.io.reader import PlaneReader
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.unet import RonnebergerUNet
from scripts.transforms import weight_maps
from scripts.transforms.elastic import Rand2DElasticTiled
from scripts.transforms.instance_labels import InstanceLabelsd
from scripts.transforms.intensity import NormalizeImaged
from tests.conftest import ROOT
from tests.work import Described, Watch, count_calls

TILE, OUTPUT = 220, 36


def watched_step(amp_dtype: str | None) -> tuple[Watch, Watch, RonnebergerUNet]:
    """The second step of a small network as configs/train.yaml has it, the way there and the way back apart."""
    torch.manual_seed(0)
    network = RonnebergerUNet(features=(4, 8, 16, 32, 64)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.99)
    inferer, energy = MixedPrecisionInferer(amp_dtype, channels_last=True), WeightedCrossEntropyLoss()
    image, target = torch.rand(1, 1, TILE, TILE), torch.ones(1, 2, OUTPUT, OUTPUT)
    for _ in range(2):
        there, back = Watch(), Watch()
        optimizer.zero_grad()
        with there:
            loss = energy(inferer(image, network), target)
        with back:
            loss.backward()
            optimizer.step()
    return there, back, network


def test_a_step_costs_three_passes_but_for_the_gradient_of_the_image():
    """902 GFLOP for a tile of 572. A part that is computed anew, or a gradient that nobody needs, would show."""
    with torch.device("meta"):
        network, image, target = RonnebergerUNet(), torch.empty(1, 1, 572, 572), torch.empty(1, 2, 388, 388)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(image)
    with FlopCounterMode(display=False) as step:
        WeightedCrossEntropyLoss()(network(image), target).backward()
    first_layer = 2 * 9 * 1 * 64 * 570**2
    assert step.get_total_flops() == 3 * forward.get_total_flops() - first_layer


def test_a_step_in_single_precision_copies_its_tile_and_its_labels_alone():
    """An activation that is copied for another layout costs as much memory traffic as a layer reads; in the top level
    of a tile of 572 that is 83 MB each time.
    """
    there, back, _ = watched_step(None)
    assert there.copied() == 4 * TILE**2 + 8 * OUTPUT**2  # the tile into its layout, classes to int64
    assert back.copied() == 0


def test_a_step_in_mixed_precision_converts_every_weight_once_and_no_activation():
    """An activation that changes its type between two layers, as one outside autocast does, is read and written once
    more.
    """
    there, back, network = watched_step("bfloat16")
    weights = sum(weight.numel() for weight in network.parameters())
    scores = 2 * OUTPUT**2
    # the tile into its layout and its type, weights to bfloat16, scores to float32, classes to int64
    assert there.copied() == (4 + 2) * TILE**2 + 2 * weights + 4 * scores + 8 * OUTPUT**2
    assert back.copied() == 4 * weights + 2 * scores  # gradients: of the scores to bfloat16, of the weights to float32


@pytest.mark.parametrize("amp_dtype", [None, "bfloat16"])
def test_no_operation_of_a_step_meets_features_that_are_not_channels_last(amp_dtype):
    """A sixth of the time of a step on a CPU: the gradient of a skip that is cropped by slicing is NCHW, and so is
    everything added to it on the way down.
    """

    def is_of_features(tensor: Described) -> bool:
        return len(tensor.shape) == 4 and tensor.shape[0] == 1 and tensor.shape[1] > 2  # not the two scores

    for watch in watched_step(amp_dtype)[:2]:
        met = [
            (operation.name, tensor)
            for operation in watch.operations
            for tensor in (*operation.inputs, *operation.made)
            if is_of_features(tensor)
        ]
        assert len(met) > 100
        assert [pair for pair in met if pair[1].stride[1] != 1] == []


def item(size: int) -> dict[str, torch.Tensor]:
    return {key: torch.zeros(1, size, size) for key in ("image", "label", "weight")}


def watched_tile(size: int) -> Watch:
    tile = Rand2DElasticTiled(
        ["image", "label", "weight"], output_keys=["label", "weight"], mode=["bilinear", "nearest", "bilinear"]
    )
    tile.set_random_state(0)
    image = item(size)
    tile(item(64))  # what it keeps for all tiles
    with Watch() as watch:
        tile(image)
    return watch


def test_a_tile_is_one_resampling_for_each_key_of_the_pixels_that_it_needs():
    """A second resampling, or labels computed in the margin where the network has no output, would cost 572^2 pixels
    each.
    """
    resampled = [
        operation.made[0].shape for operation in watched_tile(600).operations if "grid_sampler" in operation.name
    ]
    assert resampled == [(1, 1, 572, 572), (1, 1, 388, 388), (1, 1, 388, 388)]


def test_a_tile_costs_the_same_in_an_image_of_any_size_and_no_padded_image_is_made():
    """Whole images mirrored or converted for every tile: 64 MB copied three times where an image has 4000 x 4000."""
    small, large = (watched_tile(size) for size in (1000, 4000))
    assert [operation.name for operation in large.operations] == [operation.name for operation in small.operations]
    for watch in (small, large):
        assert max(made.numel for made in watch.made()) == 2 * 572**2  # where its pixels read: rows and columns


@pytest.fixture
def training(tmp_path: Path) -> ConfigParser:
    """configs/train.yaml on four sections of 96 x 80 pixels, small tiles."""
    rng = np.random.default_rng(0)
    for number in range(4):
        for kind, pixels in zip(("images", "labels"), synthetic_section(rng, (96, 80)), strict=True):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{number}.png")
    parser = ConfigParser()
    parser.read_config(ROOT / "configs" / "train.yaml")
    parser.update(
        {
            "bundle_root": str(ROOT),
            "dataset_dir": str(tmp_path),
            "output_dir": str(tmp_path / "output"),
            "input_size": 188,
            "num_workers": 0,
            "label_kind": "instances",
        }
    )
    return parser


def test_an_epoch_draws_its_tiles_and_does_nothing_else_anew(training, monkeypatch):
    """Read, normalised and weighted once for each image, not for each tile: of a real slice the weight map alone takes
    longer than its tile.
    """
    once = {
        "read": (PlaneReader, "read"),
        "normalised": (NormalizeImaged, "__call__"),
        "numbered": (InstanceLabelsd, "__call__"),
        "weighted": (weight_maps.WeightMapd, "__call__"),
        "searched": (weight_maps, "two_nearest_cells"),
    }
    calls: dict[str, list[Any]] = {name: count_calls(monkeypatch, *place) for name, place in once.items()}
    tiles = count_calls(monkeypatch, Rand2DElasticTiled, "__call__")
    loader = training.get_parsed_content("train#dataloader")
    images = len(loader.dataset)
    assert images == 3
    for _ in range(4):
        for _ in loader:
            pass
    counts = {name: len(noted) for name, noted in calls.items()}
    assert counts == {
        "read": 2 * images,
        "normalised": images,
        "numbered": images,
        "weighted": images,
        "searched": images,
    }
    assert len(tiles) == 4 * images


def test_processes_that_prepare_tiles_start_once_and_not_for_every_epoch(training):
    """Each start forks a process that holds the network, and waits for its first tile."""
    training["num_workers"] = 1
    others = set(multiprocessing.active_children())
    loader = training.get_parsed_content("train#dataloader")
    started = []
    for _ in range(3):
        for _ in loader:
            pass
        started.append({process.pid for process in set(multiprocessing.active_children()) - others})
    assert len(started[0]) == 1
    assert started == [started[0]] * 3
