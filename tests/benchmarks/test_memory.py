"""What measures memory sees memory, and a network that is computed anew on the way back is the same network."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory import growth, in_fresh_process, made_batch, recompute_stages, step_peak
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks import RonnebergerUNet

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone tells a process its peak")


def grow_by(megabytes: int) -> int:
    """Take and give back so much memory; how much was seen."""
    return growth(lambda: torch.ones(megabytes * 2**20, dtype=torch.uint8))


@on_linux
def test_growth_is_what_was_taken_though_it_was_given_back():
    assert 100 <= in_fresh_process(grow_by, 100) / 2**20 < 116  # with the pages of libraries that are used anew


@on_linux
def test_a_step_holds_what_the_way_back_needs():
    """With four features the top level keeps at least 2 x 4 x 4 bytes a pixel each way; momentum and gradients stay."""
    features = (4, 4, 4, 4, 4)
    small, large = (in_fresh_process(step_peak, size, 1, None, False, features) for size in (316, 956))
    assert 2 * 2 * 4 * 4 < (large - small) / (956**2 - 316**2) < 6 * 2 * 2 * 4 * 4


def test_recomputed_stages_give_the_same_step_for_one_more_pass():
    results, operations = [], []
    for prepare in (lambda network: network, recompute_stages):
        torch.manual_seed(0)
        network = prepare(RonnebergerUNet(features=(2, 3, 4, 5, 6)))
        batch = made_batch(188, 2)
        torch.manual_seed(1)  # of the dropout
        with FlopCounterMode(display=False) as counter:
            loss = WeightedCrossEntropyLoss()(network(batch["image"]), batch["label"])
            loss.backward()
        results.append([loss.detach(), *(parameter.grad for parameter in network.parameters())])
        operations.append(counter.get_total_flops())
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=0, atol=1e-6)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(batch["image"])
    scores = 2 * 2 * 2 * 2 * 4**2  # of the last layer, which is in no stage
    assert operations[1] - operations[0] == forward.get_total_flops() - scores
