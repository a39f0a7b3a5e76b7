"""Say at the end of a run what its scores are worth."""

from __future__ import annotations

import logging
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Trainer

from ..settings import read_settings
from .history import read_history

logger = logging.getLogger(__name__)


class Outcome:
    """Warn at the end of a training if its best weights find nothing in the validation images.

    Args:
        history: the file history.csv of the training.
        weights: the file of weights, e.g. models/model.pt, with its model.json.
    """

    def __init__(self, history: str | Path, weights: str | Path) -> None:
        self.history = history
        self.weights = weights

    def attach(self, trainer: Trainer) -> None:
        """Look when a training has ended. Place the handler after `FitObjects`: other settings may find objects."""
        trainer.add_event_handler(Events.COMPLETED, self)

    def __call__(self, _: Trainer) -> None:
        """Warn in the first process."""
        reason = nothing_found(self.history, self.weights) if idist.get_rank() == 0 else ""
        if reason:
            logger.warning(
                f"nothing was found in the validation images: {reason}. Train longer (--max_minutes, or --resume true "
                "with more --max_epochs), and check in panel.png that the labels lie on the objects"
            )


class SelectionNote:
    """Tell at the end of an evaluation that its images also chose the weights. Place after the reports.

    Example, in a configuration::

        - _target_: scripts.handlers.SelectionNote
          _disabled_: "$@split_name != 'validation'"
    """

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.COMPLETED, self)

    def __call__(self, _: Engine) -> None:
        """Tell in the first process."""
        if idist.get_rank() == 0:
            logger.info(
                "optimistic: these images also chose the weights and the settings of objects. For unbiased scores, "
                "evaluate other annotated images"
            )


def nothing_found(history: str | Path, weights: str | Path) -> str:
    """Check whether the best weights of a training find nothing in the validation images.

    Args:
        history: the file history.csv.
        weights: the file of weights, with its model.json.

    Returns:
        The scores that are 0; "" if something was found, or nothing is known.

    Example:
        >>> nothing_found("absent.csv", "absent.pt")
        ''
    """
    known = read_settings(weights)
    if known is None or (known.training.fitted is not None and known.training.fitted.after > 0):
        return ""
    best = known.training
    if best.best == 0:
        return f"the best {best.key_metric} is 0"
    rows = read_history(history) if Path(history).is_file() else []
    row = next((row for row in reversed(rows) if row["epoch"] == best.epoch), {})
    dice = {name: row.get(f"val_dice_{name}") for name in known.class_names[1:]}
    measured = [value for value in dice.values() if value is not None]
    if not measured or any(value != 0 for value in measured):  # NaN: no such pixel in image and truth
        return ""
    return f"the Dice of {', '.join(name for name, value in dice.items() if value == 0)} is 0"
