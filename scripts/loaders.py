"""A data loader that reads ahead without a process of its own, and training images that stay on the GPU."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import DataLoader
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor


class ReadAheadLoader(DataLoader):
    """MONAI's `DataLoader`, whose next batch is made in a thread while the one before is worked on.

    For batches that are made in less time than they are worked on: images for inference, whose metadata take a process
    as long to hand over as to make, and training tiles that are made on a GPU. Workers, if asked for, are processes as
    ever. An error is raised where the batch would have come; MONAI's `ThreadDataLoader` ends there as if there were no
    more batches.

    Args:
        dataset: items.
        num_workers: processes; 0: the thread alone.
        device: a GPU on which the dataset makes its tensors. They are made in a stream of their own, so that the thread
            does not wait for the network's work there. None or a CPU: no stream.
        kwargs: as of `DataLoader`.
    """

    def __init__(
        self, dataset: Any, num_workers: int = 0, device: torch.device | str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(dataset, num_workers=num_workers, **kwargs)
        self.device = torch.device(device or "cpu")

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator does what its iterator does
        batches = super().__iter__()
        end = object()
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

        def following() -> Any:
            with nullcontext() if stream is None else torch.cuda.stream(stream):
                return next(batches, end)

        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading") as thread:
            coming = thread.submit(following)
            while (batch := coming.result()) is not end:
                if stream is not None:
                    _hand_over(batch, stream)
                coming = thread.submit(following)
                yield batch


def _hand_over(batch: Any, stream: torch.cuda.Stream) -> None:
    """Let the current stream wait for a batch made in `stream`, and keep its memory until the current stream is done.

    Without the second, the other stream would write the next batch into memory that the network still reads.
    """
    current = torch.cuda.current_stream(stream.device)
    current.wait_stream(stream)
    for value in batch.values() if isinstance(batch, Mapping) else ():
        if isinstance(value, torch.Tensor) and value.is_cuda:
            value.record_stream(current)


class KeepOnDeviced(MapTransform):
    """Move images to a GPU once, while at least half of its memory is free; all others stay where they are.

    For `CacheDataset`, which then keeps them there. A transform that follows moves those that stayed behind, tile by
    tile. Metadata are dropped: tiles need none, and they slow every operation down.

    Args:
        keys: images.
        device: where to; a CPU: nothing is moved.
        allow_missing_keys: pass over keys that an item lacks.
    """

    def __init__(
        self, keys: KeysCollection, device: torch.device | str = "cpu", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.device = torch.device(device)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Move the images of one item."""
        item = dict(data)
        moves = False
        if self.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.device)
            moves = free > total // 2
        for key in self.key_iterator(item):
            image = convert_to_tensor(item[key], track_meta=False)
            item[key] = image.to(self.device) if moves else image
        return item
