"""Steer a training: clip gradients, stop a diverged loss, average weights, validate, schedule, end processes."""

from __future__ import annotations

import math
import time
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from monai.data import DataLoader
from monai.engines import Evaluator, IterationEvents, Trainer
from monai.handlers import ValidationHandler
from monai.optimizers import WarmupCosineSchedule as _WarmupCosineSchedule
from torch import nn

from scripts.handlers.progress import loss_of
from scripts.handlers.time_limit import TimeLimit


class ClipGradients:
    """Scale the gradient of every step down to a norm of at most `max_norm`.

    Ours: the paper says nothing of it. Momentum 0.99 adds up a hundred steps, so that one tile with an exceptional
    gradient can undo a training.

    Args:
        network: whose gradients are clipped.
        max_norm: largest Euclidean norm of all gradients together; 0: leave them as they are.

    Raises:
        ValueError: a negative `max_norm`.
    """

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        if max_norm < 0:
            raise ValueError(f"max_norm must be positive, or 0 for no clipping, got {max_norm}")
        self.network = network
        self.max_norm = max_norm

    def attach(self, trainer: Trainer) -> None:
        """Clip between the backward pass and the step of the optimiser."""
        if self.max_norm > 0:
            trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, _: Engine) -> None:
        """Clip the gradients as they are now."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class StopOnDivergence:
    """End a training whose loss is no longer a number, instead of wasting hours on it.

    A loss on a GPU is read every 20 iterations and at the end of an epoch, because reading it waits for the GPU. A loss
    that is NaN stays NaN, so that nothing is missed.

    Raises:
        RuntimeError: with the iteration, the learning rate, and what to do.
    """

    def attach(self, trainer: Trainer) -> None:
        """Look at the loss after every iteration."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._judge)  # before anything is saved

    def __call__(self, trainer: Engine) -> None:
        """Look at the loss of the iteration just done."""
        on_gpu = getattr(loss_of(trainer.state.output), "is_cuda", False)
        if not on_gpu or trainer.state.iteration % 20 == 0:
            self._judge(trainer)

    def _judge(self, trainer: Engine) -> None:
        loss = loss_of(trainer.state.output)
        loss = float("nan") if loss is None else float(loss)
        if not math.isfinite(loss):
            rate = trainer.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]  # of MONAI's trainers
            raise RuntimeError(
                f"the loss is {loss} in iteration {trainer.state.iteration} at a learning rate of {rate:.3g}: lower "
                "learning_rate or max_gradient_norm, or raise warmup_iterations; the best weights so far are kept"
            )


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


class WarmupCosineSchedule(_WarmupCosineSchedule):
    """MONAI's linear warm-up and cosine decay, of which a resumed training takes the position, not the length.

    MONAI's own restores `t_total` from the saved state: a finished training that is resumed with more epochs would go
    on with a learning rate of 0. Here the configuration decides, and the saved state only says how far the training
    is. Arguments are those of `monai.optimizers.WarmupCosineSchedule`.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over everything but what the configuration says."""
        configured = {name: getattr(self, name) for name in ("warmup_steps", "t_total", "end_lr", "cycles")}
        super().load_state_dict({**state_dict, **configured})


class EndProcesses:
    """End the processes of a trainer's data loader when the training is over.

    Left to the garbage collector, which meets the loader in a cycle with the engine, each process is waited for five
    seconds: the queues that would end it are gone first. After eight processes an evaluation in the same Python started
    40 seconds late.
    """

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer; the engine lets go of the loader's iterator right after its last event."""
        trainer.add_event_handler(Events.COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Let go of the processes; another epoch would start new ones."""
        if isinstance(trainer.data_loader, DataLoader):
            trainer.data_loader._iterator = None  # torch has no public name for it
