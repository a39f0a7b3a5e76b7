"""When a training validates."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler


class Validation(ValidationHandler):
    """MONAI's `ValidationHandler` that validates the last epoch as well, whatever the interval.

    Otherwise a training of 5 epochs with an interval of 10 would end without weights, and one of 22 with 4 would never
    look at its last two epochs, which are the best of a falling learning rate.

    Args:
        interval: epochs between two validations.
        validator: the evaluator to run.
        exec_at_start: validate before the first epoch, too, so that a training which goes on from weights keeps them
            until it finds better ones; list this handler after the one that loads them.
    """

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        if self.exec_at_start:
            engine.add_event_handler(Events.STARTED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def _is_due(self, trainer: Engine, epoch: int) -> bool:
        return epoch % self.interval == 0 or epoch == trainer.state.max_epochs
