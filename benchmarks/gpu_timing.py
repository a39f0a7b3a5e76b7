"""Rows of a GPU's benchmarks, each measured by itself: flags, memory and failures of one do not reach the next."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import torch

from benchmarks.gpu_work import Choice, backend_flags
from benchmarks.measure import Row, Setup, Times, Way, seconds, take_turns

ROUND = 0.15  # seconds of one round; as many passes as fit are queued before the GPU is waited for


class Trial(NamedTuple):
    """A row to be measured.

    Attributes:
        what: the work, which names the row if it fails.
        cost: about how many seconds the row takes.
        choice: whose flags hold meanwhile.
        measure: gives the row.
    """

    what: str
    cost: float
    choice: Choice
    measure: Callable[[], Row]


def isolated(trial: Trial) -> Row:
    """The trial's row, or one that says why there is none; afterwards the GPU's memory is free again."""
    choice = trial.choice
    try:
        with (
            warnings.catch_warnings(),
            backend_flags(choice.precision != "float32", choice.search, choice.deterministic),
        ):
            warnings.simplefilter("ignore")
            row = trial.measure()
    except Exception as error:  # whatever a compiler, a driver or an allocator raises
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        row = Row(trial.what, Times(f"failed: {type(error).__name__}: {reason}", []))
    with suppress(RuntimeError):  # after an illegal access every call fails, and so will the rows that follow
        clean_up(bool(choice.compiled))
    return row


def clean_up(compiled: bool) -> None:
    """Give back what a trial held: CUDA graphs, cached memory and, where there is any, compiled code."""
    if compiled:
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def rounds(setup: Setup, ways: dict[str, Way]) -> dict[str, list[float]]:
    """Seconds of one call of each way in every round; short ones are queued several times and waited for once."""
    counts = {}
    for name, run in ways.items():
        seconds(run)
        counts[name] = 1 if setup.quick else max(1, min(50, round(ROUND / seconds(run))))
    repeats = 1 if setup.quick else min(3, setup.repeats)
    times = take_turns({name: partial(_repeat, run, counts[name]) for name, run in ways.items()}, repeats, warm_up=0)
    return {name: [second / counts[name] for second in times[name]] for name in times}


def _repeat(run: Way, count: int) -> None:
    for _ in range(count):
        run()


def warm_up(setup: Setup, run: Way) -> None:
    """Run a few times and wait."""
    seconds(partial(_repeat, run, 1 if setup.quick else 3))


def matrix_size(setup: Setup) -> int:
    """Rows and columns of the matrices whose product is the limit."""
    return 256 if setup.quick else 8192


def reset_peak(setup: Setup) -> int:
    """Bytes allocated on the GPU now, from which the peak is counted."""
    if setup.device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak_gib(setup: Setup, before: int) -> float:
    """GiB allocated at most since `reset_peak`, beyond what there was then; 0 without a GPU."""
    return (torch.cuda.max_memory_allocated() - before) / 2**30 if setup.device.type == "cuda" else 0.0
