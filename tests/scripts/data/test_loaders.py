"""Batches read ahead in a thread are those of MONAI's loader, and no error is lost."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import Trainer

from scripts.data.datasets import ReadAheadLoader, processes_for
from scripts.handlers.training import EndProcesses


class Items(Dataset):
    """The numbers 0 ... 4, of which `broken` cannot be read; notes which were read, and where."""

    def __init__(self, broken: int = -1) -> None:
        super().__init__(list(range(5)))
        self.broken = broken
        self.read: list[int] = []
        self.threads: set[threading.Thread] = set()
        self.second = threading.Event()

    def __getitem__(self, index: Any) -> Any:
        if index == self.broken:
            raise MemoryError(f"item {index}")
        self.read.append(index)
        self.threads.add(threading.current_thread())
        if index == 1:
            self.second.set()
        return {"number": index, "values": torch.full((2, 3), index)}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_batches_are_those_of_monai_in_every_round(workers: int) -> None:
    expected = list(DataLoader(Items(), batch_size=2))
    loader = ReadAheadLoader(Items(), batch_size=2, num_workers=workers)
    assert len(loader) == 3
    for _ in range(2):
        for found, batch in zip(loader, expected, strict=True):
            assert torch.equal(found["number"], batch["number"])
            assert torch.equal(found["values"], batch["values"])


def test_one_batch_is_read_while_the_one_before_is_worked_on() -> None:
    items = Items()
    batches = iter(ReadAheadLoader(items, batch_size=1))
    assert items.read == []
    assert next(batches)["number"].tolist() == [0]
    assert items.second.wait(60)
    assert items.read == [0, 1]
    assert threading.main_thread() not in items.threads


def test_an_error_is_raised_where_the_batch_would_have_come() -> None:
    batches = iter(ReadAheadLoader(Items(broken=2), batch_size=1))
    assert [next(batches)["number"].item() for _ in range(2)] == [0, 1]
    with pytest.raises(MemoryError, match="item 2"):
        next(batches)


def test_no_thread_is_left_when_the_batches_are_not_asked_for() -> None:
    items = Items()
    batches = iter(ReadAheadLoader(items, batch_size=1))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in items.threads if thread.is_alive()]


def test_processes_of_a_training_are_gone_when_it_is_over():
    before = set(multiprocessing.active_children())
    loader = DataLoader(Dataset(list(range(4))), batch_size=2, num_workers=1, persistent_workers=True)
    trainer = Trainer(torch.device("cpu"), 2, loader, iteration_update=lambda _, batch: batch.tolist())
    EndProcesses().attach(trainer)
    started: set[object] = set()
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: started.update(multiprocessing.active_children()))
    trainer.run()
    (process,) = started - before
    assert not process.is_alive()


def test_a_cpu_has_two_processes_and_a_gpu_no_more_than_its_share_of_the_processors(monkeypatch):
    assert processes_for("cpu") == 2
    alone = processes_for("cuda:0")
    assert 1 <= alone <= 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert processes_for(torch.device("cuda")) == 1
