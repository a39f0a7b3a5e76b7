"""Run a step for many blocks: in this process, or on the workers of dask.distributed."""

from __future__ import annotations

import itertools
import logging
import re
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from typing import Self

logger = logging.getLogger(__name__)

AHEAD = 3  # blocks handed out to each worker at once
RETRIES = 3  # of a block, after its worker has died or failed


class Scheduler(ABC):
    """Run a step for blocks, in any order."""

    workers: int = 1

    @abstractmethod
    def run(self, step: Callable[[int], Any], blocks: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Run a step for blocks by number. Yield (number, result) as blocks are done. Errors of a block are raised."""

    def close(self) -> None:
        """End what was started here."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class InProcess(Scheduler):
    """Run one block after the other in this process.

    Example:
        >>> list(InProcess().run(str, [3, 5]))
        [(3, '3'), (5, '5')]
    """

    def run(self, step: Callable[[int], Any], blocks: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Run the blocks in order."""
        return ((number, step(number)) for number in blocks)


class OnDask(Scheduler):
    """Run blocks on the workers of dask.distributed. Blocks of workers that die go to other workers.

    Each worker gets the step, with its network, once. Only a few blocks are handed out at a time, so that millions of
    blocks need no memory.

    Args:
        address: "local": a worker process for each processor core, of this computer. "local:2": two of them.
            "tcp://host:8786": a scheduler that runs. A path: the file that `dask scheduler --scheduler-file` wrote.

    Raises:
        ModuleNotFoundError: dask.distributed is not installed.
        ValueError: no such file, or no scheduler answers.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'scheduler needs the package distributed: pip install "dask[distributed]"'
            ) from error

        self._distributed = distributed
        self._cluster: Any = None
        local = re.fullmatch(r"local(?::(\d+))?", address)
        try:
            if local:
                count = int(local[1]) if local[1] else None
                self._cluster = distributed.LocalCluster(
                    n_workers=count or psutil.cpu_count(logical=False) or 1,
                    threads_per_worker=1,
                    dashboard_address=None,
                    memory_limit=0,  # blocks bound the memory; dask's own limit would pause workers
                )
                self._client = distributed.Client(self._cluster)
            elif "://" in address:
                self._client = distributed.Client(address, timeout=20)
            elif Path(address).is_file():
                self._client = distributed.Client(scheduler_file=address, timeout=20)
            else:
                raise ValueError(
                    f"scheduler is {address!r}, expected local, local:N, tcp://HOST:PORT, or the file of a scheduler"
                )
        except OSError as error:  # of a timeout, too
            raise ValueError(
                f"scheduler {address}: no scheduler answers ({error or 'timeout'}). Start one, or take scheduler local"
            ) from error
        if not self._client.scheduler_info(n_workers=-1)["workers"]:
            logger.warning("scheduler %s has no worker: waiting for the first", address)
        self._client.wait_for_workers(1)
        self.workers = len(self._client.scheduler_info(n_workers=-1)["workers"])
        if local:
            self._client.run(_prepare_worker)

    def run(self, step: Callable[[int], Any], blocks: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Run the blocks on all workers."""
        there = self._client.scatter(step, broadcast=True, hash=False)
        left = iter(blocks)

        def submit(number: int) -> Any:
            return self._client.submit(_call, there, number, pure=False, retries=RETRIES)

        numbers = {submit(number): number for number in itertools.islice(left, AHEAD * self.workers)}
        running = self._distributed.as_completed(list(numbers))
        for future in running:
            number = numbers.pop(future)
            result = future.result()  # raises the error of the block
            future.release()
            for following in itertools.islice(left, 1):
                another = submit(following)
                numbers[another] = following
                running.add(another)
            yield number, result

    def close(self) -> None:
        """Leave the scheduler. End local workers."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def scheduler_of(address: str | None) -> Scheduler:
    """Make the scheduler for the setting `scheduler`. None: this process.

    Example:
        >>> type(scheduler_of(None)).__name__
        'InProcess'
    """
    return InProcess() if address is None else OnDask(address)


def _call(step: Callable[[int], Any], number: int) -> Any:
    return step(number)


def _prepare_worker() -> None:
    """Compute with one thread: each core has a worker. Ctrl+C reaches all processes, the first one ends the others."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
