"""A training validates at intervals and at its end."""

from __future__ import annotations

import pytest
from ignite.engine import Engine
from monai.engines import Evaluator

from scripts.validation import Validation


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
