"""Progress on a terminal and in a log, with the running loss."""

from __future__ import annotations

import io
import re
import sys

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import IterationEvents, SupervisedTrainer
from torch import nn

from scripts.handlers.progress import SMOOTHING, LossOnDevice, ProgressBar, loss_of
from tests.scripts.handlers.conftest import MaskedCrossEntropy, Run, items


def test_without_a_terminal_there_is_a_line_every_few_iterations(capsys) -> None:
    Run(5, 9, lambda _: [ProgressBar(every=8)]).trainer.run()
    shown = capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("training:")]
    assert "\r" not in shown
    assert [re.sub(r"loss \d\.\d{4}", "loss", line).rsplit(",", 1)[0] for line in lines] == [
        "training: epoch 2, iteration 8/20, loss",
        "training: epoch 4, iteration 16/20, loss",
        "training: epoch 5, iteration 20/20, loss",
    ]
    assert all(re.search(r", left \d+:\d\d:\d\d$", line) for line in lines)


def test_the_shown_loss_is_the_running_mean(capsys) -> None:
    run = Run(1, 9, lambda _: [ProgressBar(every=1)])
    run.trainer.run()
    expected = run.losses[0]
    for loss in run.losses[1:]:
        expected = SMOOTHING * expected + (1 - SMOOTHING) * loss
    assert f"iteration 4/4, loss {expected:.4f}," in capsys.readouterr().err


def test_an_evaluator_counts_its_own_images_at_every_validation(capsys) -> None:
    run = Run(2, 1)
    ProgressBar("validation", every=1).attach(run.evaluator)
    run.trainer.run()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("validation:")]
    assert [line.rsplit(",", 1)[0] for line in lines] == [
        "validation: epoch 1, iteration 1/2",
        "validation: epoch 1, iteration 2/2",
        "validation: epoch 2, iteration 1/2",
        "validation: epoch 2, iteration 2/2",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_with_loss_and_time_left(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    Run(2, 9, lambda _: [ProgressBar()]).trainer.run()
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "training [2/2]" in shown
    assert re.search(r"loss=\d\.\d{4}", shown)
    assert re.search(r"left=\d:\d\d:\d\d", shown)


def test_a_line_every_zero_iterations_is_refused() -> None:
    with pytest.raises(ValueError, match=r"every.* got 0"):
        ProgressBar(every=0)


def test_a_loss_that_stays_on_its_device_is_the_loss_of_every_item():
    network, kept, losses = nn.Conv2d(1, 2, 1), [], []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(items(4)), batch_size=2),
        network=network,
        loss_function=MaskedCrossEntropy(),
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        train_handlers=[LossOnDevice()],
    )
    trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: kept.append([o["loss"] for o in e.state.output]))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: kept.append([loss_of(e.state.output)]))
    trainer.run()
    assert [values[0].shape for values in kept] == [(1,), (), (1,), ()]
    assert [float(value) for values in kept for value in values] == [losses[0]] * 3 + [losses[1]] * 3
