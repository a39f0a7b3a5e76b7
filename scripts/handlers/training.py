"""Control a training: gradients, divergence, averaged weights, validation, learning rate, worker processes."""

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

from .interruption import at_error
from .progress import loss_of
from .time_limit import TimeLimit


class Attached:
    """List a handler by reference. MONAI's lists of handlers accept only mappings.

    Args:
        handler: any object with a method `attach(engine)`.

    Example:
        ```yaml
        handlers:
        - _target_: scripts.handlers.Attached
          handler: "@time_limit"
        ```
    """

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def attach(self, engine: Engine) -> None:
        """Attach the handler to an engine."""
        self.handler.attach(engine)


class ClipGradients:
    """Scale the gradient of every step down to a norm of at most `max_norm`.

    The paper does not clip. But its momentum of 0.99 adds up a hundred steps, so a single tile with an exceptional
    gradient can ruin a training.

    Args:
        network: the trained network.
        max_norm: largest Euclidean norm of all gradients together. 0: off.

    Raises:
        ValueError: `max_norm` is negative.

    Example:
        >>> clip = ClipGradients(torch.nn.Linear(2, 1), max_norm=5.0)
    """

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        if max_norm < 0:
            raise ValueError(f"max_norm must be positive, or 0 for no clipping, got {max_norm}")
        self.network = network
        self.max_norm = max_norm

    def attach(self, trainer: Trainer) -> None:
        """Clip between the backward pass and the optimiser's step."""
        if self.max_norm > 0:
            trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, _: Engine) -> None:
        """Clip the current gradients."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class StopOnDivergence:
    """End a training with an error when the loss is NaN or infinite.

    A loss on a GPU is read every 20 iterations and at the end of an epoch, because each reading waits for the GPU. A
    NaN is not missed, because the loss stays NaN.

    Raises:
        RuntimeError: the loss is not finite. The message has the iteration, the learning rate and the remedy.
    """

    def attach(self, trainer: Trainer) -> None:
        """Check the loss after iterations and, before anything is saved, after epochs."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def __call__(self, trainer: Engine) -> None:
        """Check the loss of the current iteration. On a GPU, check every 20th."""
        on_gpu = getattr(loss_of(trainer.state.output), "is_cuda", False)
        if not on_gpu or trainer.state.iteration % 20 == 0:
            self._judge(trainer)

    def _judge(self, trainer: Engine) -> None:
        loss = loss_of(trainer.state.output)
        loss = float("nan") if loss is None else float(loss)
        if not math.isfinite(loss):
            rate = trainer.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]  # of MONAI's trainers
            raise RuntimeError(
                f"the loss is {loss} in iteration {trainer.state.iteration} at a learning rate of {rate:.3g}. Lower "
                "learning_rate or max_gradient_norm, or raise warmup_iterations. The best weights so far are kept"
            )


class MovingAverage(EMAHandler):
    """Average a network's weights exponentially, with ignite's handler. The random initial weights fade quickly.

    In iteration t, the newest weights have the share max(`momentum`, 9 / (10 + t)). The average therefore covers about
    the last t / 10 iterations, and at most 1 / `momentum`. A resumed training continues in the same way. Weights loaded
    into the network are loaded into the average, too. Buffers (batch normalisation) are copied, not averaged.

    Args:
        model: the trained network.
        momentum: smallest share of the newest weights, in (0, 1).

    Attributes:
        ema_model: copy of the network with averaged weights, on the same device, in evaluation mode. Save it with the
            training's state.

    Example:
        >>> MovingAverage(torch.nn.Linear(2, 1), momentum=0.002).ema_model.training
        False
    """

    def __init__(self, model: nn.Module, momentum: float = 0.002) -> None:
        super().__init__(model, momentum)
        self.model.register_load_state_dict_post_hook(self._start_from)

    def _start_from(self, model: nn.Module, _: Any) -> None:
        """Copy loaded weights. A resumed training loads the saved average afterwards."""
        self.ema_model.load_state_dict(model.state_dict())

    def attach(self, engine: Engine, name: str = "ema_momentum", *args: Any, **kwargs: Any) -> None:
        """Average after every iteration of a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._set_momentum, name)
        super().attach(engine, name, *args, **kwargs)

    def _set_momentum(self, engine: Engine, name: str) -> None:
        setattr(engine.state, name, max(self.momentum, 9 / (10 + engine.state.iteration)))


class Validation(ValidationHandler):
    """Validate at intervals with MONAI's `ValidationHandler`, and always after the last epoch.

    Without the last validation, 5 epochs with an interval of 10 would end without weights. With a falling learning
    rate, the last epochs are the best. A validation stopped by `Interruption` is made up for when the training is
    resumed.

    Args:
        interval: epochs between two validations.
        validator: evaluator to run.
        exec_at_start: validate before epoch 1. A fine-tuned model is then saved only if better than before. Place the
            handler after `LoadWeights`.
        time_limit: with a limit, validate up to 10 times within the limit, not at intervals. Validations take at most a
            tenth of the time.
    """

    TIMES, SHARE = 10, 0.1  # number of validations within a time limit, and their largest share of the time

    def __init__(
        self,
        interval: int,
        validator: Evaluator | None = None,
        exec_at_start: bool = False,
        time_limit: TimeLimit | None = None,
    ) -> None:
        super().__init__(interval, validator, exec_at_start=exec_at_start)
        self.time_limit = time_limit
        self._part = 0  # of the time limit, at the last validation
        self._seconds = self._last = 0.0  # durations of all validations together and of the last

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        engine.state_dict_user_keys.append("validation_due")
        engine.state.validation_due = False  # type: ignore[attr-defined]  # whether a validation was stopped
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def _start(self, trainer: Engine) -> None:
        state: Any = trainer.state
        if state.validation_due or (self.exec_at_start and state.iteration == 0):
            self(trainer)

    def _is_due(self, trainer: Engine, epoch: int) -> bool:
        if epoch == trainer.state.max_epochs:
            return True
        limit = self.time_limit
        if limit is None or not limit.limited:
            return epoch % self.interval == 0
        part = int(limit.fraction * self.TIMES)
        allowed = self.SHARE * limit.fraction * limit.seconds
        due = part != self._part and self._seconds + self._last <= allowed
        due = bool(idist.broadcast(float(due), src=0))  # either all processes validate, or none
        self._part = part if due else self._part
        return due

    def __call__(self, engine: Engine) -> None:
        """Validate, and measure the duration."""
        start = time.monotonic()
        super().__call__(engine)
        engine.state.validation_due = bool(getattr(self.validator, "should_terminate", False))  # type: ignore[attr-defined]
        self._last = time.monotonic() - start
        self._seconds += self._last


class WarmupCosineSchedule(_WarmupCosineSchedule):
    """MONAI's linear warm-up and cosine decay, with the length of the configuration when a training is resumed.

    MONAI's class, with the same arguments, restores `t_total` from the saved state. A finished training, resumed with
    more epochs, would continue with a learning rate of 0. Here the saved state restores only the position.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> schedule = WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=6)
        >>> schedule.get_last_lr()
        [0.0]
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position in the schedule, not its shape."""
        configured = {name: getattr(self, name) for name in ("warmup_steps", "t_total", "end_lr", "cycles")}
        super().load_state_dict({**state_dict, **configured})


class EndProcesses:
    """End the worker processes of a trainer's data loader when the training is over, also after an error or a signal.

    The workers ignore signals, see `scripts.data.TileLoader`. The trace of an error keeps the loader's iterator, and
    Python would wait for the workers for ever at the end of the program. Workers that do not end in time, for example
    while a network disk does not answer, are killed.
    """

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer."""
        trainer.add_event_handler(Events.COMPLETED, self)
        at_error(trainer, self)

    def __call__(self, trainer: Trainer, error: BaseException | None = None) -> None:
        """End the loader's worker processes, and drop its iterator. A further epoch would start new processes."""
        if isinstance(trainer.data_loader, DataLoader):
            iterator: Any = trainer.data_loader._iterator  # not public in torch
            if hasattr(iterator, "_shutdown_workers"):  # with worker processes
                iterator._shutdown_workers()
                for worker in iterator._workers:
                    if worker.is_alive():
                        worker.kill()
            trainer.data_loader._iterator = None
