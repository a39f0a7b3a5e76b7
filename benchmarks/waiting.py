"""How long a training at full speed waits for tiles, by the number of processes for tiles.

Ours: the workflow of `configs/train.yaml` with `variant_fast.yaml`, from cached images to steps. Limit: the same
trainer on a prepared batch. Baseline: none, since no other program makes comparable tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.measure import Goal, Row, Setup, Times
from benchmarks.training import iteration_times, training_data
from bundle.experiments.experiments import network_of

WORKERS = (0, 2, 4, 8, 16)
SETTLING, COUNTED = 15, 60  # iterations


def rows(setup: Setup) -> Iterator[Row]:
    """Measure each number of processes; with 0 the trainer prepares the batches.

    On a CPU nothing is measured unless quick: a step takes a second, a tile ten milliseconds.
    """
    if setup.device.type == "cpu" and not setup.quick:
        return
    batch = 2 if setup.quick else 8
    alone, _ = seconds_a_tile(setup, batch, 0, prepared=True)
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


def seconds_a_tile(setup: Setup, batch: int, workers: int, prepared: bool = False) -> tuple[float, float]:
    """Measure a training.

    Args:
        setup: device, and size of the network.
        batch: tiles a step.
        workers: number of processes for tiles.
        prepared: train on one prepared batch.

    Returns:
        Seconds a tile, and the share of the time in which the trainer waits for data.
    """
    settling, counted = (2, 4) if setup.quick else (SETTLING, COUNTED)
    changes: dict[str, Any] = {
        "dataset_dir": str(training_data(setup)),
        "batch_size": batch,
        "tiles_per_epoch": batch * (settling + counted),
        "num_workers": workers,
        "val_interval": 10**6,
        **({"input_size": 188, **network_of(4)} if setup.quick else {}),
    }
    spent, waits = iteration_times(setup, ["train.yaml", "variant_fast.yaml"], changes, settling, counted, prepared)
    return sum(spent) / counted / batch, sum(waits) / sum(spent)
