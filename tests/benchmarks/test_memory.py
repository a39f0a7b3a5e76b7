"""Memory is measured right, and a network with activation checkpointing is the same network."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.live_bytes import LiveBytes, live_bytes_of_pass, live_bytes_of_step, recompute_stages
from benchmarks.memory import growth, in_fresh_process, made_batch, step_peak
from scripts.inferers.memory import bytes_per_pixel
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.unet import RonnebergerUNet

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux, for memory peaks")


def grow_by(megabytes: int) -> int:
    """Allocate and free memory, and return the measured growth.

    A small tensor before loads the pages of libraries, whose number varies.
    """
    torch.ones(2**20, dtype=torch.uint8)
    return growth(lambda: torch.ones(megabytes * 2**20, dtype=torch.uint8))


@on_linux
def test_growth_is_the_allocated_memory_also_after_it_is_freed():
    assert in_fresh_process(grow_by, 200) / 2**20 == pytest.approx(200, abs=4)  # Linux counts pages


@on_linux
def test_a_step_keeps_the_tensors_of_the_backward_pass():
    """With four features the top level keeps at least 2 x 4 x 4 bytes a pixel in each path of the network."""
    features = (4, 4, 4, 4, 4)
    small, large = (in_fresh_process(step_peak, size, 1, None, False, features) for size in (316, 956))
    assert 2 * 2 * 4 * 4 < (large - small) / (956**2 - 316**2) < 6 * 2 * 2 * 4 * 4


def test_live_bytes_are_the_bytes_of_existing_tensors():
    with LiveBytes() as counter:
        a = torch.ones(1000)
        b = torch.ones(500, dtype=torch.int64)
        view, same = a[:10], a.add_(1)
        assert counter.live == 8000
        del a, b
        assert counter.live == 4000  # its views keep the first tensor alive
        del view, same
        assert (counter.live, counter.peak) == (0, 8000)


@pytest.mark.parametrize("amp_dtype", [None, "bfloat16"])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_step_on_fake_tensors_has_the_live_bytes_of_a_real_step(amp_dtype, recompute):
    fake, real = (live_bytes_of_step(220, 2, amp_dtype, recompute, (4, 8, 16, 32, 64), fake) for fake in (True, False))
    assert fake == real


@pytest.mark.parametrize(
    "size, batch, amp_dtype, mebibytes",
    [
        (572, 1, None, 1027),
        (572, 4, None, 3399),
        (956, 1, None, 2871),
        (572, 1, "bfloat16", 728),
        (572, 4, "bfloat16", 2022),
        (956, 1, "bfloat16", 1717),
    ],
)
def test_memory_of_a_training_step(size, batch, amp_dtype, mebibytes):
    """Bytes of all existing tensors, to 2 %. One more activation of the top level is 79 MiB at 572 pixels."""
    assert live_bytes_of_step(size, batch, amp_dtype) / 2**20 == pytest.approx(mebibytes, rel=0.02)


@pytest.mark.parametrize("padding, size", [("valid", 1004), ("same", 1008)])
@pytest.mark.parametrize("amp_dtype", [None, "bfloat16"])
def test_the_memory_model_of_inference_is_above_the_bytes_of_its_tensors(padding, size, amp_dtype):
    """A lower model would exceed `memory_limit`."""
    model = bytes_per_pixel(RonnebergerUNet(), torch.bfloat16 if amp_dtype else torch.float32)
    assert 0.5 * model < live_bytes_of_pass(size, amp_dtype, padding) / size**2 < model


def test_recomputed_stages_give_the_same_step_for_one_more_pass():
    results, operations = [], []
    for prepare in (lambda network: network, recompute_stages):
        torch.manual_seed(0)
        network = prepare(RonnebergerUNet(features=(2, 3, 4, 5, 6)))
        batch = made_batch(188, 2)
        torch.manual_seed(1)  # for dropout
        with FlopCounterMode(display=False) as counter:
            loss = WeightedCrossEntropyLoss()(network(batch["image"]), batch["label"])
            loss.backward()
        results.append([loss.detach(), *(parameter.grad for parameter in network.parameters())])
        operations.append(counter.get_total_flops())
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=0, atol=1e-6)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(batch["image"])
    scores = 2 * 2 * 2 * 2 * 4**2  # of the last layer, outside of all stages
    assert operations[1] - operations[0] == forward.get_total_flops() - scores
