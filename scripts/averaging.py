"""A moving average of the weights, which is smoother than the weights of any one step."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import nn


class MovingAverage(EMAHandler):
    """ignite's exponential moving average of a network's weights, which soon forgets the random ones of the start.

    The newest weights enter with the larger of `momentum` and 9 / (10 + iteration): the average of iteration t reaches
    back over about a tenth of t iterations, at most 1 / `momentum`. A resumed training goes on likewise. Weights loaded
    into the network are loaded into the average, too. Buffers (batch normalisation) are copied, not averaged.

    Args:
        model: network that is trained.
        momentum: least share of the newest weights, in (0, 1).

    Attributes:
        ema_model: network with the average as weights, on the same device, in evaluation mode. Save it with the
            training's state.

    Example:
        >>> MovingAverage(nn.Linear(2, 1), momentum=0.002).ema_model.training
        False
    """

    def __init__(self, model: nn.Module, momentum: float = 0.002) -> None:
        super().__init__(model, momentum)
        self.model.register_load_state_dict_post_hook(self._start_from)

    def _start_from(self, model: nn.Module, _: Any) -> None:
        """Average from the weights that the network was given; those of a resumed average are loaded after it."""
        self.ema_model.load_state_dict(model.state_dict())

    def attach(self, engine: Engine, name: str = "ema_momentum", *args: Any, **kwargs: Any) -> None:
        """Follow a trainer: average after every iteration."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._set_momentum, name)
        super().attach(engine, name, *args, **kwargs)

    def _set_momentum(self, engine: Engine, name: str) -> None:
        setattr(engine.state, name, max(self.momentum, 9 / (10 + engine.state.iteration)))
