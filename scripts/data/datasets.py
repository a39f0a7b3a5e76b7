"""Cache images, load images in spite of damaged files, and read ahead in a thread."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader, Dataset
from tqdm import tqdm

from .items import describe_failure, paths_in


class ThreadCacheDataset(CacheDataset):
    """MONAI's `CacheDataset`, but no thread outlives an error.

    After an error in one image, MONAI's threads go on with the other images. When Python exits meanwhile, C++ code in
    such a thread aborts the process: "terminate called without an active exception", exit code 134. Here the images in
    work are finished and the waiting ones are dropped before the error is raised.

    Args:
        args, kwargs: as for `CacheDataset`, such as `data`, `transform` and `num_workers`, the number of threads.

    Example:
        >>> from monai.transforms import Lambda
        >>> ThreadCacheDataset([-1, 2], Lambda(abs), num_workers=2, progress=False)[0]
        1
    """

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        """Load the images of the cache, in the order of `indices`. None: the first `cache_num`."""
        wanted = range(self.cache_num) if indices is None else indices
        with ThreadPoolExecutor(self.num_workers, thread_name_prefix="caching") as threads:
            items = threads.map(self._load_cache_item, wanted)  # its end, also by an error, drops what waits
            shown = {
                "total": len(wanted),
                "desc": "reading images",
                "leave": False,
                "disable": None,
            }  # on terminals alone
            return list(tqdm(items, **shown) if self.progress else items)


class TolerantDataset(Dataset):
    """MONAI's `Dataset`, but a damaged file gives {"failure": "path: reason", "failed": "path"} instead of an error.

    For inference with batches of 1: a damaged file must not stop the segmentation of a folder. `FolderEvaluator` skips
    failed items and reports them at the end.

    Example:
        >>> TolerantDataset([{"image": "none.png"}], transform=lambda item: item["label"])[0]
        {'failure': "none.png: no entry 'label'", 'failed': 'none.png'}
    """

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:  # whatever a damaged file raises
            item = self.data[index]
            values = [item.get("image")] if isinstance(item, Mapping) else []
            name = next(paths_in(values), str(index))  # of several channels the first file
            return {"failure": describe_failure(name, error), "failed": name}


class ReadAheadLoader(DataLoader):
    """MONAI's `DataLoader`, but a thread prepares the next batch while the network works on the current batch.

    For batches that load faster than the network works: single images for inference. A worker process would take as
    long again to hand over the tensors of the metadata. Errors are raised in place of the batch, whereas MONAI's
    `ThreadDataLoader` ends silently.

    Example:
        >>> [batch.tolist() for batch in ReadAheadLoader([1, 2, 3], batch_size=2)]
        [[1, 2], [3]]
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator does what its iterator does
        batches = super().__iter__()
        end = object()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading") as thread:
            coming = thread.submit(next, batches, end)
            while (batch := coming.result()) is not end:
                coming = thread.submit(next, batches, end)
                yield batch


def processes_for(device: torch.device | str) -> int:
    """Choose the number of processes for preparing training tiles.

    A process prepares about 80 tiles of 572 x 572 a second. A CPU trains on 1 tile a second, a fast GPU on 300 to
    400.

    Returns:
        2 for a CPU. For a GPU: the processors available to Python, divided by the trainings on the machine
        (`LOCAL_WORLD_SIZE` of torchrun), at most 8.

    Example:
        >>> processes_for("cpu")
        2
    """
    if torch.device(device).type != "cuda":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
