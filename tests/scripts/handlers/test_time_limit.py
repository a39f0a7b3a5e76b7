"""A training with a time limit ends in time, validated, with a learning rate of 0."""

from __future__ import annotations

import time

import pytest
import torch
from ignite.engine import Engine, Events

from scripts.handlers.time_limit import TimeLimit
from scripts.handlers.training import Validation, WarmupCosineSchedule
from tests.scripts.handlers.conftest import Counting

STEP = 0.01  # seconds of an iteration


def training(seconds: float | None, max_epochs: int = 10**6, validation_seconds: float = 0.0, length: int = 20):
    """Make a trainer whose steps sleep. Returns trainer, learning rates, evaluator and limit."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=5, t_total=max_epochs * length)
    rates: list[float] = []

    def step(*_: object) -> None:
        time.sleep(STEP)
        optimizer.step()

    class Slow(Counting):
        def run(self, global_epoch: int = 1) -> None:
            super().run(global_epoch)
            time.sleep(validation_seconds)

    trainer, evaluator = Engine(step), Slow()
    limit = TimeLimit(None if seconds is None else seconds / 60, schedule)
    limit.attach(trainer)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: (schedule.step(), rates.append(schedule.get_last_lr()[0]))
    )
    Validation(interval=10**6, validator=evaluator, time_limit=limit).attach(trainer)
    return trainer, rates, evaluator, limit


def test_the_training_ends_in_time_with_its_learning_rate_and_a_validation():
    trainer, rates, evaluator, _ = training(seconds=1.0)
    start = time.monotonic()
    trainer.run(range(20), max_epochs=10**6)
    assert time.monotonic() - start >= 1.0
    assert rates[-1] == pytest.approx(0.0, abs=0.01)
    assert max(rates) > 0.9
    assert evaluator.asked[-1] == trainer.state.epoch


def test_fewer_epochs_end_it_earlier_as_without_a_limit():
    limited, rates, _, _ = training(seconds=600, max_epochs=3)
    limited.run(range(20), max_epochs=3)
    free, unlimited, _, _ = training(seconds=None, max_epochs=3)
    free.run(range(20), max_epochs=3)
    assert limited.state.iteration == 60
    assert rates == pytest.approx(unlimited)


def test_validations_are_spread_and_take_no_more_than_their_share():
    trainer, _, evaluator, _ = training(seconds=2.0, length=2)
    trainer.run(range(2), max_epochs=10**6)
    assert 2 <= len(evaluator.asked) <= 10
    trainer, _, evaluator, _ = training(seconds=1.0, validation_seconds=0.5, length=2)
    trainer.run(range(2), max_epochs=10**6)
    assert len(evaluator.asked) <= 2  # half a second each: more than a tenth of the time so far


def test_a_resumed_training_has_the_time_that_is_left():
    trainer, _, _, _ = training(seconds=0.6)
    trainer.state.seconds_trained = 0.5
    trainer.run(range(20), max_epochs=10**6)
    assert trainer.state.iteration <= 0.1 / STEP + 1
    finished, _, _, _ = training(seconds=0.6)
    finished.state.seconds_trained = 0.7
    finished.run(range(20), max_epochs=10**6)
    assert finished.state.iteration == 0


def test_a_first_step_that_compiles_takes_nothing_of_the_warm_up():
    trainer, rates, _, _ = training(seconds=1.5)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=1), lambda: time.sleep(0.5))
    trainer.run(range(20), max_epochs=10**6)
    assert rates[:5] == sorted(rates[:5])
    assert rates[0] <= 0.5
    assert max(rates) > 0.9


@pytest.mark.parametrize("minutes", [0, -1, True, "abc", float("inf"), float("nan")])
def test_a_limit_that_is_no_time_is_refused(minutes):
    with pytest.raises(ValueError, match=f"max_minutes.*{minutes}"):
        TimeLimit(minutes, None)
