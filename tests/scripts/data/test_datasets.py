"""A damaged image costs only its own result; batches read ahead equal those of MONAI's loader."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import Trainer
from monai.transforms import Compose, EnsureChannelFirstd, Lambda, Lambdad, LoadImaged
from PIL import Image

from scripts.data.datasets import ReadAheadLoader, ThreadCacheDataset, TolerantDataset, processes_for
from scripts.data.tiles import TileLoader
from scripts.handlers.interruption import Interrupted
from scripts.handlers.training import EndProcesses
from scripts.io.reader import PlaneReader

LOAD = Compose([LoadImaged("image", reader=PlaneReader()), EnsureChannelFirstd("image")])


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, str]]:
    """a.png and c.png are good, b.png is cut short, d.png is text, e.tif is missing."""
    for name in "abc":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70)).astype(np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "d.png").write_text("not an image")
    return [{"image": str(tmp_path / name)} for name in ("a.png", "b.png", "c.png", "d.png", "e.tif")]


def test_a_damaged_file_gives_the_reason_and_does_not_stop_the_rest(items: list[dict[str, str]]):
    dataset = TolerantDataset(items, LOAD)
    assert dataset[0]["image"].shape == dataset[2]["image"].shape == (1, 50, 70)
    for index, reason in ((1, "cannot be read as an image"), (3, "cannot be read as an image"), (4, "does not exist")):
        assert list(dataset[index]) == ["failure", "failed"]
        assert dataset[index]["failure"].startswith(f"{items[index]['image']} {reason}")


@pytest.mark.parametrize("workers", [0, 2])
def test_failures_pass_through_the_data_loader(items: list[dict[str, str]], workers: int):
    batches = list(DataLoader(TolerantDataset(items, LOAD), batch_size=1, num_workers=workers))
    assert ["failure" in batch for batch in batches] == [False, True, False, True, True]
    assert batches[2]["image"].shape == (1, 1, 50, 70)
    assert "b.png" in batches[1]["failure"][0]


def test_failures_of_any_transform_name_the_item(items: list[dict[str, str]]):
    dataset = TolerantDataset(items, Compose([LOAD, Lambdad("image", func=lambda image: image.reshape(7))]))
    assert dataset[0]["failure"].startswith(f"{items[0]['image']}: shape '[7]' is invalid")
    assert TolerantDataset([{"label": 1}], LOAD)[0]["failure"].startswith("0: no entry")


def test_a_failure_of_an_image_with_a_file_for_each_channel_has_the_name_of_the_first(tmp_path: Path):
    channels = [str(tmp_path / f"a_000{number}.png") for number in (0, 1)]
    failed = TolerantDataset([{"image": channels}], LOAD)[0]
    assert failed["failed"] == channels[0]
    assert failed["failure"].startswith(channels[0])


def test_without_failures_the_data_set_works_as_monai_s(items: list[dict[str, str]]):
    dataset = TolerantDataset(items, LOAD)
    assert len(dataset) == 5
    assert [batch["image"].shape for batch in dataset[0:1]] == [torch.Size([1, 50, 70])]


class Items(Dataset):
    """The numbers 0 to 4. Reading `broken` fails. Notes the numbers read and the threads."""

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


def test_the_next_batch_is_read_during_work_on_the_current_batch() -> None:
    items = Items()
    batches = iter(ReadAheadLoader(items, batch_size=1))
    assert items.read == []
    assert next(batches)["number"].tolist() == [0]
    assert items.second.wait(60)
    assert items.read == [0, 1]
    assert threading.main_thread() not in items.threads


def test_an_error_is_raised_in_place_of_the_batch() -> None:
    batches = iter(ReadAheadLoader(Items(broken=2), batch_size=1))
    assert [next(batches)["number"].item() for _ in range(2)] == [0, 1]
    with pytest.raises(MemoryError, match="item 2"):
        next(batches)


def test_no_thread_stays_if_the_loop_ends_early() -> None:
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


def test_processes_that_ignore_signals_are_gone_even_if_the_iterator_of_the_loader_is_kept():
    before = set(multiprocessing.active_children())
    loader = TileLoader(Dataset(list(range(4))), batch_size=2, num_workers=1, persistent_workers=True)
    trainer = Trainer(torch.device("cpu"), 2, loader, iteration_update=lambda _, batch: batch.tolist())
    EndProcesses().attach(trainer)
    kept: list[Any] = []

    def stop() -> None:
        kept.extend([loader._iterator, *(set(multiprocessing.active_children()) - before)])
        raise Interrupted(signal.SIGTERM)

    trainer.add_event_handler(Events.ITERATION_COMPLETED, stop)
    with pytest.raises(Interrupted):
        trainer.run()
    _, process = kept
    assert not process.is_alive()


def test_a_cpu_has_two_processes_and_a_gpu_no_more_than_its_share_of_the_processors(monkeypatch):
    assert processes_for("cpu") == 2
    alone = processes_for("cuda:0")
    assert 1 <= alone <= 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert processes_for(torch.device("cuda")) == 1


def load_slowly(item: str) -> str:
    """Fail at once for "bad"; else take a while, as a weight map does."""
    if item == "bad":
        raise ValueError("label of bad.png")
    time.sleep(0.2)
    return item


def test_after_an_error_no_thread_of_the_cache_goes_on():
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError):
        ThreadCacheDataset(["slow", "bad", *["slow"] * 50], Lambda(load_slowly), num_workers=2, progress=False)
    assert set(threading.enumerate()) == before


def test_the_cache_keeps_the_order_of_the_items():
    items = [f"{i}" for i in range(5)]
    cached = ThreadCacheDataset(items, Lambda(load_slowly), num_workers=3, progress=False)
    assert [cached[i] for i in range(5)] == items
