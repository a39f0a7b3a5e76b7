"""The work of a training step and of its tile is counted: operations, copies, pixels, processes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from bundle.datasets.synthetic_em import synthetic_section
from scripts.inferers.overlap_tile import MixedPrecisionInferer
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.unet import RonnebergerUNet
from scripts.transforms.elastic import Rand2DElasticTiled
from tests.conftest import ROOT
from tests.work import Described, Watch

TILE, OUTPUT = 220, 36


def watched_step(amp_dtype: str | None) -> tuple[Watch, Watch, RonnebergerUNet]:
    """Forward and backward pass of the second step of a small network, as in configs/train.yaml."""
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


def test_a_step_costs_three_passes_without_the_gradient_of_the_image():
    """902 GFLOP for a tile of 572. A repeated part or an unused gradient would change the count."""
    with torch.device("meta"):
        network, image, target = RonnebergerUNet(), torch.empty(1, 1, 572, 572), torch.empty(1, 2, 388, 388)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(image)
    with FlopCounterMode(display=False) as step:
        WeightedCrossEntropyLoss()(network(image), target).backward()
    first_layer = 2 * 9 * 1 * 64 * 570**2
    assert step.get_total_flops() == 3 * forward.get_total_flops() - first_layer


def test_a_float32_step_copies_only_its_tile_and_labels():
    """Each copy of an activation of the top level, for another layout, moves 83 MB for a tile of 572."""
    there, back, _ = watched_step(None)
    assert there.copied() == 4 * TILE**2 + 8 * OUTPUT**2  # the tile to its layout, classes to int64
    assert back.copied() == 0


def test_a_bfloat16_step_converts_every_weight_once_and_no_activation():
    """A layer outside autocast would convert an activation, and read and write the activation again."""
    there, back, network = watched_step("bfloat16")
    weights = sum(weight.numel() for weight in network.parameters())
    scores = 2 * OUTPUT**2
    # the tile to its layout and type, weights to bfloat16, scores to float32, classes to int64
    assert there.copied() == (4 + 2) * TILE**2 + 2 * weights + 4 * scores + 8 * OUTPUT**2
    assert back.copied() == 4 * weights + 2 * scores  # gradients of scores to bfloat16, of weights to float32


@pytest.mark.parametrize("amp_dtype", [None, "bfloat16"])
def test_all_features_of_a_step_are_channels_last(amp_dtype):
    """The gradient of a skip cropped by slicing is NCHW. Mixed layouts take a sixth of the time of a step on a CPU."""

    def is_of_features(tensor: Described) -> bool:
        return len(tensor.shape) == 4 and tensor.shape[0] == 1 and tensor.shape[1] > 2  # without the two scores

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
    tile(item(64))  # makes the parts that all tiles share
    with Watch() as watch:
        tile(image)
    return watch


def test_a_tile_is_one_resampling_for_each_key():
    """A second resampling would cost 572^2 pixels, and so would labels in the margin without output."""
    resampled = [
        operation.made[0].shape for operation in watched_tile(600).operations if "grid_sampler" in operation.name
    ]
    assert resampled == [(1, 1, 572, 572), (1, 1, 388, 388), (1, 1, 388, 388)]


def test_a_tile_costs_the_same_for_images_of_all_sizes_without_a_padded_image():
    """Mirroring or converting a whole image of 4000 x 4000 copies 64 MB, three times for each tile."""
    small, large = (watched_tile(size) for size in (1000, 4000))
    assert [operation.name for operation in large.operations] == [operation.name for operation in small.operations]
    for watch in (small, large):
        assert max(made.numel for made in watch.made()) == 2 * 572**2  # source rows and columns of the pixels


@pytest.fixture
def training(tmp_path: Path) -> ConfigParser:
    """configs/train.yaml on four sections of 96 x 80 pixels, with small tiles."""
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


def test_processes_for_tiles_start_only_once(training):
    """Each start would fork a process with the network, and wait for its first tile."""
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
