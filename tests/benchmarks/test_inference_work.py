"""The work of inference is counted: network calls, pixels, floating-point operations, copies.

The network is the paper's, of full size, on torch's `meta` device: shapes without values.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet
from tests.work import Watch


@pytest.fixture(scope="module")
def paper_net() -> RonnebergerUNet:
    with torch.device("meta"):
        return RonnebergerUNet().eval()


@torch.inference_mode()
def shapes_seen(network: RonnebergerUNet, size: int, **arguments: object) -> list[tuple[int, int, int]]:
    """(tiles, height, width) of every network call for an image of size x size."""
    seen: list[tuple[int, int, int]] = []
    hook = network.register_forward_pre_hook(
        lambda _, inputs: seen.append((len(inputs[0]), inputs[0].shape[2], inputs[0].shape[3]))
    )
    OverlapTileInferer(**arguments)(torch.empty(1, 1, size, size, device="meta"), network)
    hook.remove()
    return seen


def flops(network: RonnebergerUNet, size: int, **arguments: object) -> int:
    with FlopCounterMode(display=False) as counter:
        shapes_seen(network, size, **arguments)
    return counter.get_total_flops()


def convolution_flops(size: int) -> int:
    """2 k^2 c_in c_out h w for each of the 23 convolutions of Fig. 1, without biases."""
    total, channels = 0, 1
    for features in (64, 128, 256, 512, 1024):
        for c_in in (channels, features):
            size -= 2
            total += 2 * 9 * c_in * features * size**2
        channels = features
        size //= 2
    size *= 2  # the lowest level is not pooled
    for features in (512, 256, 128, 64):
        total += 2 * 4 * channels * features * size**2  # 2 x 2 taps for every input pixel
        size *= 2
        for c_in in (2 * features, features):
            size -= 2
            total += 2 * 9 * c_in * features * size**2
        channels = features
    return total + 2 * 64 * 2 * size**2


@pytest.mark.parametrize(
    "size, arguments, calls",
    [
        (512, {}, [(1, 700, 700)]),  # 512 + 184 = 696; the next valid size is 700
        (512, {"tile_size": 572}, [(4, 572, 572)]),
        (2048, {}, [(1, 1212, 1212)] * 4),  # 1024 + 184 = 1208
        (2048, {"tile_size": 572}, [(5, 572, 572)] * 7 + [(1, 572, 572)]),  # 6 x 6 tiles by 384
        (512, {"orientations": 8}, [(3, 700, 700), (3, 700, 700), (2, 700, 700)]),
        (512, {"orientations": 8, "tile_size": 572}, [(5, 572, 572)] * 6 + [(2, 572, 572)]),
        (2048, {"orientations": 8}, [(1, 1212, 1212)] * 32),
    ],
)
def test_network_calls_and_pixels_of_whole_images(paper_net, size, arguments, calls):
    """More calls mean smaller batches. More pixels mean repeated context: four tiles of 572 have 2.7 times the pixels
    of one tile of 700.
    """
    assert shapes_seen(paper_net, size, **arguments) == calls


@pytest.mark.parametrize("size", [512, 700, 1024])
def test_a_single_tile_reads_the_margin_and_less_than_16_pixels_more(paper_net, size):
    """16 pixels more in both directions are 5 % more work for 512 x 512."""
    [(count, height, width)] = shapes_seen(paper_net, size)
    assert count == 1
    assert 0 <= height - (size + 2 * 92) < 16
    assert height == width


@pytest.mark.parametrize("size", [512, 2048])
@pytest.mark.parametrize("orientations", [4, 8])
def test_orientations_cost_the_operations_of_their_passes(paper_net, size, orientations):
    """More operations would be padding, turning or tiling for each orientation."""
    assert flops(paper_net, size, orientations=orientations) == orientations * flops(paper_net, size)


@pytest.mark.parametrize("size", [188, 572, 700])
def test_operations_of_a_pass_are_those_of_the_23_convolutions(paper_net, size):
    """Another layer, a wider layer or a larger map would change the count: 301 GFLOP for a tile of 572."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        paper_net(torch.empty(1, 1, size, size, device="meta"))
    assert counter.get_total_flops() == convolution_flops(size)


@pytest.mark.parametrize(
    "size, share",
    [
        (512, 0.4099),  # four tiles of 572 cost 2.4 times as much
        (2048, 0.6440),  # 36 tiles cost 1.6 times as much
    ],
)
def test_the_chosen_tile_costs_a_share_of_tiles_of_572(paper_net, size, share):
    """With tiles of 572 an image of 512 x 512 takes 1203 GFLOP instead of 493."""
    assert flops(paper_net, size) / flops(paper_net, size, tile_size=572) == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("orientations", [1, 8])
@torch.no_grad()  # inference mode hides the parts of composed operations
def test_no_padded_or_turned_copy_of_the_image_is_made(orientations):
    """A padded copy of an image of 3000 x 3000 takes 3184 x 3184 pixels, too many for an image that fills the memory.

    The network has a single feature in each level, and its tensors are as large as a tile.
    """
    with torch.device("meta"):
        network, image = RonnebergerUNet(features=(1, 1, 1, 1, 1)).eval(), torch.empty(1, 1, 3000, 3000)
    inferer = OverlapTileInferer(tile_size=572, sw_batch_size=1, orientations=orientations)
    with Watch() as watch:
        inferer(image, network)
    largest = sorted(made.numel for made in watch.made())
    assert largest.pop() == 2 * 3000**2  # the output
    assert largest[-1] <= 2 * 572**2
    assert watch.count("aten.convolution") == 23 * orientations * 64  # all 8 x 8 tiles were computed


@pytest.mark.parametrize("orientations", [1, 8])
@torch.no_grad()  # inference mode hides the parts of composed operations
def test_only_the_tiles_of_the_image_are_copied(orientations):
    """A copy of the top level's features, for another layout or type, moves 64 times the bytes of a tile."""
    network = RonnebergerUNet(features=(4, 4, 4, 4, 4)).eval().to(memory_format=torch.channels_last)
    image = torch.rand(1, 1, 20, 20)
    inferer = OverlapTileInferer(orientations=orientations)
    with Watch() as watch:
        inferer(image, network)
    tiles = orientations * 204**2 * 4  # bytes: 20 + 184
    assert watch.copied() == tiles
    gathered = [made for operation in watch.operations if operation.name == "aten.index" for made in operation.made]
    assert sum(made.bytes for made in gathered) == tiles
