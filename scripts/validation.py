"""When a training validates."""

from __future__ import annotations

import time

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler

from scripts.time_limit import TimeLimit

TIMES, SHARE = 10, 0.1  # validations in a time limit, and the most of its time that they may take


class Validation(ValidationHandler):
    """MONAI's `ValidationHandler` that validates the last epoch as well, whatever the interval.

    Otherwise a training of 5 epochs with an interval of 10 would end without weights, and one of 22 with 4 would never
    look at its last two epochs, which are the best of a falling learning rate.

    Args:
        interval: epochs between two validations.
        validator: the evaluator to run.
        exec_at_start: validate before the first epoch, too, so that a training which goes on from weights keeps them
            until it finds better ones; list this handler after the one that loads them.
        time_limit: of a training in minutes: validate up to 10 times in it, whatever the interval. Validations take at
            most a tenth of the time.
    """

    def __init__(
        self,
        interval: int,
        validator: Evaluator | None = None,
        exec_at_start: bool = False,
        time_limit: TimeLimit | None = None,
    ) -> None:
        super().__init__(interval, validator, exec_at_start=exec_at_start)
        self.time_limit = time_limit
        self._part = 0  # of the limit that was validated last
        self._seconds = self._last = 0.0  # of all validations so far, and of the last one

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        if self.exec_at_start:
            engine.add_event_handler(Events.STARTED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def _is_due(self, trainer: Engine, epoch: int) -> bool:
        if epoch == trainer.state.max_epochs:
            return True
        if self.time_limit is None or self.time_limit.seconds is None:
            return epoch % self.interval == 0
        part = int(self.time_limit.fraction * TIMES)
        allowed = SHARE * self.time_limit.fraction * self.time_limit.seconds
        due = part != self._part and self._seconds + self._last <= allowed
        if idist.get_world_size() > 1:
            due = bool(idist.broadcast(float(due), src=0))  # all processes validate, or none
        self._part = part if due else self._part
        return due

    def __call__(self, engine: Engine) -> None:
        """Validate, and remember how long it took."""
        start = time.monotonic()
        super().__call__(engine)
        self._last = time.monotonic() - start
        self._seconds += self._last
