"""Scores of a GPU equal scores of a CPU in float32, within the rounding of the number format."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from benchmarks.gpu_work import backend_flags
from scripts.inferers.overlap_tile import OverlapTileInferer
from tests.gpu.conftest import TILE, image, reference, relative

# rounding: 24 bits of mantissa, 11 (TF32 and float16), 8 (bfloat16), through 23 convolutions
FORMATS = {"float32": (1e-4, 0.999), "TF32": (3e-3, 0.99), "float16": (3e-3, 0.99), "bfloat16": (2e-2, 0.99)}


@torch.no_grad()
def infer(device, network, /, **arguments):
    return OverlapTileInferer(**{"tile_size": TILE, **arguments})(image().to(device), network)


@pytest.mark.parametrize("channels_last", [True, False], ids=["channels-last", "NCHW"])
@pytest.mark.parametrize("precision", FORMATS)
def test_scores_equal_those_of_a_cpu_within_the_rounding_of_the_format(device, precision, channels_last):
    network, expected = reference(device)
    if channels_last:
        network.to(memory_format=torch.channels_last)
    amp_dtype = precision if precision in ("float16", "bfloat16") else None
    with backend_flags(tf32=precision == "TF32"):
        scores = infer(device, network, amp_dtype=amp_dtype, channels_last=channels_last)
    tolerance, agreement = FORMATS[precision]
    assert scores.device.type == device.type
    assert scores.dtype == torch.float32
    assert relative(scores, expected) < tolerance
    assert (scores.argmax(1).cpu() == expected.argmax(1)).float().mean() >= agreement


def test_a_tile_of_automatic_size_gives_the_same_scores(device):
    network, expected = reference(device)
    for memory_limit in (3 * 2**30, "auto"):
        assert relative(infer(device, network, tile_size=None, memory_limit=memory_limit), expected) < 1e-4


@pytest.mark.parametrize("sw_batch_size", [1, 4, None])
def test_tiles_at_once_do_not_change_the_scores(device, sw_batch_size):
    network, expected = reference(device)
    assert relative(infer(device, network, sw_batch_size=sw_batch_size), expected) < 1e-4


@pytest.mark.parametrize("average", ["scores", "probabilities"])
def test_eight_orientations_give_the_mean_that_a_cpu_gives(device, average):
    network, _ = reference(device)
    arguments = {"orientations": 8, "average": average, "sw_batch_size": 4}
    scores = infer(device, network, **arguments)
    expected = infer(torch.device("cpu"), network.cpu(), **arguments)
    assert relative(scores, expected) < 1e-4


@pytest.mark.parametrize("arguments", [{"cpu_thresh": 96 * 80 - 1}, {"device": "cpu"}], ids=str)
def test_an_image_stitched_on_the_cpu_has_the_scores_of_one_stitched_where_it_lies(device, arguments):
    network, _ = reference(device)
    scores = infer(device, network, **arguments)
    there = infer(device, network)
    assert (scores.device.type, there.device.type) == ("cpu", device.type)
    assert relative(scores, there) < 1e-6


def test_an_image_on_the_cpu_passes_through_a_network_elsewhere_and_comes_back_with_its_meta_data(device):
    network, expected = reference(device)
    x = MetaTensor(image(), meta={"filename_or_obj": "a.png"})
    with torch.no_grad():
        scores = OverlapTileInferer(tile_size=TILE, sw_device=device)(x, network)
    assert scores.device.type == "cpu"
    assert scores.meta["filename_or_obj"] == "a.png"
    assert relative(scores.as_tensor(), expected) < 1e-4


def test_auto_is_bfloat16_on_a_gpu_that_has_it(device):
    network, expected = reference(device)
    seen = []
    network.scores.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    scores = infer(device, network, amp_dtype="auto")
    native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    assert not native or set(seen) == {torch.bfloat16}
    assert relative(scores, expected) < 2e-2
