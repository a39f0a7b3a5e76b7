"""A training that ends after so many minutes, its learning rate with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Trainer

SECONDS = "seconds_trained"  # kept in trainer.state, saved with the trainer
TOLD_EVERY = 20  # iterations; processes that end at different ones would wait for each other forever


class TimeLimit:
    """End a training after `max_minutes`, and let the learning rate fall to its end by then.

    After every iteration, estimate how many more fit into the limit, from the pace since the first one (which may have
    compiled the network). The schedule is made as long, unless `max_epochs` ends it earlier. The warm-up takes at most
    a tenth of the schedule. When the time is over, the epoch under way is cut short and becomes the last one. It is
    validated and saved as usual.

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
        is_number = isinstance(max_minutes, int | float) and not isinstance(max_minutes, bool)
        if max_minutes is not None and not (is_number and 0 < max_minutes < math.inf):
            raise ValueError(
                f"max_minutes must be a number of minutes above 0, or null for no limit, got {max_minutes!r}"
            )
        self.seconds = None if max_minutes is None else 60.0 * max_minutes
        self.lr_scheduler = lr_scheduler
        self.fraction = 0.0  # of the limit that is over
        self._begun = 0.0
        self._first: tuple[float, int] | None = None  # when the first iteration of this run was over, and its number
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
            spent = getattr(trainer.state, SECONDS)
            if spent >= (self.seconds or 0.0):
                raise ValueError(
                    f"resume: the training has had {spent / 60:.1f} of {(self.seconds or 0.0) / 60:g} minutes: nothing "
                    "is left to train; raise max_minutes"
                )
            self._begun = time.perf_counter() - spent
            self.fraction = spent / (self.seconds or math.inf)
            self._configured = (int(self.lr_scheduler.t_total), int(self.lr_scheduler.warmup_steps))

    def _look(self, trainer: Engine) -> None:
        assert self.seconds is not None
        assert self._configured is not None
        spent, iteration = time.perf_counter() - self._begun, trainer.state.iteration
        if idist.get_world_size() > 1:
            if iteration % TOLD_EVERY:
                return
            told: Any = idist.broadcast(spent, src=0)
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
            trainer.logger.info(f"{spent / 60:.1f} minutes are over: epoch {trainer.state.epoch} is the last")
            trainer.state.max_epochs = trainer.state.epoch
            trainer.terminate_epoch()


def tenths_of(limit: TimeLimit | None, interval: int) -> Callable[[Engine, int], bool]:
    """Filter epochs for an event: those that end a tenth of a time limit, without a limit every `interval` epochs.

    Args:
        limit: None, or one without `max_minutes`: no limit.
        interval: epochs.
    """
    last = 0

    def ends_a_tenth(_: Engine, epoch: int) -> bool:
        nonlocal last
        if limit is None or limit.seconds is None:
            return epoch % interval == 0
        before, last = last, int(10 * limit.fraction)
        return last > before

    return ends_a_tenth
