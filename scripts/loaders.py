"""A data loader that reads ahead without a process of its own, and the end of its processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines import Trainer


class ReadAheadLoader(DataLoader):
    """MONAI's `DataLoader`, whose next batch is made in a thread while the one before is worked on.

    For batches that are made in less time than they are worked on, as one image for inference is: a process that does
    it takes as long again to hand over each tensor of the metadata, half of that in the main process. Workers, if asked
    for, are processes as ever. An error is raised where the batch would have come; MONAI's `ThreadDataLoader` ends
    there as if there were no more batches.

    Args:
        dataset: items.
        num_workers: processes; 0: the thread alone.
        kwargs: as of `DataLoader`.
    """

    def __init__(self, dataset: Any, num_workers: int = 0, **kwargs: Any) -> None:
        super().__init__(dataset, num_workers=num_workers, **kwargs)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator does what its iterator does
        batches = super().__iter__()
        end = object()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading") as thread:
            coming = thread.submit(next, batches, end)
            while (batch := coming.result()) is not end:
                coming = thread.submit(next, batches, end)
                yield batch


def processes_for(device: torch.device | str, most: int = 8) -> int:
    """How many processes should prepare training tiles.

    Each makes about 80 tiles of 572 a second. A CPU trains one a second, a fast GPU 300 to 400.

    Args:
        device: where the network trains.
        most: on a GPU. The processors that this Python may use are shared by the trainings of one machine
            (`LOCAL_WORLD_SIZE` of torchrun).

    Example:
        >>> processes_for("cpu")
        2
    """
    if torch.device(device).type != "cuda":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(most, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


class EndProcesses:
    """End the processes of a trainer's data loader when the training is over.

    Left to the garbage collector, which meets the loader in a cycle with the engine, each process is waited for five
    seconds: the queues that would end it are gone first. After eight processes an evaluation in the same Python started
    40 seconds late.
    """

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer; the engine lets go of the loader's iterator right after its last event."""
        trainer.add_event_handler(Events.COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Let go of the processes; another epoch would start new ones."""
        if isinstance(trainer.data_loader, DataLoader):
            trainer.data_loader._iterator = None  # torch has no public name for it
