"""Record a training as a table with one row per epoch."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer
from torch.utils.tensorboard import SummaryWriter

from ..io.files import read_csv, six_digits, write_csv
from .disk import continuing_later
from .progress import loss_of
from .tracking import log_metrics

LOSSES, COUNT, RATE = (
    "epoch_losses",
    "epoch_loss_count",
    "epoch_lr",
)  # attributes of trainer.state, saved with the trainer
COLUMNS = ("epoch", "iteration", "lr", "loss", "seconds")


class HistoryCSV:
    """Write `history.csv`: a row per epoch, with the metrics of validated epochs.

    | column      | value                                                        |
    |-------------|--------------------------------------------------------------|
    | `epoch`     | number of the epoch                                          |
    | `iteration` | iterations so far                                            |
    | `lr`        | mean learning rate of the epoch's iterations                 |
    | `loss`      | mean over the epoch's iterations and over all processes      |
    | `seconds`   | duration of the epoch's iterations, without the validation   |
    | metrics     | of the evaluator, empty where the epoch was not validated    |

    The file is replaced after every epoch and validation, so a crash leaves a complete file. A resumed training
    continues the file and replaces the rows of repeated epochs. The loss of an epoch with an interruption is the mean
    over all of its iterations. A new training replaces the file: `TrainingFolders` moves an earlier file aside. MLflow,
    if used, gets lr, loss and seconds. It gets the metrics from MONAI's own handler. TensorBoard gets lr.

    Args:
        output_dir: folder of `history.csv`.
        evaluator: source of the metrics. None: no validation.
        writer: TensorBoard's writer. None: no TensorBoard.
    """

    def __init__(
        self, output_dir: str | Path, evaluator: Evaluator | None = None, writer: SummaryWriter | None = None
    ) -> None:
        self.path = Path(output_dir) / "history.csv"
        self.evaluator = evaluator
        self.writer = writer
        self.rows: dict[int, dict[str, Any]] | None = None

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer. The position in its list of handlers does not matter."""
        trainer.state_dict_user_keys.extend([LOSSES, COUNT, RATE])
        setattr(trainer.state, LOSSES, 0.0)
        setattr(trainer.state, COUNT, 0)
        setattr(trainer.state, RATE, float("nan"))
        trainer.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        trainer.add_event_handler(Events.ITERATION_STARTED, self._iteration_started)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._validated, trainer)

    def _epoch_started(self, trainer: Engine) -> None:
        state = trainer.state
        self._know_rows(state.epoch)  # a resumed trainer knows its epoch only from here on
        if not state.epoch_length or state.iteration % state.epoch_length == 0:  # else resumed within the epoch
            setattr(state, LOSSES, 0.0)
            setattr(state, COUNT, 0)
            setattr(state, RATE, 0.0)

    def _iteration_started(self, trainer: Engine) -> None:
        """Update the mean of the learning rate."""
        state = trainer.state
        rate = trainer.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]  # of MONAI's trainers
        number = (state.iteration - 1) % (state.epoch_length or state.iteration) + 1  # within the epoch
        setattr(state, RATE, getattr(state, RATE) + (rate - getattr(state, RATE)) / number)

    def _iteration_completed(self, trainer: Engine) -> None:
        value: Any = loss_of(trainer.state.output)
        if value is not None:  # trainers of GANs, for example, return other entries
            if isinstance(value, torch.Tensor) and value.device.type != "mps":  # which has no float64
                value = value.double()
            setattr(trainer.state, LOSSES, getattr(trainer.state, LOSSES) + value)  # on a GPU, without waiting for it
            setattr(trainer.state, COUNT, getattr(trainer.state, COUNT) + 1)

    def _epoch_completed(self, trainer: Engine) -> None:
        state = trainer.state
        values = {
            "lr": six_digits(getattr(state, RATE)),
            "loss": _mean(getattr(state, LOSSES), getattr(state, COUNT)),
            "seconds": round(state.times[Events.EPOCH_COMPLETED.name] or 0.0, 3),
        }
        self._record(state.epoch, iteration=state.iteration, **values)
        known = {f"epoch_{name}": value for name, value in values.items() if value is not None}
        log_metrics(trainer, known, state.epoch)
        if self.writer is not None and idist.get_rank() == 0:
            self.writer.add_scalar("learning_rate", getattr(state, RATE), state.epoch)

    def _validated(self, evaluator: Engine, trainer: Engine) -> None:
        if trainer.state.epoch:  # else a validation before the first epoch
            self._know_rows(trainer.state.epoch + 1)  # of a resumed training, made up for
        metrics = {k: six_digits(float(v)) for k, v in evaluator.state.metrics.items() if isinstance(v, Real)}
        self._record(trainer.state.epoch, **metrics)

    def _record(self, epoch: int, **values: Any) -> None:
        if idist.get_rank() != 0 or self.rows is None:  # None: a validation before the first epoch
            return
        self.rows.setdefault(epoch, {"epoch": epoch}).update(values)
        ordered = [self.rows[e] for e in sorted(self.rows)]
        with continuing_later(self.path):
            write_csv(self.path, ordered, list(dict.fromkeys([*COLUMNS, *(name for row in ordered for name in row)])))

    def _know_rows(self, epoch: int) -> None:
        """Read the rows before an epoch, once."""
        if self.rows is None:
            earlier = read_csv(self.path) if epoch > 1 and idist.get_rank() == 0 and self.path.is_file() else []
            self.rows = {int(row["epoch"]): dict(row) for row in earlier if int(row["epoch"]) < epoch}


def _mean(losses: Any, count: int) -> float | None:
    """Compute the mean over all processes. None without any loss."""
    if idist.get_world_size() > 1:
        losses, count = idist.all_reduce(losses), idist.all_reduce(count)  # type: ignore[assignment]
    return six_digits(float(losses) / count) if count else None


def read_history(path: str | Path) -> list[dict[str, float | None]]:
    """Read `history.csv` as numbers. Empty cells become None.

    Example:
        >>> from scripts.io import write_csv
        >>> write_csv("history.csv", [{"epoch": 1, "loss": 0.5, "val_mean_dice": None}])
        >>> read_history("history.csv")
        [{'epoch': 1.0, 'loss': 0.5, 'val_mean_dice': None}]
    """
    return [{name: float(value) if value else None for name, value in row.items()} for row in read_csv(path)]
