"""How long a training at full speed waits for its tiles, by the number of processes that prepare them.

Baseline: none; nobody else makes these tiles. Limit: the same trainer on a batch that is there already. Each row is the
workflow of `configs/train.yaml` with `variant_fast.yaml`, from cached images to steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from benchmarks.measure import Goal, Row, Setup, Times
from benchmarks.training import training_data
from bundle.experiments.experiments import network_of
from bundle.running.run import ROOT

WORKERS = (0, 2, 4, 8, 16)
SETTLING, COUNTED = 15, 60  # iterations


def rows(setup: Setup) -> Iterator[Row]:
    """A row for each number of processes; 0: the trainer prepares each batch itself. None on a CPU but for `quick`."""
    if setup.device.type == "cpu" and not setup.quick:
        return  # a step takes a second there, a tile ten milliseconds
    batch = 2 if setup.quick else 8
    alone, _ = seconds_a_tile(setup, batch, 0, there_already=True)
    for workers in (0, 2) if setup.quick else WORKERS:
        spent, waited = seconds_a_tile(setup, batch, workers)
        who = f"{workers} processes" if workers else "the trainer itself"
        yield Row(
            f"training, {batch} tiles a step, prepared by {who}",
            Times("the workflow", [spent]),
            None,
            Times("a batch that is there", [alone]),
            (Goal("waiting", 0.05),),
            f"{1 / spent:.4g} tiles/s; {1 - alone / spent:.1%} of the time is preparing; the trainer waits "
            f"{waited:.1%} of it",
            {"waiting": max(0.0, 1 - alone / spent)},
        )


def seconds_a_tile(setup: Setup, batch: int, workers: int, there_already: bool = False) -> tuple[float, float]:
    """Seconds a tile, and the share of them in which the trainer waited for data.

    Args:
        setup: where, and how large a network.
        batch: tiles a step.
        workers: processes that prepare them.
        there_already: train on one batch, over and over.
    """
    settling, counted = (2, 4) if setup.quick else (SETTLING, COUNTED)
    changes: dict[str, Any] = {
        "bundle_root": str(ROOT),
        "dataset_dir": str(training_data(setup)),
        "output_dir": str(setup.scratch / "waiting"),
        "model_dir": str(setup.scratch / "waiting"),
        "device": setup.device,
        "batch_size": batch,
        "tiles_per_epoch": batch * (settling + counted),
        "num_workers": workers,
        "val_interval": 10**6,
        **({"input_size": 188, **network_of(4)} if setup.quick else {}),
    }
    configs = [str(ROOT / "configs" / name) for name in ("train.yaml", "variant_fast.yaml")]
    meta = str(ROOT / "configs" / "metadata.json")
    workflow = ConfigWorkflow(configs, meta, logging_file=False, workflow_type="train", **changes)
    workflow.initialize()
    trainer = workflow.trainer
    if there_already:
        trainer.data_loader = [next(iter(trainer.data_loader))] * (settling + counted)
    clock = _Clock(settling, counted, setup.device)
    trainer.add_event_handler(Events.GET_BATCH_STARTED, clock.asked)
    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, clock.got)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, clock.ended)
    try:
        trainer.run()
    finally:
        workflow.finalize()
    return clock.seconds / counted / batch, clock.waited / clock.seconds


class _Clock:
    """Seconds of the iterations that count, the GPU's work waited for at both ends."""

    def __init__(self, settling: int, counted: int, device: torch.device) -> None:
        self.settling, self.counted, self.device = settling, counted, device
        self.seconds = self.waited = self._begun = self._asked = 0.0

    def asked(self, _: Engine) -> None:
        self._asked = time.perf_counter()

    def got(self, trainer: Engine) -> None:
        if trainer.state.iteration >= self.settling:
            self.waited += time.perf_counter() - self._asked

    def ended(self, trainer: Engine) -> None:
        if trainer.state.iteration == self.settling:
            self._begun = self._now()
        if trainer.state.iteration == self.settling + self.counted:
            self.seconds = self._now() - self._begun
            trainer.terminate(skip_completed=True)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
