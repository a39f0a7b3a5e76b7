"""Forward passes without enough memory are repeated in smaller passes. The network fails above a number of pixels."""

from __future__ import annotations

import logging

import pytest
import torch

from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.inferers.smaller_passes import TileMemoryError
from scripts.inferers.tiling import TileRule
from scripts.networks.unet import RonnebergerUNet


class Limited:
    """A network without memory for more than `pixels` input pixels, and for the calls numbered in `failing`."""

    depth = 2

    error: RuntimeError = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def __init__(self, pixels: int, failing: tuple[int, ...] = ()) -> None:
        torch.manual_seed(0)
        self.network = RonnebergerUNet(features=(3, 4, 5)).double().eval()
        self.pixels, self.failing = pixels, failing
        self.calls: list[tuple[int, int, int]] = []

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        self.calls.append((len(tiles), *tiles.shape[2:]))
        if tiles[:, 0].numel() > self.pixels or len(self.calls) in self.failing:
            raise self.error
        return self.network(tiles)


def image(*size: int) -> torch.Tensor:
    return torch.rand(1, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def infer(network: Limited, x: torch.Tensor, **arguments: object) -> torch.Tensor:
    return OverlapTileInferer(**arguments)(x, network)


@pytest.mark.parametrize("orientations", [1, 8])
@pytest.mark.parametrize("average", ["scores", "probabilities"])
def test_fewer_tiles_a_pass_give_the_same_scores(orientations, average):
    x, arguments = image(70, 50), {"tile_size": 60, "orientations": orientations, "average": average}
    limited = Limited(3 * 60**2)
    scores = infer(limited, x, sw_batch_size=8, **arguments)
    expected = infer(Limited(10**9), x, sw_batch_size=8, **arguments)
    assert limited.calls[:3] == [(8, 60, 60), (4, 60, 60), (2, 60, 60)]
    assert {count for count, *_ in limited.calls[3:]} <= {1, 2}
    assert (scores - expected).abs().max() < 1e-12


def test_an_image_starts_again_so_that_no_tile_counts_twice():
    x = image(70, 50)
    limited = Limited(10**9, failing=(3,))
    scores = infer(limited, x, tile_size=60, sw_batch_size=4)
    assert [count for count, *_ in limited.calls[:4]] == [4, 4, 4, 2]
    assert (scores - infer(Limited(10**9), x, tile_size=60)).abs().max() < 1e-12


@pytest.mark.parametrize("sw_batch_size", [None, 1, 4])
def test_a_tile_of_automatic_size_becomes_smaller(sw_batch_size):
    x = image(150, 170)
    limited = Limited(100**2)
    scores = infer(limited, x, sw_batch_size=sw_batch_size)
    assert limited.calls[-1][0] * limited.calls[-1][1] * limited.calls[-1][2] <= 100**2
    assert (scores - infer(Limited(10**9), x)).abs().max() < 1e-12


def test_the_smaller_size_is_kept_for_the_next_image_and_logged_once(caplog):
    limited, inferer = Limited(100**2), OverlapTileInferer()
    with caplog.at_level(logging.WARNING), torch.no_grad():
        first = inferer(image(150, 170), limited)
        warned = [record.getMessage() for record in caplog.records]
        calls = len(limited.calls)
        second = inferer(image(150, 170), limited)
    assert torch.equal(first, second)
    assert "1 tile of 192 x 212" in warned[0]
    assert f"at most {192 * 212 // 2} pixels" in warned[0]
    assert [record.getMessage() for record in caplog.records] == warned
    assert all(height * width <= 100**2 for _, height, width in limited.calls[calls:])


def test_a_tile_of_fixed_size_is_refused_and_smaller_sizes_are_named():
    with pytest.raises(TileMemoryError, match=r"1 tile of 60 x 76\. .*tile_size to .* 56 x 72, .* 44 x 52 for half"):
        infer(Limited(1000), image(70, 50), tile_size=(60, 76), sw_batch_size=4)
    for size in (56, 72, 44, 52):
        TileRule(depth=2).check(size)


def test_the_smallest_tile_of_all_is_refused_and_the_cpu_is_named():
    with pytest.raises(TileMemoryError, match=r"1 tile of 44 x 44\. .*device: cpu"):
        infer(Limited(1000), image(9, 9), tile_size=44)
    with pytest.raises(TileMemoryError, match=r"1 tile of 44 x 44, and no smaller .*device: cpu"):
        infer(Limited(1000), image(70, 50))


@pytest.mark.parametrize(
    "text", ["FIND was unable to find an engine to execute this computation", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"]
)
def test_messages_of_cuda_s_libraries_count_as_out_of_memory(text):
    limited = Limited(2 * 60**2)
    limited.error = RuntimeError(text)
    assert infer(limited, image(70, 50), tile_size=60, sw_batch_size=4).shape == (1, 2, 70, 50)
    assert limited.calls[1][0] == 2


def test_other_errors_pass_through():
    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        infer(broken, image(9, 9), depth=2)
