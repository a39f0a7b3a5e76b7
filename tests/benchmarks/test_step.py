"""The plain training step and ours do the same work, so that their times can be compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import step
from benchmarks.measure import Setup


def test_the_plain_step_and_ours_have_the_same_loss_and_change_the_weights_equally():
    setup = Setup(1, torch.device("cpu"), None, Path(), quick=True)
    x, target = step.tile(252, setup.device)
    steps = [
        step.PlainStep(step.network(setup, channels_last=False), x, target),
        step.Step(step.network(setup, channels_last=True), x, target, "float32"),
    ]
    for one in steps:
        for group in one.optimizer.param_groups:
            group["lr"] = 1e-2
        for module in one.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    losses = [[one() for _ in range(3)] for one in steps]
    weights = [torch.cat([weight.detach().flatten() for weight in one.network.parameters()]) for one in steps]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][2] != losses[0][0]
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-5)
