"""The network of bioimage.io packages: probabilities of the image's size, equal to this project's segmentation."""

from __future__ import annotations

import pytest
import torch

from bundle.publishing.mirrored import MirroredUNet
from scripts.inferers.overlap_tile import OverlapTileInferer

VARIANTS = {
    "paper": {},
    "padded": {"padding": "same"},
    "interpolated": {"retain_dim": True},
    "one channel": {"out_channels": 1},
    "colour": {"in_channels": 3, "out_channels": 3},
    "two poolings": {"features": (3, 4, 5)},
}


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS)
@torch.inference_mode()
def test_probabilities_are_those_of_the_overlap_tiles_from_the_smallest_size_on(change):
    torch.manual_seed(0)
    network = MirroredUNet(**{"features": (3, 4, 5, 6, 7), **change}).eval()
    for more in (0, 1):
        image = torch.rand(2, network.in_channels, network.least, network.least + more * network.step)
        scores = OverlapTileInferer()(image, network.network)
        expected = scores.sigmoid() if network.out_channels == 1 else scores.softmax(dim=1)
        torch.testing.assert_close(network(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS)
def test_smallest_size_and_halo_are_multiples_of_the_step(change):
    network = MirroredUNet(**{"features": (3, 4, 5, 6, 7), **change})
    assert network.least % network.step == network.halo % network.step == 0


def test_the_halo_covers_the_context_of_the_paper_s_network():
    network = MirroredUNet(features=(1, 1, 1, 1, 1))
    assert (network.step, network.halo, network.least) == (16, 96, 208)
    assert network.halo >= network.network.margin == 92
