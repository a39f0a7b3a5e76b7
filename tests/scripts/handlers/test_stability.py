"""Clipping and stopping, in a real MONAI trainer of one weight."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from scripts.handlers.training import ClipGradients, StopOnDivergence


def train(loss, *handlers_of, steps: int = 1, lr: float = 1.0) -> nn.Module:
    """Train y = w x from w = 0 without bias on x = 1, y = 0; each of `handlers_of` makes a handler of the network."""
    network = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.zeros_(network.weight)
    item = {"image": torch.ones(1, 1, 1, 1), "label": torch.zeros(1, 1, 1, 1)}
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[item] * steps,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=lr),
        loss_function=loss,
        train_handlers=[make(network) for make in handlers_of],
    ).run()
    return network


def steep(pred: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return -20 * pred.mean()  # its gradient is -20


@pytest.mark.parametrize("max_norm, moved", [(0, 20.0), (5.0, 5.0), (100.0, 20.0)])
def test_a_step_is_as_long_as_its_gradient_or_the_limit(max_norm, moved):
    network = train(steep, lambda n: ClipGradients(n, max_norm))
    assert network.weight.item() == pytest.approx(moved, rel=1e-5)


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="must be positive, or 0 for no clipping, got -1"):
        ClipGradients(nn.Identity(), -1)


def test_a_lost_loss_ends_the_training_with_a_remedy():
    def lost_in_the_second_step(pred: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return torch.where(pred.mean() > 0, float("nan"), steep(pred, _))

    with pytest.raises(RuntimeError, match=r"the loss is nan in iteration 2 at a learning rate of 0\.1: lower"):
        train(lost_in_the_second_step, lambda n: StopOnDivergence(), steps=5, lr=0.1)
