"""When a training validates."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler


class Validation(ValidationHandler):
    """MONAI's `ValidationHandler` that validates the last epoch as well, whatever the interval.

    Otherwise a training of 5 epochs with an interval of 10 would end without weights, and one of 22 with 4 would never
    look at its last two epochs, which are the best of a falling learning rate.

    Args:
        at_start: validate before the first epoch, too, so that a training which goes on from weights keeps them unless
            it finds better ones; list this handler after the one that loads them.
        args: `interval`, epochs between two validations, and others of MONAI's.
        kwargs: `validator`, the evaluator to run, and others of MONAI's.
    """

    def __init__(self, *args: Any, at_start: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.at_start = at_start

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        if self.at_start:
            engine.add_event_handler(Events.STARTED, self._validate_first)
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def _validate_first(self) -> None:
        self.validator.run(1)  # MONAI counts epochs from 1

    def _is_due(self, trainer: Engine, epoch: int) -> bool:
        return epoch % self.interval == 0 or epoch == trainer.state.max_epochs
