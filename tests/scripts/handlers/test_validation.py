"""A training validates at intervals and at its end."""

from __future__ import annotations

import pytest
from ignite.engine import Engine, Events
from monai.engines import Evaluator

from scripts.handlers.training import Validation


class Counting(Evaluator):
    """An evaluator that only remembers when it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def run(self, global_epoch: int = 1) -> None:
        self.asked.append(global_epoch)


@pytest.mark.parametrize("epochs, interval, expected", [(5, 10, [5]), (22, 4, [4, 8, 12, 16, 20, 22]), (6, 3, [3, 6])])
def test_the_last_epoch_is_validated_whatever_the_interval(epochs, interval, expected):
    trainer, evaluator = Engine(lambda *_: None), Counting()
    Validation(interval=interval, validator=evaluator).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    assert evaluator.asked == expected


def test_weights_to_go_on_from_are_validated_first_on_request():
    trainer, evaluator = Engine(lambda *_: None), Counting()
    Validation(interval=1, validator=evaluator, exec_at_start=True).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: evaluator.asked.append(-1))
    trainer.run([0], max_epochs=2)
    assert evaluator.asked == [0, -1, 1, -1, 2]
