"""What the inference of an image costs, counted: network calls, pixels, floating-point operations, copies. No clock.

Sizes are those of the paper's network. Its tensors lie on torch's `meta` device, which knows shapes and computes
nothing, so that counting at full size costs nothing either.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.io.reader import PlaneReader
from scripts.networks.unet import RonnebergerUNet
from tests.conftest import ROOT
from tests.work import Watch, count_calls


@pytest.fixture(scope="module")
def paper_net() -> RonnebergerUNet:
    with torch.device("meta"):
        return RonnebergerUNet().eval()


@torch.inference_mode()
def shapes_seen(network: RonnebergerUNet, size: int, **arguments: object) -> list[tuple[int, int, int]]:
    """(tiles, height, width) of every call for an image of size x size."""
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
    """2 k^2 c_in c_out h w for each of the 23 convolutions of Fig. 1, walked through by hand; biases not counted."""
    total, channels = 0, 1
    for features in (64, 128, 256, 512, 1024):
        for c_in in (channels, features):
            size -= 2
            total += 2 * 9 * c_in * features * size**2
        channels = features
        size //= 2
    size *= 2  # the lowest level is not pooled
    for features in (512, 256, 128, 64):
        total += 2 * 4 * channels * features * size**2  # every pixel of the input meets 2 x 2 taps
        size *= 2
        for c_in in (2 * features, features):
            size -= 2
            total += 2 * 9 * c_in * features * size**2
        channels = features
    return total + 2 * 64 * 2 * size**2


@pytest.mark.parametrize(
    "size, arguments, calls",
    [
        (512, {}, [(1, 700, 700)]),  # 512 + 184 = 696, of which 700 is the next that fits
        (512, {"tile_size": 572}, [(4, 572, 572)]),
        (2048, {}, [(1, 1212, 1212)] * 4),  # 1024 + 184 = 1208
        (2048, {"tile_size": 572}, [(5, 572, 572)] * 7 + [(1, 572, 572)]),  # 6 x 6 tiles by 384
        (512, {"orientations": 8}, [(3, 700, 700), (3, 700, 700), (2, 700, 700)]),
        (512, {"orientations": 8, "tile_size": 572}, [(5, 572, 572)] * 6 + [(2, 572, 572)]),
        (2048, {"orientations": 8}, [(1, 1212, 1212)] * 32),
    ],
)
def test_network_calls_and_pixels_of_whole_images(paper_net, size, arguments, calls):
    """More calls than these mean tiles that are not batched; more pixels, context that is computed twice: with tiles
    of 572 in place of one of 700 an image of 512 x 512 costs 2.7 times the pixels.
    """
    assert shapes_seen(paper_net, size, **arguments) == calls


@pytest.mark.parametrize("size", [512, 700, 1024])
def test_a_single_tile_reads_the_margin_and_less_than_a_step_beyond_it(paper_net, size):
    """A tile rounded up once too often would be 16 pixels longer each way: 5 % more work for 512 x 512."""
    [(count, height, width)] = shapes_seen(paper_net, size)
    assert count == 1
    assert 0 <= height - (size + 2 * 92) < 16
    assert height == width


@pytest.mark.parametrize("size", [512, 2048])
@pytest.mark.parametrize("orientations", [4, 8])
def test_orientations_cost_as_many_operations_as_passes(paper_net, size, orientations):
    """Anything beyond would be padding, turning or tiling done for one orientation that the others do not share."""
    assert flops(paper_net, size, orientations=orientations) == orientations * flops(paper_net, size)


@pytest.mark.parametrize("size", [188, 572, 700])
def test_operations_of_a_pass_are_those_of_the_23_convolutions(paper_net, size):
    """A layer too many, too wide or on too large a map would show: 301 GFLOP for a tile of 572."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        paper_net(torch.empty(1, 1, size, size, device="meta"))
    assert counter.get_total_flops() == convolution_flops(size)


@pytest.mark.parametrize(
    "size, share",
    [
        (512, 0.4099),  # 2.4 times as much with four tiles of 572
        (2048, 0.6440),  # 1.6 times with 36
    ],
)
def test_the_least_work_is_a_share_of_what_tiles_of_572_cost(paper_net, size, share):
    """Were the tile not chosen for the image, an image of 512 x 512 would take 1203 GFLOP in place of 493."""
    assert flops(paper_net, size) / flops(paper_net, size, tile_size=572) == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("orientations", [1, 8])
@torch.no_grad()  # in inference mode torch hides the parts of composed operations
def test_no_padded_or_turned_copy_of_the_image_is_made(orientations):
    """Of an image of 3000 x 3000 a padded copy takes 3184 x 3184; of one that fills the memory, more than there is.

    The network has one feature in each level, so that its own tensors are of the size of a tile.
    """
    with torch.device("meta"):
        network, image = RonnebergerUNet(features=(1, 1, 1, 1, 1)).eval(), torch.empty(1, 1, 3000, 3000)
    inferer = OverlapTileInferer(tile_size=572, sw_batch_size=1, orientations=orientations)
    with Watch() as watch:
        inferer(image, network)
    largest = sorted(made.numel for made in watch.made())
    assert largest.pop() == 2 * 3000**2  # the output
    assert largest[-1] <= 2 * 572**2
    assert watch.count("aten.convolution") == 23 * orientations * 64  # it was there: 8 x 8 tiles


@pytest.mark.parametrize("orientations", [1, 8])
@torch.no_grad()  # in inference mode torch hides the parts of composed operations
def test_an_image_is_copied_into_its_tiles_and_nothing_else_is_copied(orientations):
    """A copy of the features of the top level, for a change of layout or type, moves 64 times what a tile does."""
    network = RonnebergerUNet(features=(4, 4, 4, 4, 4)).eval().to(memory_format=torch.channels_last)
    image = torch.rand(1, 1, 20, 20)
    inferer = OverlapTileInferer(orientations=orientations)
    with Watch() as watch:
        inferer(image, network)
    tiles = orientations * 204**2 * 4  # bytes: 20 + 184
    assert watch.copied() == tiles
    gathered = [made for operation in watch.operations if operation.name == "aten.index" for made in operation.made]
    assert sum(made.bytes for made in gathered) == tiles


def test_an_image_is_read_and_normalised_once_for_all_orientations(monkeypatch, tmp_path):
    """Read once for each orientation, a folder of large stacks would be decoded eight times."""
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (24, 30), np.uint8)).save(tmp_path / f"{name}.png")
    parser = ConfigParser()
    parser.read_config(ROOT / "configs" / "inference.yaml")
    parser.update(
        {
            "bundle_root": str(ROOT),
            "dataset_dir": str(tmp_path),
            "orientations": 8,
            "network_def#features": [2, 2, 2, 2, 2],
            "device": "cpu",
            "amp_dtype": None,
            "dataloader#num_workers": 0,
        }
    )
    read = count_calls(monkeypatch, PlaneReader, "read")
    inferer, loader = (parser.get_parsed_content(name) for name in ("inferer", "dataloader"))
    normalised = count_calls(monkeypatch, type(parser.get_parsed_content("preprocessing").transforms[-1]), "__call__")
    network = parser.get_parsed_content("network").eval()
    tiles: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: tiles.append(len(inputs[0])))
    with torch.inference_mode():
        for item in loader:
            inferer(item["image"], network)
    assert sorted(Path(name).name for names in read for name in names) == ["a.png", "b.png"]
    assert len(normalised) == 2
    assert sum(tiles) == 2 * 8
