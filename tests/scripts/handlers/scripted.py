"""A tiny network, trained by MONAI's engines with the bundle's handlers and validated with given scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import IgniteMetricHandler, LrScheduleHandler
from monai.metrics import CumulativeIterationMetric
from torch import nn

from scripts.handlers.checkpoints import BestWeights
from scripts.handlers.interruption import Interruption
from scripts.handlers.resuming import ResumeTraining, TrainingState
from scripts.handlers.training import Validation


class Scripted(CumulativeIterationMetric):
    """A key metric with a given value per validation."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = iter(values)

    def _compute_tensor(self, y_pred, y=None, **_):
        return y_pred

    def aggregate(self):
        return torch.tensor(next(self.values))


def training(
    folder: Path,
    scores: list[float],
    epochs: int,
    patience: int = 0,
    resume: bool = False,
    interval: int = 1,
    validated: bool = True,
    first: bool = False,
    metric: str = "score",
    network: nn.Module | None = None,
    optimizer: Any = torch.optim.SGD,
    **options: Any,
) -> tuple[SupervisedTrainer, Any]:
    """Make a trainer of two steps an epoch, validated after each epoch with the given scores.

    Args:
        network: default: a convolution with the weights of seed 0.
        optimizer, options: class and arguments of the optimiser.
    """
    torch.manual_seed(0)
    network = network or nn.Conv2d(1, 1, 1)
    if optimizer is torch.optim.SGD:
        options = {"momentum": 0.9, **options}
    built = optimizer(network.parameters(), **{"lr": 0.1, **options})
    schedule = torch.optim.lr_scheduler.StepLR(built, 1, gamma=0.5)
    data = [{"image": torch.ones(1, 1, 2, 2), "label": torch.zeros(1, 1, 2, 2)}] * 2
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=data[:1] if validated else [],
        network=network,
        key_val_metric={metric: IgniteMetricHandler(Scripted(scores), output_transform=lambda o: (o[0]["pred"],) * 2)},
    )
    objects = {"model": network, "optimizer": built, "lr_scheduler": schedule}
    path = folder / "training_state.pt"
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=data,
        network=network,
        optimizer=built,
        loss_function=nn.MSELoss(),
        train_handlers=[
            *([ResumeTraining(path, objects)] if resume else []),
            LrScheduleHandler(schedule),
            Validation(interval=1, validator=evaluator, exec_at_start=first),
            BestWeights(folder / "model.pt", network, evaluator, patience=patience),
            TrainingState(path, objects, interval=interval),
            Interruption(evaluator),
        ],
    )
    trainer.evaluator = evaluator
    return trainer, network


def bias(path: Path) -> float:
    """Read the bias of a file of weights."""
    return torch.load(path, weights_only=True)["bias"].item()
