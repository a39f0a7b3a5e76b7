"""Exchange small objects between the processes (ranks) of a run, as started by torchrun.

Without a process group of torch there is a single rank, and nothing is exchanged. Objects travel by gloo, also on GPUs.
After the kill of a rank, an exchange raises an error at once.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")

PATIENCE = timedelta(days=30)  # until the slowest rank is done. torch waits 10 to 30 minutes
_groups: dict[Any, Any] = {}  # default group of torch -> group of the same ranks that waits longer
_lost = threading.Event()


def world_size() -> int:
    """Count the ranks. A single process: 1.

    Example:
        >>> world_size()
        1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def patient_group() -> Any:
    """Get a gloo group of all ranks with a time limit of 30 days. The first call must come from all ranks.

    Example, in all ranks::

        group = patient_group()
        torch.distributed.barrier(group=group)
    """
    default = dist.group.WORLD
    if default not in _groups:
        dist.barrier()  # a rank that died before ends the others here, within torch's time limit
        _groups.clear()
        _groups[default] = dist.new_group(backend="gloo", timeout=PATIENCE)
    return _groups[default]


def from_first(value: T) -> T:
    """Return the value of rank 0 in all ranks. Machines may see a shared folder differently for seconds.

    Args:
        value: any object that pickle can copy. Only the value of rank 0 counts.

    Raises:
        RuntimeError: a rank has ended.

    Example:
        >>> from_first(["a.png", "b.png"])
        ['a.png', 'b.png']
    """
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=patient_group())
    return values[0]


def gather(value: T) -> list[T]:
    """Return the values of all ranks, in the order of the ranks, in all ranks. Waits for the slowest rank.

    Args:
        value: any object that pickle can copy.

    Raises:
        RuntimeError: a rank has ended.

    Example:
        >>> gather({"a.png": 3})
        [{'a.png': 3}]
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=patient_group())
    return values


class Tally:
    """Count what all ranks have done, without waiting for any.

    All ranks make the same tallies in the same order. A single process counts alone.

    Example:
        >>> tally = Tally()
        >>> tally.add(2)
        >>> tally.add(1)
        >>> tally.count
        3
    """

    _made = 0

    def __init__(self) -> None:
        Tally._made += 1
        self._name = f"tally {Tally._made}"
        self._store = dist.distributed_c10d._get_default_store() if world_size() > 1 else dist.HashStore()

    def add(self, number: int) -> None:
        """Count further things of this rank."""
        self._store.add(self._name, number)

    @property
    def count(self) -> int:
        """What all ranks have counted so far."""
        return int(self._store.add(self._name, 0))


def note_loss() -> None:
    """Note the kill of a rank, for `has_lost`. See `scripts.handlers.WatchRanks`."""
    _lost.set()


def has_lost() -> bool:
    """Whether a rank was killed. Nothing can then be exchanged any more.

    Example:
        >>> has_lost()
        False
    """
    return _lost.is_set()
