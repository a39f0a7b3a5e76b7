"""Data loaders: one that reads ahead without a process of its own, one whose processes end when they are told to."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from monai.data import DataLoader


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


class ClosingLoader(DataLoader):
    """MONAI's `DataLoader`, whose persistent processes can be ended.

    A loader that the garbage collector finds in a cycle, as in an ignite engine, loses the queues to its processes
    before it can end them: it then waits five seconds for each. After eight processes an evaluation in the same Python
    started 40 seconds late.

    Example:
        >>> ClosingLoader([0, 1], batch_size=1).close()
    """

    def close(self) -> None:
        """End the processes; another epoch would start new ones."""
        self._iterator = None
