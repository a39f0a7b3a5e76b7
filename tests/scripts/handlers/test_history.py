"""`history.csv`: a row per epoch, with the metrics of validated epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from scripts.handlers.history import HistoryCSV, read_history
from tests.scripts.handlers.conftest import ITERATIONS, Run


def test_history_has_a_row_per_epoch_and_metrics_where_validated(tmp_path: Path) -> None:
    run = Run(5, 2, lambda r: [HistoryCSV(tmp_path, r.evaluator)])
    run.trainer.run()
    rows = read_history(tmp_path / "history.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["iteration"] for row in rows] == [4, 8, 12, 16, 20]
    assert {row["lr"] for row in rows} == {0.5}
    expected = np.array(run.losses).reshape(5, ITERATIONS).mean(axis=1)
    np.testing.assert_allclose([row["loss"] for row in rows], expected, rtol=1e-5)
    assert [row["val_mean_dice"] is not None for row in rows] == [False, True, False, True, False]
    assert rows[3]["val_mean_dice"] == pytest.approx(run.evaluator.state.metrics["val_mean_dice"], rel=1e-5)
    assert list(rows[0])[:7] == ["epoch", "iteration", "lr", "loss", "seconds", "val_mean_dice", "val_pixel_error"]
    assert all(row["seconds"] is not None and 0 <= row["seconds"] < 10 for row in rows)


def test_the_learning_rate_is_the_mean_of_the_steps_of_an_epoch(tmp_path: Path) -> None:
    run = Run(2, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)])
    (group,) = run.trainer.optimizer.param_groups
    group["lr"] = 0.0  # a schedule with a warm-up begins at 0

    @run.trainer.on(Events.ITERATION_COMPLETED)
    def rise(trainer: Engine) -> None:
        group["lr"] = 0.1 * trainer.state.iteration

    run.trainer.run()
    steps = 0.1 * np.arange(2 * ITERATIONS).reshape(2, ITERATIONS)
    rates = [row["lr"] for row in read_history(tmp_path / "history.csv")]
    np.testing.assert_allclose(rates, steps.mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("first", [True, False], ids=["before validation", "after validation"])
def test_the_place_among_the_handlers_does_not_matter(tmp_path: Path, first: bool) -> None:
    run = Run(2, 1, (lambda r: [HistoryCSV(tmp_path, r.evaluator)]) if first else lambda _: [])
    if not first:
        HistoryCSV(tmp_path, run.evaluator).attach(run.trainer)
    run.trainer.run()
    rows = read_history(tmp_path / "history.csv")
    assert len(rows) == 2
    assert all(value is not None for row in rows for value in row.values())


def test_a_resumed_training_goes_on_and_drops_what_is_run_again(tmp_path: Path) -> None:
    Run(4, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)]).trainer.run()
    before = (tmp_path / "history.csv").read_text().splitlines()
    run = Run(5, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)])

    @run.trainer.on(Events.STARTED)  # as a checkpoint of epoch 2 does, after our handler was attached
    def resume(trainer: Engine) -> None:
        trainer.state.epoch, trainer.state.iteration = 2, 2 * ITERATIONS

    run.trainer.run()
    after = (tmp_path / "history.csv").read_text().splitlines()
    assert after[:3] == before[:3]  # the header, once, and two epochs as they were
    assert [line.split(",")[0] for line in after] == ["epoch", "1", "2", "3", "4", "5"]


def test_the_loss_of_an_epoch_with_an_interruption_is_the_mean_over_all_its_steps(tmp_path: Path) -> None:
    whole = Run(2, 1, lambda r: [HistoryCSV(tmp_path / "whole", r.evaluator)])
    states: list[dict] = []
    whole.trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=ITERATIONS + 1), lambda: states.append(dict(whole.trainer.state_dict()))
    )
    whole.trainer.run()
    (tmp_path / "history.csv").write_bytes((tmp_path / "whole" / "history.csv").read_bytes())
    run = Run(2, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)])

    @run.trainer.on(Events.STARTED)
    def resume(trainer: Engine) -> None:
        trainer.load_state_dict(states[0])

    run.trainer.run()
    expected = np.mean([whole.losses[ITERATIONS], *run.losses])
    assert read_history(tmp_path / "history.csv")[1]["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_crash_leaves_the_epochs_that_were_complete(tmp_path: Path) -> None:
    run = Run(5, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)])

    @run.trainer.on(Events.ITERATION_COMPLETED(once=2 * ITERATIONS + 2))
    def crash(_: Engine) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run.trainer.run()
    assert [row["epoch"] for row in read_history(tmp_path / "history.csv")] == [1, 2]


def test_iterations_without_a_loss_are_left_out_of_the_mean(tmp_path: Path) -> None:
    outputs = iter([{"loss": 1.0}, {}, {"loss": 3.0}, {}, {}, {}])
    trainer = Engine(lambda *_: [next(outputs)])
    trainer.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)  # as MONAI's trainers
    HistoryCSV(tmp_path).attach(trainer)
    trainer.run([0, 0, 0], max_epochs=2)
    assert [row["loss"] for row in read_history(tmp_path / "history.csv")] == [2.0, None]
