"""Data sets and loaders: folders of which some images may be damaged, reading ahead without a process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.data import DataLoader, Dataset


class TolerantDataset(Dataset):
    """MONAI's `Dataset`, but an item that fails is given as {"failure": "path: what went wrong"} instead of raising.

    For inference only, with batches of one: a truncated file in a folder must not stop the others. `FolderEvaluator`
    passes such items over and reports them at the end.

    Args:
        data: items {"image": address, ...}.
        transform: what loads and prepares an item.
        name_key: the entry that names an item in messages.
    """

    def __init__(self, data: Any, transform: Any = None, name_key: str = "image") -> None:
        super().__init__(data, transform)
        self.name_key = name_key

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:  # the purpose of this class: whatever a file does, the other files are served
            item = self.data[index]
            name = item.get(self.name_key, index) if isinstance(item, Mapping) else index
            return {"failure": describe_failure(str(name), error)}


def describe_failure(name: str, error: BaseException) -> str:
    """`path: what went wrong` in one line, without MONAI's frames around it ("applying transform ...")."""
    while error.__cause__ is not None and str(error).startswith("applying transform"):
        error = error.__cause__
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        reason = f"no entry {reason}"
    return reason if reason.startswith(name.split("#page=")[0]) else f"{name}: {reason}"


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
