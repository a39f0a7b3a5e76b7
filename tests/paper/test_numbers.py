"""Test each number of the paper (arXiv 1505.04597), in the order of the paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from scripts.networks.geometry import margin, output_size
from scripts.networks.unet import RonnebergerUNet
from scripts.transforms.displacements import CoarseField, sample_displacements
from scripts.transforms.weight_maps import weight_map
from tests.configs.conftest import CONFIGS


@pytest.fixture(scope="module")
def network() -> RonnebergerUNet:
    torch.manual_seed(0)
    return RonnebergerUNet()


@pytest.fixture(scope="module")
def recipe() -> dict:
    return yaml.safe_load((CONFIGS / "train.yaml").read_text())


def test_figure_1_a_tile_of_572_pixels_gives_388():
    assert output_size(572) == 388


def test_figure_1_sizes_on_the_way():
    """572, 570, 568 | 284, 282, 280 | 140, 138, 136 | 68, 66, 64 | 32, 30, 28 and up to 388, read off the figure."""
    network = RonnebergerUNet(features=(1, 1, 1, 1, 1), dropout=0.0)
    seen = []
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            module.register_forward_hook(lambda m, i, o: seen.append(o.shape[-1]))
    with torch.no_grad():
        network(torch.zeros(1, 1, 572, 572))
    down = [570, 568, 282, 280, 138, 136, 66, 64, 30, 28]
    up = [56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388]
    assert seen == [*down, *up, 388]


def test_figure_1_channels(network):
    widths = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    down, up = [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024], [512, 512, 256, 256, 128, 128, 64, 64]
    assert widths == [*down, *up, 2]


def test_section_2_the_network_has_23_convolutional_layers(network):
    assert sum(isinstance(m, nn.modules.conv._ConvNd) for m in network.modules()) == 23


def test_section_2_every_pooling_meets_an_even_size():
    assert [size % 2 for size in (568, 280, 136, 64)] == [0, 0, 0, 0]
    assert margin() == 92  # (572 - 388) / 2


def test_section_3_momentum_is_0_99_and_the_batch_a_single_image(recipe):
    assert recipe["momentum"] == 0.99
    assert recipe["batch_size"] == 1
    assert recipe["optimizer"]["_target_"] == "torch.optim.SGD"


def test_equation_2_w0_is_10_and_sigma_5_pixels(recipe):
    """Two cells three pixels apart: on the middle pixel d1 = d2 = 2, so w = 1 + 10 exp(-16 / 50)."""
    assert (recipe["w0"], recipe["sigma"]) == (10.0, 5.0)
    row = np.array([[1, 0, 0, 0, 2]])
    assert weight_map(row)[0, 2] == pytest.approx(1 + 10 * np.exp(-(4**2) / 50), abs=1e-5)


def test_section_3_weights_have_the_deviation_of_he(network):
    """ "For a 3x3 convolution and 64 feature channels in the previous layer N = 9 * 64 = 576"."""
    layer = network.contracting[0][2]
    assert layer.in_channels == 64
    assert layer.weight.std().item() == pytest.approx(np.sqrt(2 / 576), rel=0.02)


def test_section_3_1_displacements_of_10_pixels_on_a_3_by_3_grid(recipe):
    assert (recipe["elastic_points"], recipe["elastic_sigma"]) == (3, 10.0)
    draws = np.stack([sample_displacements(random_state=np.random.RandomState(k)) for k in range(2000)])
    assert draws.shape[1:] == (2, 3, 3)
    assert draws.std() == pytest.approx(10, rel=0.02)
    assert CoarseField() == CoarseField(points=(3, 3), sigma=10.0)


def test_section_3_1_drop_out_ends_the_contracting_path(network):
    assert isinstance(network.contracting[-1][-1], nn.Dropout)
    assert not any(isinstance(m, nn.Dropout) for m in network.expansive.modules())
