"""Show the progress of a run, and keep its loss on the GPU."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, IterationEvents, Trainer

from ..ranks import Tally, world_size
from .interruption import at_error
from .time_limit import TimeLimit

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger(__name__)

SMOOTHING = 0.95  # share of the previous mean in the running mean of the loss
LINES = 10  # of a run without a terminal and without validations
FIRST = 10  # iterations of a training before its time is estimated
REFRESHED = 0.2  # seconds between two changes of the live line


class ProgressBar:
    """Show progress, running loss and remaining time: a live line on a terminal, and lines that stay.

    The live line is on standard error, needs rich, and disappears at the end. Messages appear above. Lines that stay
    are messages of `logging`:

    - of a training with validations, a line for each validation;
    - of other runs without a terminal, a line for each tenth of the run.

    Only the first of several processes shows anything. Images without a training are those of all processes.

    Args:
        description: name of the run, e.g. "training".
        every: without a terminal, iterations between two lines. None: a tenth of the run. The last iteration
            always has a line.
        time_limit: with a limit, its remaining time is shown.
        evaluator: of a training with validations. Place the handler after `BestWeights`.

    Raises:
        ValueError: `every` is below 1.

    Example:
        >>> bar = ProgressBar("segmenting", every=1)
    """

    def __init__(
        self,
        description: str = "training",
        every: int | None = None,
        time_limit: TimeLimit | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        if every is not None and every < 1:
            raise ValueError(f"every must be at least 1 iteration, got {every}")
        self.description = description
        self.every = every
        self.time_limit = time_limit if time_limit is not None and time_limit.limited else None
        self.evaluator = evaluator
        self.loss: Any = None  # a scalar; on a GPU a tensor, because a number would wait for the GPU
        self._begun = 0.0  # time
        self._epochs_before = 0  # of a resumed training
        self._done = 0  # iterations of this run
        self._tallies: tuple[Tally, Tally] | None = None  # images of all processes, done and in all
        self._score = ""  # of the last validation
        self._best = -math.inf  # key metric before this epoch
        self._live = LiveLine(description)

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or evaluator."""
        if world_size() > 1 and not isinstance(engine, Trainer):
            engine.add_event_handler(Events.STARTED, self._begin_count)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._observe)
        for event in (Events.COMPLETED, Events.INTERRUPT):
            engine.add_event_handler(event, self._live.stop)
        at_error(engine, self._live.stop)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._show_validation)
            self.evaluator.add_event_handler(Events.COMPLETED, self._tell_validation, engine)

    def _begin_count(self, engine: Engine) -> None:
        """Begin to count the images of all processes."""
        self._tallies = Tally(), Tally()
        self._tallies[1].add(engine.state.epoch_length or 0)

    def _count(self, _: Engine) -> None:
        assert self._tallies is not None
        self._tallies[0].add(1)

    def _counts(self, engine: Engine) -> tuple[int, int | None]:
        """Count what is done, and all: iterations of this run, or images of all processes. None: not known yet."""
        if self._tallies is None:
            return self._done, self._total(engine)
        return self._tallies[0].count, self._tallies[1].count

    def _reset(self, _: Engine) -> None:
        self.loss, self._done, self._score = None, 0, ""

    def _begin(self, engine: Engine) -> None:
        self._live.start()
        if self._done == 0:
            self._begun, self._epochs_before = time.monotonic(), engine.state.epoch - 1
        self._best = getattr(engine.state, "best_key_metric", -math.inf)
        self._live.show(self._state(engine), self._share(engine))

    def _observe(self, engine: Engine) -> None:
        self._done += 1
        loss = loss_of(engine.state.output)
        if loss is not None:
            value = loss if getattr(loss, "is_cuda", False) else float(loss)
            share = max(1 - SMOOTHING, 1 / self._done)  # of the newest: a plain mean at first
            self.loss = value if self.loss is None else (1 - share) * self.loss + share * value
        total = self._total(engine)
        if self._live.due:
            self._live.show(self._state(engine), self._share(engine))
        if not self._live.on and self._has_line(total):
            logger.info("%s: %s", self.description, self._state(engine))

    def _has_line(self, total: int | None) -> bool:
        """Whether the current iteration has a line. A training with validations has an early line, with its time."""
        if self.evaluator is not None:
            return self._done == FIRST and (total is None or total > 2 * FIRST)
        every = self.every or max(1, -(-(total or LINES) // LINES))
        return self._done % every == 0 or self._done == total

    def _total(self, engine: Engine) -> int | None:
        """Count the iterations of this whole run. None: not known yet."""
        length, epochs = engine.state.epoch_length, engine.state.max_epochs
        ends_at_limit = self.time_limit is not None and epochs != engine.state.epoch
        return None if ends_at_limit or not length or not epochs else (epochs - self._epochs_before) * length

    def _share(self, engine: Engine) -> float:
        """Estimate the done share of this run."""
        done, total = self._counts(engine)
        if not total:
            return 0.0 if self.time_limit is None else self.time_limit.fraction
        return done / total

    def _left(self, engine: Engine) -> str:
        """Estimate the remaining time. Empty: not known yet, or done."""
        done, total = self._counts(engine)
        if done == total:
            return ""
        if self.time_limit is not None and total is None:
            seconds = self.time_limit.seconds_left
        elif total is not None and done:
            seconds = (time.monotonic() - self._begun) / done * (total - done)
        else:
            return ""
        return f"{_hours(seconds)} left"

    def _position(self, engine: Engine) -> str:
        """Say how far the run is: in epochs, without a loss in images."""
        epoch, epochs = engine.state.epoch, engine.state.max_epochs
        if not isinstance(engine, Trainer):
            return "{} of {} images".format(*self._counts(engine))
        whole = epochs is None or (self.time_limit is not None and epochs != epoch)
        return f"epoch {epoch}" if whole else f"epoch {epoch:>{len(str(epochs))}}/{epochs}"

    def _state(self, engine: Engine) -> str:
        loss = "" if self.loss is None else f"loss {float(self.loss):.3f}"
        parts = [self._position(engine), loss, self._score, self._left(engine)]
        return ", ".join(part for part in parts if part)

    def _show_validation(self, evaluator: Engine) -> None:
        if self._live.due:
            done, images = evaluator.state.iteration, evaluator.state.epoch_length or 1
            alone = world_size() == 1  # else the others have about as many images
            self._live.show(f"validating image {done} of {images}" if alone else f"validating: {done / images:.0%}")

    def _tell_validation(self, evaluator: Engine, trainer: Engine) -> None:
        """Tell the scores of a validation in a line, and whether its weights are the best."""
        metrics = {name.removeprefix("val_"): value for name, value in evaluator.state.metrics.items()}
        key = str(getattr(evaluator.state, "key_metric_name", "") or "").removeprefix("val_")
        dice = [name for name in metrics if "dice" in name]  # with two classes, the last is that of the objects
        shown = {
            key: key,
            **({"mean_dice": "mean_dice"} if len(dice) != 2 else {dice[-1]: "dice"}),
        }  # names may be long
        scores = [f"{shown[name]} {float(metrics[name]):.3f}" for name in shown if isinstance(metrics.get(name), Real)]
        best = float(getattr(trainer.state, "best_key_metric", -math.inf))  # by now, of this validation if better
        is_best = best > self._best
        self._score = ", ".join(scores[:1]) + (f" (best {best:.3f})" if math.isfinite(best) and not is_best else "")
        place = self._position(trainer) if trainer.state.epoch else "before epoch 1"
        loss = [] if self.loss is None else [f"loss {float(self.loss):.3f}"]
        goes_on = trainer.state.epoch != trainer.state.max_epochs
        ends = ["best" if is_best else "", self._left(trainer) if goes_on else ""]
        logger.info(", ".join([place, *loss, *scores, *filter(None, ends)]))


class LiveLine:
    """A line at the bottom of a terminal that is drawn anew: description, bar and text. Without a terminal, nothing.

    Without rich, too, there is no line. What is printed meanwhile appears above.

    Args:
        description: first words of the line.

    Example:
        >>> line = LiveLine("training")
        >>> line.show("epoch 1 of 3", share=1 / 3)
        >>> line.stop()
    """

    def __init__(self, description: str) -> None:
        self.description = description
        self._progress: Progress | None = None
        self._shown = -math.inf  # time

    @property
    def on(self) -> bool:
        """Whether there is a line."""
        return self._progress is not None

    @property
    def due(self) -> bool:
        """Whether there is a line, and time to draw it anew."""
        return self.on and time.monotonic() - self._shown >= REFRESHED

    def start(self) -> None:
        """Show the line, if standard error is a terminal."""
        if self.on or not sys.stderr.isatty():
            return
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn
            from rich.table import Column
        except ImportError:
            return
        console = Console(stderr=True)
        if console.is_dumb_terminal:  # of an editor, for example: lines alone
            return
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
            TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
            auto_refresh=False,  # a thread that draws could hold a lock while a process for tiles starts
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            expand=True,
        )
        self._progress.add_task(self.description, total=1.0, text="")
        self._progress.start()

    def show(self, text: str, share: float | None = None) -> None:
        """Draw the line anew.

        Args:
            text: behind the bar.
            share: of the bar, 0 to 1. None: as before.
        """
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=share, text=text, refresh=True)
            self._shown = time.monotonic()

    def stop(self, *_: Any) -> None:
        """Remove the line."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _hours(seconds: float) -> str:
    """Write a time as hours, minutes and seconds. The hours of days count, too: lines stay short."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


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
