"""A GPU without memory for a pass: inference goes on in smaller passes, or the message names values to set."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from bundle.running.failures import explain
from scripts.inferers.memory import free_memory
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.inferers.smaller_passes import TileMemoryError
from scripts.networks.unet import RonnebergerUNet
from tests.gpu.conftest import relative

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")


@contextmanager
def room(gib: float) -> Iterator[None]:
    """Limit the GPU memory for torch to `gib` GiB on top of the present memory."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(CUDA) + gib * 2**30) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.fixture(scope="module")
def network() -> RonnebergerUNet:
    torch.manual_seed(0)
    network = RonnebergerUNet().eval().to(CUDA, memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        network(torch.randn(1, 1, 188, 188, device=CUDA))  # allocates the permanent memory of the libraries
    return network


def image(size: int) -> torch.Tensor:
    return torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0)).to(CUDA)


@pytest.mark.parametrize("arguments", [{}, {"tile_size": 572, "sw_batch_size": 16}], ids=str)
@torch.no_grad()
def test_an_image_that_does_not_fit_at_once_is_computed_in_smaller_passes(network, arguments, caplog):
    x = image(1024)
    expected = OverlapTileInferer(amp_dtype="bfloat16", **arguments)(x, network)
    inferer = OverlapTileInferer(amp_dtype="bfloat16", **arguments)
    with room(0.6), caplog.at_level(logging.WARNING):
        scores = inferer(x, network)
    assert "out of memory with" in caplog.text
    assert relative(scores, expected) < 2e-2


@torch.no_grad()
def test_a_fixed_tile_that_does_not_fit_is_refused_with_sizes_that_may(network):
    inferer = OverlapTileInferer(amp_dtype="bfloat16", tile_size=1212)
    message = r"out of memory with 1 tile of 1212 x 1212\. .*tile_size to .* 1196 x 1196"
    with room(0.3), pytest.raises(TileMemoryError, match=message):
        inferer(image(1024), network)


def test_the_message_of_a_gpu_without_room_names_the_size():
    with room(0.1), pytest.raises(torch.OutOfMemoryError) as raised:
        torch.empty(2**30, device=CUDA)
    assert explain(raised.value).startswith("the GPU ran out of memory (asked for 4.00 GiB)")


def test_memory_that_torch_keeps_counts_as_free():
    torch.cuda.empty_cache()
    before = free_memory(CUDA)
    held = torch.empty(2**30, dtype=torch.uint8, device=CUDA)
    assert free_memory(CUDA) <= before - 2**30 + 2**26
    del held
    assert abs(free_memory(CUDA) - before) < 2**26


@torch.no_grad()
def test_memory_limit_auto_gives_every_image_the_same_tiles(network):
    inferer, shapes = OverlapTileInferer(amp_dtype="bfloat16", memory_limit="auto"), []
    hook = network.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    try:
        for _ in range(3):
            inferer(image(2048), network)
    finally:
        hook.remove()
    assert len(set(shapes)) == 1
    assert len(shapes) == 3  # the whole image at once on a GPU of 24 GiB or more
