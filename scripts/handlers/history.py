"""The course of a training as a table: one row per epoch."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer

from scripts.handlers.progress import loss_of
from scripts.handlers.tracking import log_metrics
from scripts.io.files import read_csv, six_digits, write_csv

COLUMNS = ("epoch", "iteration", "lr", "loss", "seconds")


class HistoryCSV:
    """Keep `history.csv`: epoch, iteration, lr, loss, seconds, and the metrics of the epochs that were validated.

    `lr` is the learning rate at the start of the epoch, `loss` the mean over its iterations and over all processes,
    `seconds` the time of its iterations without the validation. The file is replaced as a whole after every epoch and
    validation, so that a crash leaves the last complete one. A resumed training goes on in it: rows of epochs that are
    run again are dropped. A new training keeps the file of the last one as `history.previous.csv`. MLflow, where it is
    used, is told lr, loss and seconds of every epoch; its own handler tells it the metrics.

    Args:
        output_dir: where `history.csv` is written.
        evaluator: whose metrics are added; None: no validation.
    """

    def __init__(self, output_dir: str | Path, evaluator: Evaluator | None = None) -> None:
        self.path = Path(output_dir) / "history.csv"
        self.evaluator = evaluator
        self.rows: dict[int, dict[str, Any]] | None = None
        self._losses: list[torch.Tensor] = []
        self._lr = float("nan")

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer; the place in its list of handlers does not matter."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._validated, trainer)

    def _epoch_started(self, trainer: Engine) -> None:
        if self.rows is None:  # only now a resumed trainer is sure to know its epoch
            self.rows = self._earlier_rows(trainer.state.epoch)
        self._losses = []
        self._lr = trainer.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]  # of MONAI's trainers

    def _iteration_completed(self, trainer: Engine) -> None:
        loss = loss_of(trainer.state.output)
        if loss is not None:
            self._losses.append(torch.as_tensor(loss).detach().float())  # a number only at the end: no wait for the GPU

    def _epoch_completed(self, trainer: Engine) -> None:
        total = float(torch.stack(self._losses).cpu().double().sum()) if self._losses else 0.0
        total, count = _sum_over_processes(total), _sum_over_processes(float(len(self._losses)))
        state = trainer.state
        values = {
            "lr": six_digits(self._lr),
            "loss": six_digits(total / count) if count else None,
            "seconds": round(state.times[Events.EPOCH_COMPLETED.name] or 0.0, 3),
        }
        self._record(state.epoch, iteration=state.iteration, **values)
        log_metrics(trainer, {f"epoch_{name}": value for name, value in values.items()}, state.epoch)

    def _validated(self, evaluator: Engine, trainer: Engine) -> None:
        metrics = {k: six_digits(float(v)) for k, v in evaluator.state.metrics.items() if isinstance(v, Real)}
        if self.rows is not None:  # not before the first epoch
            self._record(trainer.state.epoch, **metrics)

    def _record(self, epoch: int, **values: Any) -> None:
        if idist.get_rank() != 0 or self.rows is None:
            return
        row = self.rows.setdefault(epoch, {"epoch": epoch})
        row |= values
        ordered = [self.rows[e] for e in sorted(self.rows)]
        names = dict.fromkeys([*COLUMNS, *(name for row in ordered for name in row)])
        write_csv(self.path, ordered, list(names))

    def _earlier_rows(self, epoch: int) -> dict[int, dict[str, Any]]:
        if idist.get_rank() != 0 or not self.path.is_file():
            return {}
        if epoch <= 1:
            self.path.replace(self.path.with_name("history.previous.csv"))
            return {}
        return {int(row["epoch"]): dict(row) for row in read_csv(self.path) if int(row["epoch"]) < epoch}


def read_history(path: str | Path) -> list[dict[str, float | None]]:
    """Read `history.csv`: numbers, and None where nothing was measured."""
    return [{name: float(value) if value else None for name, value in row.items()} for row in read_csv(path)]


def _sum_over_processes(value: float) -> float:
    reduce: Callable[[float], Any] = idist.all_reduce
    return float(reduce(value))
