"""A training that ends after so many minutes, its learning rate with it."""

from __future__ import annotations

import time
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Trainer

SECONDS = "seconds_trained"  # kept in trainer.state, saved with the trainer
TOLD_EVERY = 20  # iterations; processes that end at different ones would wait for each other forever


class TimeLimit:
    """End a training after `max_minutes`, and let the learning rate fall to its end by then.

    The schedule's length is set anew after every iteration: to as many iterations as the whole limit holds at the pace
    so far, validations included. A schedule that ends earlier by `max_epochs` keeps its length. The warm-up takes at
    most a tenth of the schedule. When the time is over, the epoch under way is cut short and becomes the last one. It
    is validated and saved as usual.

    A resumed training goes on with the time that it has left. Of several processes the first looks at the clock, and
    tells the others every 20 iterations.

    Args:
        max_minutes: limit from the first iteration on; None: no limit.
        lr_scheduler: MONAI's `WarmupCosineSchedule`, or another with its attributes `t_total` and `warmup_steps`. List
            the handler that steps it after this one.

    Raises:
        ValueError: a limit that is not above 0.

    Example:
        >>> TimeLimit(max_minutes=30, lr_scheduler=None).fraction
        0.0
    """

    def __init__(self, max_minutes: float | None, lr_scheduler: Any) -> None:
        if max_minutes is not None and not max_minutes > 0:
            raise ValueError(f"max_minutes must be above 0 minutes, or null for no limit, got {max_minutes}")
        self.seconds = None if max_minutes is None else 60.0 * max_minutes
        self.lr_scheduler = lr_scheduler
        self.fraction = 0.0  # of the limit that is over
        self._begun = 0.0
        self._configured: tuple[int, int] | None = None  # steps of the schedule in all, and of its warm-up

    @property
    def seconds_left(self) -> float:
        """Until the training ends; infinite without a limit."""
        return float("inf") if self.seconds is None else self.seconds * (1 - self.fraction)

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer, whose state keeps the seconds."""
        if self.seconds is None:
            return
        trainer.state_dict_user_keys.append(SECONDS)
        setattr(trainer.state, SECONDS, 0.0)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._start)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._look)

    def _start(self, trainer: Engine) -> None:
        if self._configured is None:  # only now a resumed trainer knows its seconds
            self._begun = time.monotonic() - getattr(trainer.state, SECONDS)
            self._configured = (int(self.lr_scheduler.t_total), int(self.lr_scheduler.warmup_steps))

    def _look(self, trainer: Engine) -> None:
        assert self.seconds is not None
        assert self._configured is not None
        spent = time.monotonic() - self._begun
        if idist.get_world_size() > 1:
            if trainer.state.iteration % TOLD_EVERY:
                return
            told: Any = idist.broadcast(spent, src=0)
            spent = float(told)
        setattr(trainer.state, SECONDS, spent)
        self.fraction = min(1.0, spent / self.seconds)
        length, warm_up = self._configured
        self.lr_scheduler.t_total = max(2, min(length, int(trainer.state.iteration / self.fraction)))
        self.lr_scheduler.warmup_steps = min(warm_up, self.lr_scheduler.t_total // 10)
        if self.fraction >= 1 and trainer.state.epoch != trainer.state.max_epochs:
            trainer.logger.info(f"{spent / 60:.1f} minutes are over: epoch {trainer.state.epoch} is the last")
            trainer.state.max_epochs = trainer.state.epoch
            trainer.terminate_epoch()
