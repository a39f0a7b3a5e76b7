"""Show the progress of a run, and keep its loss on the GPU."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar as IgniteProgressBar
from monai.engines import IterationEvents, Trainer

from .time_limit import TimeLimit

SMOOTHING = 0.95  # share of the previous mean in the running mean of the loss


class ProgressBar:
    """Show progress, running loss and remaining time: ignite's bar on a terminal, otherwise lines for a log.

    Output goes to standard error, from the first of several processes only.

    Args:
        description: name of the run, e.g. "training".
        every: without a terminal, iterations between two lines. The last iteration always has a line.
        time_limit: with a limit, its remaining time is shown.

    Raises:
        ValueError: `every` is below 1.

    Example:
        >>> bar = ProgressBar("segmenting", every=1)
    """

    def __init__(self, description: str = "training", every: int = 50, time_limit: TimeLimit | None = None) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 iteration, got {every}")
        self.description = description
        self.every = every
        self.time_limit = time_limit if time_limit is not None and time_limit.limited else None
        self.loss: Any = None  # a scalar; on a GPU a tensor, because a number would wait for the GPU
        self._begun = 0.0  # time
        self._epochs_before = 0  # of a resumed training
        self._done = 0  # iterations of this run

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or evaluator."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._observe)
        if sys.stderr.isatty():
            on_gpu = str(getattr(engine.state, "device", "")).startswith("cuda")
            event = Events.ITERATION_COMPLETED(every=20 if on_gpu else 1)
            bar = IgniteProgressBar(desc=self.description)
            bar.attach(engine, output_transform=lambda _: self._shown(engine), event_name=event)
        else:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._write_line)

    def _reset(self, _: Engine) -> None:
        self.loss, self._done = None, 0

    def _begin(self, engine: Engine) -> None:
        if self._done == 0:
            self._begun, self._epochs_before = time.monotonic(), engine.state.epoch - 1

    def _observe(self, engine: Engine) -> None:
        self._done += 1
        loss = loss_of(engine.state.output)
        if loss is not None:
            value = loss if getattr(loss, "is_cuda", False) else float(loss)
            past = value if self.loss is None else self.loss
            self.loss = SMOOTHING * past + (1 - SMOOTHING) * value

    def _total(self, engine: Engine) -> int | None:
        """Count the iterations of this whole run. None: not known yet."""
        length, epochs = engine.state.epoch_length, engine.state.max_epochs
        ends_at_limit = self.time_limit is not None and epochs != engine.state.epoch
        return None if ends_at_limit or not length or not epochs else (epochs - self._epochs_before) * length

    def _shown(self, engine: Engine) -> dict[str, str]:
        total = self._total(engine)
        shown = {} if self.loss is None else {"loss": f"{float(self.loss):.4f}"}
        if self.time_limit is not None:
            shown["left"] = str(timedelta(seconds=round(self.time_limit.seconds_left)))
        elif total is not None and self._done:
            seconds = (time.monotonic() - self._begun) / self._done * (total - self._done)
            shown["left"] = str(timedelta(seconds=round(seconds)))
        return shown

    def _write_line(self, engine: Engine) -> None:
        total = self._total(engine)
        if self._done % self.every and self._done != total:
            return
        position = f"{self._done}/{total}" if total is not None else f"{self._done}"
        shown = ", ".join(f"{name} {value}" for name, value in self._shown(engine).items())
        line = f"{self.description}: epoch {engine.state.epoch}, iteration {position}, {shown}"
        print(line, file=sys.stderr, flush=True)


def loss_of(output: Any) -> Any:
    """Get the loss from a MONAI trainer's `engine.state.output`, decollated or not. None: the output of an evaluator.

    Returns:
        A scalar tensor, detached, or a number.

    Example:
        >>> loss_of([{"loss": torch.tensor([0.5])}])
        tensor(0.5000)
    """
    first = output[0] if isinstance(output, list) and output else output
    loss = first.get("loss") if isinstance(first, Mapping) else None
    return loss.detach().reshape(-1)[0] if isinstance(loss, torch.Tensor) else loss


class LossOnDevice:
    """Keep a trainer's loss as a tensor on the GPU. The next step then starts without waiting.

    MONAI, when decollating the output, reads a scalar loss as a number, and waits for the GPU. Here every item gets the
    loss as a tensor (1,). `loss_of` returns a scalar tensor.
    """

    def attach(self, trainer: Trainer) -> None:
        """Replace the loss after the backward pass."""
        trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, trainer: Engine) -> None:
        """Change the output of the current iteration."""
        output: Any = trainer.state.output
        output["loss"] = output["loss"].detach().expand(len(output["image"]), 1)
