"""A training step on a GPU has the same loss and gradients as on a CPU."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from benchmarks.step import Step, tile
from scripts.inferers.overlap_tile import MixedPrecisionInferer
from scripts.inferers.precision import training_layout
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.unet import RonnebergerUNet
from tests.gpu.conftest import reference, relative

SIZE = 220  # 36 pixels of output


def loss_and_gradient(network: RonnebergerUNet, inferer: MixedPrecisionInferer) -> tuple[torch.Tensor, torch.Tensor]:
    """Get the loss of two tiles, and all gradients in a vector."""
    device = next(network.parameters()).device
    x, target = tile(SIZE, device, batch=2)
    target[:, 1, :5] = 0  # not annotated
    network.zero_grad()
    loss = WeightedCrossEntropyLoss()(inferer(x, network.train()), target)
    loss.backward()
    return loss, torch.cat([parameter.grad.flatten().float().cpu() for parameter in network.parameters()])


@pytest.mark.parametrize("channels_last", [True, False], ids=["channels-last", "NCHW"])
@pytest.mark.parametrize("amp_dtype, of_loss, of_gradient", [("float32", 1e-4, 1e-3), ("bfloat16", 2e-2, 0.1)])
def test_loss_and_gradients_equal_those_of_a_cpu(device, amp_dtype, of_loss, of_gradient, channels_last):
    network, _ = reference(device)
    on_cpu = copy.deepcopy(network).cpu()
    expected = loss_and_gradient(on_cpu, MixedPrecisionInferer("float32", channels_last=False))
    if channels_last:
        network.to(memory_format=torch.channels_last)
    got = loss_and_gradient(network, MixedPrecisionInferer(amp_dtype, channels_last=channels_last))
    assert got[0].dtype == torch.float32
    assert relative(got[0], expected[0]) < of_loss
    assert relative(got[1], expected[1]) < of_gradient


def test_a_gpu_trains_in_channels_last(device):
    if device.type == "cuda":
        assert training_layout(device) == torch.channels_last
    network = RonnebergerUNet(features=(4, 8)).to(device, memory_format=training_layout(device))
    seen = []
    network.scores.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    MixedPrecisionInferer("bfloat16")(torch.rand(2, 1, 44, 44, device=device), network)
    assert seen[0].is_contiguous(memory_format=training_layout(device))


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Raise an error if the CPU waits for a GPU."""
    if device.type != "cuda":
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_is_queued_without_waiting_for_the_gpu(device):
    """A check of classes by reading the GPU's memory would make every step wait."""
    step = Step(RonnebergerUNet(features=(4, 8, 16, 32, 64)).to(device), *tile(SIZE, device), "bfloat16")
    step()  # tables computed once
    with no_waiting(device):
        loss = step.queue()
    assert torch.isfinite(loss)
