"""Run a function in several processes that compute together, as `torchrun --nproc_per_node=2` does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp


def in_two_processes(work: Callable[[int, Path], Any], folder: Path) -> None:
    """Call `work(rank, folder)` in the ranks 0 and 1 of a process group, see `in_processes`."""
    in_processes(2, work, folder)


def in_processes(processes: int, work: Callable[[int, Path], Any], folder: Path) -> None:
    """Call `work(rank, folder)` in every rank of a process group, without GPUs.

    The processes are copies of a server process, as in `benchmarks.memory`. The server imports MONAI once.

    Args:
        processes: how many.
        work: function at the top level of a module.
        folder: folder for results and for the rendezvous of the processes.

    Raises:
        torch.multiprocessing.ProcessRaisedException: `work` failed. The message has the traceback.
    """
    mp.set_forkserver_preload(["monai.engines"])
    mp.start_processes(_as_rank, args=(processes, work, folder), nprocs=processes, start_method="forkserver")


def _as_rank(rank: int, processes: int, work: Callable[[int, Path], Any], folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "CUDA_VISIBLE_DEVICES": ""}
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=processes)
    work(rank, folder)
    if dist.is_initialized():  # some configurations end the group
        dist.destroy_process_group()
