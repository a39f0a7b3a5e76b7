"""Gradients, divergence, averaged weights, validation and learning rate of a training."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import nn

from scripts.handlers.training import (
    ClipGradients,
    MovingAverage,
    StopOnDivergence,
    Validation,
    WarmupCosineSchedule,
)
from tests.scripts.handlers.conftest import Counting

# Gradients and divergence


def train(loss, *handlers_of, steps: int = 1, lr: float = 1.0) -> nn.Module:
    """Train y = w x from w = 0 on x = 1, y = 0. Each of `handlers_of` makes a handler from the network."""
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
    return -20 * pred.mean()  # gradient -20


@pytest.mark.parametrize("max_norm, moved", [(0, 20.0), (5.0, 5.0), (100.0, 20.0)])
def test_a_step_is_as_long_as_its_gradient_or_the_limit(max_norm, moved):
    network = train(steep, lambda n: ClipGradients(n, max_norm))
    assert network.weight.item() == pytest.approx(moved, rel=1e-5)


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match=r"max_norm.* -1"):
        ClipGradients(nn.Identity(), -1)


def test_a_lost_loss_ends_the_training_with_a_remedy():
    def lost_in_the_second_step(pred: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return torch.where(pred.mean() > 0, float("nan"), steep(pred, _))

    with pytest.raises(RuntimeError, match=r"nan in iteration 2 .* 0\.1.*learning_rate"):
        train(lost_in_the_second_step, lambda n: StopOnDivergence(), steps=5, lr=0.1)


# Averaged weights


def averaged(values: list[float], momentum: float, start: int = 0) -> float:
    """Average a weight with a given value per iteration."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1e6)  # must be forgotten
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


def test_the_average_follows_its_formula():
    expected, values = 1e6, torch.linspace(0, 1, 50, dtype=torch.float64).tolist()
    for iteration, value in enumerate(values, start=1):
        momentum = max(0.3, 9 / (10 + iteration))
        expected = (1 - momentum) * expected + momentum * value
    assert averaged(values, 0.3) == pytest.approx(expected, rel=1e-4)


def test_the_averaged_network_is_ready_to_predict():
    handler = MovingAverage(nn.Sequential(nn.Linear(1, 1), nn.Dropout()), 0.01)
    assert not handler.ema_model.training
    assert torch.isfinite(handler.ema_model(torch.ones(1, 1))).all()


def test_the_average_starts_from_loaded_weights():
    model = nn.Linear(2, 1)
    handler = MovingAverage(model, 0.01)
    given = {name: torch.full_like(value, 7.0) for name, value in model.state_dict().items()}
    model.load_state_dict(given)
    assert all(torch.equal(value, given[name]) for name, value in handler.ema_model.state_dict().items())


# Validation


@pytest.mark.parametrize("epochs, interval, expected", [(5, 10, [5]), (22, 4, [4, 8, 12, 16, 20, 22]), (6, 3, [3, 6])])
def test_the_last_epoch_is_validated_whatever_the_interval(epochs, interval, expected):
    trainer, evaluator = Engine(lambda *_: None), Counting()
    Validation(interval=interval, validator=evaluator).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    assert evaluator.asked == expected


def test_loaded_weights_are_validated_before_epoch_1_on_request():
    trainer, evaluator = Engine(lambda *_: None), Counting()
    Validation(interval=1, validator=evaluator, exec_at_start=True).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: evaluator.asked.append(-1))
    trainer.run([0], max_epochs=2)
    assert evaluator.asked == [0, -1, 1, -1, 2]


# Learning rate


def rates(steps: int, t_total: int, state: dict | None = None) -> tuple[list[float], dict]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=t_total)
    if state:
        schedule.load_state_dict(state)
    seen = []
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        seen.append(schedule.get_last_lr()[0])
    return seen, schedule.state_dict()


def test_rises_linearly_and_falls_as_a_cosine():
    seen, _ = rates(6, t_total=6)
    assert seen == pytest.approx([0.5, 1.0, 0.853553, 0.5, 0.146447, 0.0], abs=1e-6)


def test_a_finished_training_resumed_with_more_epochs_still_learns():
    _, state = rates(6, t_total=6)
    seen, _ = rates(4, t_total=10, state=state)
    assert seen == pytest.approx(rates(10, t_total=10)[0][6:], abs=1e-6)
    assert seen[0] > 0.3
