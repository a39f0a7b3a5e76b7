"""Measure rows of a GPU in isolation: flags, memory and failures of a row do not affect the next row."""

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

ROUND = 0.15  # seconds of a round: calls are queued for this time before waiting for the GPU


class Trial(NamedTuple):
    """A row to measure.

    Attributes:
        what: the work; names the row if it fails.
        cost: estimated seconds.
        choice: settings, whose flags of cuBLAS and cuDNN are set during the measurement.
        measure: returns the row.
    """

    what: str
    cost: float
    choice: Choice
    measure: Callable[[], Row]


def isolated(trial: Trial) -> Row:
    """Measure a trial and free the GPU's memory.

    Returns:
        The row. If the trial fails, a row without seconds, with the error as its name.
    """
    choice = trial.choice
    try:
        with (
            warnings.catch_warnings(),
            backend_flags(choice.precision != "float32", choice.search, choice.deterministic),
        ):
            warnings.simplefilter("ignore")
            row = trial.measure()
    except Exception as error:  # a compiler, a driver or an allocator may raise any error
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        row = Row(trial.what, Times(f"failed: {type(error).__name__}: {reason}", []))
    with suppress(RuntimeError):  # after an illegal access every call fails, also in later rows
        clean_up(bool(choice.compiled))
    return row


def clean_up(compiled: bool) -> None:
    """Free the memory of a trial: CUDA graphs, cached memory and, if `compiled`, compiled code."""
    if compiled:
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def rounds(setup: Setup, ways: dict[str, Way]) -> dict[str, list[float]]:
    """Measure ways in turn. Several calls of a short way are queued before waiting for the GPU.

    Returns:
        name -> seconds of one call in every round.
    """
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
    """Run a way a few times, and wait for the GPU."""
    seconds(partial(_repeat, run, 1 if setup.quick else 3))


def matrix_size(setup: Setup) -> int:
    """Rows and columns of the matrices for the limit."""
    return 256 if setup.quick else 8192


def reset_peak(setup: Setup) -> int:
    """Reset the memory peak of the GPU.

    Returns:
        Bytes allocated now; 0 without a GPU.
    """
    if setup.device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak_gib(setup: Setup, before: int) -> float:
    """Memory peak since `reset_peak` in GiB, without the bytes allocated before; 0 without a GPU.

    Args:
        setup: device.
        before: result of `reset_peak`.
    """
    return (torch.cuda.max_memory_allocated() - before) / 2**30 if setup.device.type == "cuda" else 0.0
