"""A progress bar with loss and remaining time, or plain lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TextIO

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar as IgniteProgressBar
from monai.engines import IterationEvents, Trainer

from scripts.handlers.time_limit import TimeLimit


class ProgressBar:
    """Show how far a run is, with the running loss and the time left: ignite's bar on a terminal, else lines for a log.

    Only the first of several processes shows anything.

    Args:
        description: what is run, e.g. "training".
        every: without a terminal, iterations between two lines; the last iteration has a line too.
        smoothing: share of the past in the running mean of the loss, in [0, 1).
        stream: where to write; None: standard error.
        time_limit: of a training in minutes, which then says how much time is left.
    """

    def __init__(
        self,
        description: str = "training",
        every: int = 50,
        smoothing: float = 0.95,
        stream: TextIO | None = None,
        time_limit: TimeLimit | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 iteration, got {every}")
        self.description = description
        self.every = every
        self.smoothing = smoothing
        self.stream = stream
        self.time_limit = None if time_limit is None or time_limit.seconds is None else time_limit
        self.loss: Any = None  # a scalar, on a GPU a tensor: to make it a number is to wait for the GPU
        self._begun: tuple[float, int] | None = None  # time, epochs done before (a resumed training has some)
        self._done = 0  # iterations of this run

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or evaluator."""
        if idist.get_rank() != 0:
            return
        stream = self.stream or sys.stderr
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._observe)
        if stream.isatty():
            bar = IgniteProgressBar(desc=self.description, file=stream)
            on_gpu = str(getattr(engine.state, "device", "")).startswith("cuda")
            often = Events.ITERATION_COMPLETED(every=20 if on_gpu else 1)
            bar.attach(engine, output_transform=lambda _: self._shown(engine), event_name=often)
        else:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._write_line, stream)

    def _reset(self, _: Engine) -> None:
        self.loss, self._begun, self._done = None, None, 0

    def _begin(self, engine: Engine) -> None:
        if self._begun is None:
            self._begun = (time.monotonic(), engine.state.epoch - 1)

    def _observe(self, engine: Engine) -> None:
        self._done += 1
        loss = loss_of(engine.state.output)
        if loss is not None:
            value = loss if getattr(loss, "is_cuda", False) else float(loss)
            past = value if self.loss is None else self.loss
            self.loss = self.smoothing * past + (1 - self.smoothing) * value

    def _total(self, engine: Engine) -> int | None:
        """Iterations of this whole run, if they can be known."""
        length, epochs = engine.state.epoch_length, engine.state.max_epochs
        if self.time_limit is not None and epochs != engine.state.epoch:
            return None
        return None if not length or not epochs or self._begun is None else (epochs - self._begun[1]) * length

    def _shown(self, engine: Engine) -> dict[str, str]:
        total = self._total(engine)
        shown = {} if self.loss is None else {"loss": f"{float(self.loss):.4f}"}
        if self.time_limit is not None:
            shown["left"] = str(timedelta(seconds=round(self.time_limit.seconds_left)))
        elif total is not None and self._begun is not None and self._done:
            seconds = (time.monotonic() - self._begun[0]) / self._done * (total - self._done)
            shown["left"] = str(timedelta(seconds=round(seconds)))
        return shown

    def _write_line(self, engine: Engine, stream: TextIO) -> None:
        total = self._total(engine)
        if self._done % self.every and self._done != total:
            return
        position = f"{self._done}/{total}" if total is not None else f"{self._done}"
        shown = ", ".join(f"{name} {value}" for name, value in self._shown(engine).items())
        print(f"{self.description}: epoch {engine.state.epoch}, iteration {position}, {shown}", file=stream, flush=True)


def loss_of(output: Any) -> Any:
    """The loss (a scalar tensor) in the output of a MONAI trainer, decollated or not; None in that of an evaluator."""
    first = output[0] if isinstance(output, list) and output else output
    loss = first.get("loss") if isinstance(first, Mapping) else None
    return loss.detach().reshape(-1)[0] if isinstance(loss, torch.Tensor) else loss


class LossOnDevice:
    """Keep a trainer's loss as a tensor on its device, so that the next step is queued without waiting for the GPU.

    MONAI's trainer takes its output apart, and makes a number of a loss without axes. With this handler every item gets
    the loss as a tensor (1,). `loss_of` gives it without the axis.
    """

    def attach(self, trainer: Trainer) -> None:
        """Replace the loss after the backward pass."""
        trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, trainer: Engine) -> None:
        """Change the output of the iteration under way."""
        output: Any = trainer.state.output
        output["loss"] = output["loss"].detach().expand(len(output["image"]), 1)
