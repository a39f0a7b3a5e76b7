"""End a training after a number of minutes, with the learning rate at the end of its schedule."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Trainer

logger = logging.getLogger(__name__)

SECONDS = "seconds_trained"  # attribute of trainer.state, saved and restored with the trainer
TOLD_EVERY = 20  # iterations. If processes stopped at different iterations, they would wait for each other forever


class TimeLimit:
    """End a training after `max_minutes`, and shorten the learning rate's schedule to fit.

    After every iteration, the schedule gets the number of iterations that fit into the remaining time at the speed so
    far. The first iteration does not count, because it may compile the network. `max_epochs` may end the training
    earlier. Warm-up takes at most a tenth of the schedule.

    At the limit, the current epoch ends early and is the last. Validation and saving follow as usual. A resumed
    training uses the remaining time, and ends at once if no time is left. The first of several processes measures the
    time for all, every 20 iterations.

    Args:
        max_minutes: limit in minutes, from the first iteration on. None: no limit.
        lr_scheduler: MONAI's `WarmupCosineSchedule`, or a scheduler with the attributes `t_total` and `warmup_steps`.
            Place `LrScheduleHandler` after `TimeLimit`.

    Attributes:
        limited: whether there is a limit.
        seconds: the limit in seconds, infinite without a limit.
        fraction: used share of the limit, 0 to 1.

    Raises:
        ValueError: `max_minutes` is not a number above 0.

    Example:
        >>> limit = TimeLimit(max_minutes=30, lr_scheduler=None)
        >>> limit.seconds_left
        1800.0
    """

    clock: Callable[[], float] = staticmethod(time.perf_counter)  # a subclass may count seconds of computing instead

    def __init__(self, max_minutes: float | None, lr_scheduler: Any) -> None:
        is_number = isinstance(max_minutes, int | float) and not isinstance(max_minutes, bool)
        if max_minutes is not None and not (is_number and 0 < max_minutes < math.inf):
            raise ValueError(f"max_minutes must be a number above 0, or null for no limit, got {max_minutes!r}")
        self.limited = max_minutes is not None
        self.seconds = math.inf if max_minutes is None else 60.0 * max_minutes
        self.lr_scheduler = lr_scheduler
        self.fraction = 0.0
        self._begun = 0.0
        self._first: tuple[float, int] | None = None  # seconds and number of the run's first iteration
        self._configured: tuple[int, int] | None = None  # steps of schedule and warm-up

    @property
    def seconds_left(self) -> float:
        """Seconds until the training ends, infinite without a limit."""
        return self.seconds * (1 - self.fraction)

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer, whose state keeps the used seconds."""
        if not self.limited:
            return
        trainer.state_dict_user_keys.append(SECONDS)
        setattr(trainer.state, SECONDS, 0.0)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._start)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._look)

    def _start(self, trainer: Engine) -> None:
        if self._configured is not None:
            return
        spent = getattr(trainer.state, SECONDS)  # a resumed trainer has loaded its state by the first epoch
        if spent >= self.seconds:
            logger.info(
                f"resume: the training has used {spent / 60:.1f} of {self.seconds / 60:g} minutes and has finished. A "
                "larger max_minutes goes on"
            )
            trainer.terminate()
            return
        self._begun = self.clock() - spent
        self.fraction = spent / self.seconds
        self._configured = (int(self.lr_scheduler.t_total), int(self.lr_scheduler.warmup_steps))

    def _look(self, trainer: Engine) -> None:
        assert self._configured is not None
        iteration = trainer.state.iteration
        if idist.get_world_size() > 1 and iteration % TOLD_EVERY:
            return
        told: Any = idist.broadcast(self.clock() - self._begun, src=0)
        spent = float(told)
        setattr(trainer.state, SECONDS, spent)
        self.fraction = min(1.0, spent / self.seconds)
        if self._first is None:
            self._first = (spent, iteration)
        elif spent > self._first[0]:
            pace = (iteration - self._first[1]) / (spent - self._first[0])
            length, warm_up = self._configured
            self.lr_scheduler.t_total = max(2, min(length, iteration + int(self.seconds_left * pace)))
            self.lr_scheduler.warmup_steps = min(warm_up, self.lr_scheduler.t_total // 10)
        if self.fraction >= 1 and trainer.state.epoch != trainer.state.max_epochs:
            logger.info(f"{spent / 60:.1f} minutes are over: epoch {trainer.state.epoch} is the last")
            trainer.state.max_epochs = trainer.state.epoch
            trainer.terminate_epoch()
