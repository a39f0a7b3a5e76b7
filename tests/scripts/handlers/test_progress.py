"""Progress on a terminal and in a log, with the running loss."""

from __future__ import annotations

import io
import logging
import re
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import IterationEvents, SupervisedTrainer
from torch import nn

from scripts.handlers.checkpoints import BestWeights
from scripts.handlers.progress import SMOOTHING, LossOnDevice, ProgressBar, loss_of
from tests.scripts.handlers.conftest import MaskedCrossEntropy, Run, items

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
SHOW_CURSOR, ERASED = "\x1b[?25h", "\r\x1b[1A\x1b[2K"


def lines_of(caplog: pytest.LogCaptureFixture, beginning: str = "") -> list[str]:
    return [line for line in caplog.messages if line.startswith(beginning)]


@pytest.fixture(autouse=True)
def all_messages(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_without_a_terminal_there_is_a_line_every_few_iterations(caplog, capsys) -> None:
    Run(5, 9, lambda _: [ProgressBar(every=8)]).trainer.run()
    lines = lines_of(caplog, "training:")
    assert [re.sub(r"loss \d+\.\d{3}.*", "loss", line) for line in lines] == [
        "training: epoch 2/5, loss",
        "training: epoch 4/5, loss",
        "training: epoch 5/5, loss",
    ]
    assert [bool(re.search(r", \d+:\d\d:\d\d left$", line)) for line in lines] == [True, True, False]
    shown = capsys.readouterr()
    assert not CONTROL.search(shown.err + shown.out)


def test_the_shown_loss_is_the_running_mean(caplog) -> None:
    run = Run(7, 9, lambda _: [ProgressBar(every=1)])
    run.trainer.run()
    expected = 0.0
    for number, loss in enumerate(run.losses, 1):
        share = max(1 - SMOOTHING, 1 / number)
        expected = (1 - share) * expected + share * loss
    assert len(run.losses) > 1 / (1 - SMOOTHING)
    assert lines_of(caplog, "training:")[-1].endswith(f"loss {expected:.3f}")
    assert f"loss {np.mean(run.losses[:3]):.3f}," in lines_of(caplog, "training:")[2]


def test_an_evaluator_counts_its_own_images_at_every_validation(caplog) -> None:
    run = Run(2, 1)
    ProgressBar("validation", every=1).attach(run.evaluator)
    run.trainer.run()
    lines = lines_of(caplog, "validation:")
    assert [line.partition(",")[0] for line in lines] == ["validation: 1 of 2 images", "validation: 2 of 2 images"] * 2


def test_a_run_without_a_terminal_has_a_line_for_each_tenth_at_most(caplog) -> None:
    engine = Engine(lambda *_: None)
    ProgressBar("segmenting").attach(engine)
    engine.run(range(95))
    assert [line.partition(",")[0] for line in lines_of(caplog, "segmenting")][-2:] == [
        "segmenting: 90 of 95 images",
        "segmenting: 95 of 95 images",
    ]
    assert len(lines_of(caplog, "segmenting")) <= 10


def test_a_training_has_a_line_for_each_validation_with_its_scores(caplog, tmp_path) -> None:
    def handlers(run: Run) -> list[Any]:
        return [BestWeights(tmp_path / "model.pt", run.network, run.evaluator), ProgressBar(evaluator=run.evaluator)]

    run, scores = Run(9, 2, handlers), []
    run.trainer.add_event_handler(Events.EPOCH_STARTED(once=8), lambda: run.network.weight.data.neg_())  # worse
    run.evaluator.add_event_handler(
        Events.COMPLETED, lambda e: scores.append(round(e.state.metrics["val_mean_dice"], 4))
    )
    run.trainer.run()
    lines = lines_of(caplog, "epoch")
    assert [re.match(r"epoch (\d)/9, loss \d+\.\d{3}, mean_dice (\d\.\d{3})", line).groups() for line in lines] == [
        (str(2 * k), f"{score:.3f}") for k, score in enumerate(scores, 1)
    ]
    best = [max(scores[:k], default=-1) < score for k, score in enumerate(scores)]
    assert [", best" in line for line in lines] == best
    assert {True, False} == set(best)


def test_the_line_of_a_validation_fits_into_80_columns(caplog) -> None:
    trainer, evaluator = Run(1000, 1000).trainer, Engine(lambda *_: None)
    bar = ProgressBar(evaluator=evaluator)
    evaluator.state.metrics = {"val_instance_f1": 0.5, "val_dice_background": 0.9, "val_dice_mitochondrion": 0.75}
    evaluator.state.key_metric_name = "val_instance_f1"
    trainer.state.epoch, trainer.state.epoch_length, trainer.state.best_key_metric = 999, 10, 0.5
    bar.loss, bar._done, bar._begun = 9.5, 9980, time.monotonic() - 99.5 * 3600 * 499  # 99.5 hours left
    bar._tell_validation(evaluator, trainer)
    (line,) = lines_of(caplog, "epoch")
    assert line == "epoch  999/1000, loss 9.500, instance_f1 0.500, dice 0.750, best, 99:30:00 left"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_live_line_that_vanishes(monkeypatch, caplog) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    Run(2, 9, lambda _: [ProgressBar()]).trainer.run()
    shown = terminal.getvalue()
    assert re.search(r"training.*epoch 1/2", shown)
    assert shown.endswith(SHOW_CURSOR + ERASED)
    assert lines_of(caplog, "training") == []


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch, caplog) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    Run(2, 9, lambda _: [ProgressBar(every=4)]).trainer.run()
    assert terminal.getvalue() == ""
    assert len(lines_of(caplog, "training: epoch")) == 2


def test_the_live_line_vanishes_also_after_an_error(monkeypatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    engine = Engine(lambda *_: 1 / 0)
    ProgressBar().attach(engine)
    with pytest.raises(ZeroDivisionError):
        engine.run([0])
    assert terminal.getvalue().endswith(SHOW_CURSOR + ERASED)
    assert sys.stderr is terminal


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
