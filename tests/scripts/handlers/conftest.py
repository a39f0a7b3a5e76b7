"""Engines for tests of handlers: a tiny network learns to threshold 32 x 32 images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import Evaluator, SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from monai.transforms import Activationsd
from torch import nn

from scripts.metrics.pixels import MeanDice, named_metrics

NAMES = ["membrane", "cell"]
ITERATIONS = 4


class MaskedCrossEntropy(nn.Module):
    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, label[:, 0].long(), ignore_index=-1)


def items(count: int, seed: int = 0) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    items = []
    for i in range(count):
        image = torch.rand(1, 32, 32, generator=generator)
        label = (image > 0.5).long()
        label[:, 0] = -1  # the first row is not annotated
        weight = torch.where(label < 0, 0.0, 1.0 + 9 * image)
        items.append(
            {
                "image": MetaTensor(image, meta={"filename_or_obj": f"data/{i:02d}.png"}),
                "label": label,
                "weight": weight,
            }
        )
    return items


class Run:
    """A trainer with an evaluator, as in a configuration."""

    def __init__(self, epochs: int, validated_every: int, handlers: Callable[[Run], list] = lambda _: []) -> None:
        torch.manual_seed(0)
        self.network = nn.Conv2d(1, 2, 1)
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.5)
        self.evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(Dataset(items(2, seed=1)), batch_size=1),
            network=self.network,
            postprocessing=Activationsd(keys="pred", softmax=True),
            key_val_metric={"val_mean_dice": MeanDice(2)},
            additional_metrics=named_metrics(NAMES),
        )
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(Dataset(items(ITERATIONS)), batch_size=1),
            network=self.network,
            optimizer=optimizer,
            loss_function=MaskedCrossEntropy(),
        )
        self.losses: list[float] = []
        self.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: self.losses.append(float(e.state.output[0]["loss"]))
        )
        validation = ValidationHandler(interval=validated_every, validator=self.evaluator)
        self.trainer._register_handlers([*handlers(self), validation])


class Counting(Evaluator):
    """An evaluator without work. Records the epochs of its runs."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def run(self, global_epoch: int = 1) -> None:
        self.asked.append(global_epoch)
