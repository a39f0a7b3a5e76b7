"""The moving average of the weights: of the right weights, and without the random ones of the start."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from scripts.handlers.training import MovingAverage


def averaged(values: list[float], momentum: float, start: int = 0) -> float:
    """The average after a weight took these values, one an iteration."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1e6)  # what must be forgotten
    handler = MovingAverage(model, momentum)

    def step(_: Engine, value: float) -> None:
        nn.init.constant_(model.weight, value)

    trainer = Engine(step)
    handler.attach(trainer)
    trainer.state.iteration = start
    trainer.run(values, max_epochs=1)
    return float(handler.ema_model.weight)


def test_a_constant_weight_is_its_own_average_soon_after_a_far_start():
    assert averaged([2.0] * 300, 0.002) == pytest.approx(2.0, rel=1e-3)


def test_it_is_the_average_of_its_formula():
    expected, values = 1e6, torch.linspace(0, 1, 50, dtype=torch.float64).tolist()
    for iteration, value in enumerate(values, start=1):
        momentum = max(0.3, 9 / (10 + iteration))
        expected = (1 - momentum) * expected + momentum * value
    assert averaged(values, 0.3) == pytest.approx(expected, rel=1e-4)


def test_the_averaged_network_is_ready_to_predict():
    handler = MovingAverage(nn.Sequential(nn.Linear(1, 1), nn.Dropout()), 0.01)
    assert not handler.ema_model.training
    assert torch.isfinite(handler.ema_model(torch.ones(1, 1))).all()


def test_weights_that_are_loaded_are_averaged_from():
    model = nn.Linear(2, 1)
    handler = MovingAverage(model, 0.01)
    given = {name: torch.full_like(value, 7.0) for name, value in model.state_dict().items()}
    model.load_state_dict(given)
    assert all(torch.equal(value, given[name]) for name, value in handler.ema_model.state_dict().items())
