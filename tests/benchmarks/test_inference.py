"""The baselines of inference compute the scores of the overlap-tile inferer; operations are counted right."""

from __future__ import annotations

import pytest
import torch

from benchmarks import inference
from benchmarks.measure import PAPER
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.inferers.tiling import plan_tiles
from scripts.networks.unet import RonnebergerUNet


@pytest.fixture
def network() -> RonnebergerUNet:
    torch.manual_seed(0)
    return RonnebergerUNet(features=(4, 8, 16, 32, 64)).eval()


@pytest.mark.parametrize("size", [(100, 90), (388, 389), (700, 400)])
def test_an_image_tile_by_tile_has_the_scores_of_the_overlap_tile_inferer(size, network):
    x = torch.randn(1, 1, *size)
    with torch.inference_mode():
        ours, theirs = OverlapTileInferer()(x, network), inference.tile_by_tile(x, network)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size, tiles", [(388, 1), (389, 4), (512, 4), (2048, 36), (8192, 484)])
def test_the_baseline_uses_the_fewest_tiles_without_seams(size, tiles):
    assert inference.tiles_of(size) == tiles == len(plan_tiles((size, size), tile_size=572).tiles)


def test_turned_passes_are_the_mean_over_orientations(network):
    x = torch.randn(1, 1, 70, 50)
    with torch.inference_mode():
        passes = inference.turned_passes(x, network, OverlapTileInferer())
        ours = OverlapTileInferer(orientations=8)(x, network)
    torch.testing.assert_close(passes, ours, rtol=0, atol=1e-4)


def test_operations_are_those_of_the_layers_by_hand():
    """Two operations for each tap, input channel, output channel and pixel: 3 x 3, 2 x 2 up, 1 x 1."""
    sizes = [(572, 1, 64), (570, 64, 64), (284, 64, 128), (282, 128, 128), (140, 128, 256), (138, 256, 256)]
    sizes += [(68, 256, 512), (66, 512, 512), (32, 512, 1024), (30, 1024, 1024)]
    sizes += [(56, 1024, 512), (54, 512, 512), (104, 512, 256), (102, 256, 256)]
    sizes += [(200, 256, 128), (198, 128, 128), (392, 128, 64), (390, 64, 64)]
    expected = sum(2 * 9 * here * there * (side - 2) ** 2 for side, here, there in sizes)
    ups = [(28, 1024, 512), (52, 512, 256), (100, 256, 128), (196, 128, 64)]
    expected += sum(2 * 4 * here * there * side**2 for side, here, there in ups) + 2 * 64 * 2 * 388**2
    assert inference.operations_on([torch.Size((1, 1, 572, 572))], PAPER) == expected
    assert expected == pytest.approx(0.301e12, rel=0.01)
