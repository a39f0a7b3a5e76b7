"""Measure ways to do the same work in turn, and compare them in rows: ours, a baseline, the machine's limit.

The baseline is the usual alternative. The limit is the least time that the machine needs. All ways run in turn, and
other load on the machine affects all ways. A ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

PAPER = (64, 128, 256, 512, 1024)  # features of the paper's network
Way = Callable[[], object]


@dataclass(frozen=True)
class Setup:
    """Settings of a run of the benchmarks.

    Attributes:
        repeats: rounds to measure.
        device: device of the networks.
        data: folder of ISBI 2012 from `python -m bundle fetch isbi2012`; None: synthetic images.
        scratch: folder for temporary files.
        quick: small networks and images, one round. Shows that all benchmarks run, and measures nothing.
        seconds: time limit of `gpu`; later rows are left out. None: no limit.
    """

    repeats: int
    device: torch.device
    data: Path | None
    scratch: Path
    quick: bool = False
    seconds: float | None = None

    @property
    def features(self) -> tuple[int, ...]:
        """Features of the network to measure."""
        return (4, 8, 16, 32, 64) if self.quick else PAPER


class Times(NamedTuple):
    """Name of a way, and its seconds in every round."""

    name: str
    seconds: Sequence[float]


class Ratio(NamedTuple):
    """Median, least and largest ratio of the rounds."""

    median: float
    low: float
    high: float


class Goal(NamedTuple):
    """Goal of a row.

    Attributes:
        kind: a key of `GOALS`.
        value: the figure to reach.
    """

    kind: str
    value: float


@dataclass(frozen=True)
class Row:
    """One row of the tables.

    Attributes:
        what: the work.
        ours: our seconds. No seconds if the work failed or was left out: the name is then the reason.
        baseline: seconds of the usual alternative; None: no alternative exists.
        limit: the least seconds that the machine needs; None: unknown.
        goals: goals to reach.
        note: further findings, with units.
        figures: further figures for goals and JSON.

    Example:
        >>> row = Row("sum", Times("numpy", [1.0, 2.0]), Times("a loop", [8.0, 8.0]), goals=(Goal("times", 5),))
        >>> row.times_as_fast
        Ratio(median=6.0, low=4.0, high=8.0)
        >>> row.reached()
        True
    """

    what: str
    ours: Times
    baseline: Times | None = None
    limit: Times | None = None
    goals: tuple[Goal, ...] = ()
    note: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def times_as_fast(self) -> Ratio | None:
        """Baseline / ours: how many times as fast as the baseline."""
        return None if self.baseline is None else _ratio(self.baseline.seconds, self.ours.seconds)

    @property
    def share(self) -> Ratio | None:
        """Limit / ours: 1 is as fast as the machine allows."""
        return None if self.limit is None else _ratio(self.limit.seconds, self.ours.seconds)

    def reached(self) -> bool | None:
        """Whether all goals are reached; None: no goals."""
        return all(GOALS[goal.kind].holds(self, goal.value) for goal in self.goals) if self.goals else None

    def as_json(self) -> dict[str, Any]:
        """All figures, with the seconds of every round."""
        ratios = {"times_as_fast": self.times_as_fast, "share_of_limit": self.share}
        parts = {"ours": self.ours, "baseline": self.baseline, "limit": self.limit}
        return {
            "what": self.what,
            **{name: None if part is None else _times_json(part) for name, part in parts.items()},
            **{name: None if ratio is None else ratio._asdict() for name, ratio in ratios.items()},
            "goals": [GOALS[goal.kind].text.format(goal.value) for goal in self.goals],
            "reached": self.reached(),
            "note": self.note,
            "figures": dict(self.figures),
        }


class GoalKind(NamedTuple):
    """Text of a goal, and the test of a row."""

    text: str
    holds: Callable[[Row, float], bool]


GOALS = {
    "times": GoalKind("{:g} x", lambda row, value: row.times_as_fast is not None and row.times_as_fast.median >= value),
    "not_slower": GoalKind(
        "no slower ({:.0%})",
        lambda row, value: row.times_as_fast is not None and row.times_as_fast.median >= 1 - value,
    ),
    "share": GoalKind("{:.0%} of the limit", lambda row, value: row.share is not None and row.share.median >= value),
    "seconds_more": GoalKind(
        "within {:g} s of the limit",
        lambda row, value: row.limit is not None and median(row.ours.seconds) - median(row.limit.seconds) <= value,
    ),
    "seconds": GoalKind("{:g} s", lambda row, value: median(row.ours.seconds) <= value),
    "deviation": GoalKind("constant within {:.0%}", lambda row, value: row.figures["deviation"] <= value),
    "waiting": GoalKind("waits below {:.0%}", lambda row, value: row.figures["waiting"] < value),
}


def take_turns(
    ways: Mapping[str, Way],
    repeats: int,
    warm_up: int = 1,
    before: Mapping[str, Way] | None = None,
    measures_itself: bool = False,
) -> dict[str, list[float]]:
    """Measure ways in turn: each round runs every way once.

    Args:
        ways: name -> function that does the work.
        repeats: rounds to measure.
        warm_up: rounds before, not measured.
        before: name -> function to call before the way, outside of the measured time.
        measures_itself: each way returns its own seconds, e.g. of another process.

    Returns:
        name -> seconds of every round.

    Example:
        >>> times = take_turns({"list": lambda: sum([1, 2]), "tuple": lambda: sum((1, 2))}, repeats=3)
        >>> {name: len(seconds) for name, seconds in times.items()}
        {'list': 3, 'tuple': 3}
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + repeats):
        for name, run in ways.items():
            if before and name in before:
                before[name]()
            spent = float(run()) if measures_itself else seconds(run)  # type: ignore[arg-type]  # seconds then
            if turn >= warm_up:
                times[name].append(spent)
    return times


def seconds(run: Way) -> float:
    """Measure one call, until the GPU has finished.

    Example:
        >>> seconds(lambda: time.sleep(0.01)) >= 0.01
        True
    """
    _wait()
    start = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set torch's number of threads inside a `with` block.

    Example:
        >>> with threads(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class MatrixProducts:
    """Measure products of large matrices. Their rate is the limit of a network.

    Args:
        dtype: dtype of the matrices.
        device: device of the matrices.
        size: rows and columns.

    Example:
        >>> products = MatrixProducts(torch.float32, torch.device("cpu"), size=10)
        >>> products.operations
        2000
        >>> products.limit([0.5], operations=4000)  # twice the operations of a product of 0.5 s
        Times(name='matrix products', seconds=[1.0])
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, size: int = 4096) -> None:
        self.operations = 2 * size**3
        self._a, self._b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def __call__(self) -> None:
        """Compute one product."""
        torch.mm(self._a, self._b)

    def limit(self, seconds: Sequence[float], operations: float) -> Times:
        """Seconds of `operations` at the rate of the products.

        Args:
            seconds: of one product in every round.
            operations: floating point operations; a multiplication and an addition are two.
        """
        return Times("matrix products", [second * operations / self.operations for second in seconds])


def matrix_products(setup: Setup, dtype: torch.dtype | str) -> MatrixProducts:
    """Products of 4096 x 4096 matrices on the device of the benchmarks; of 256 x 256 if quick.

    Args:
        setup: settings.
        dtype: dtype, or its name in torch, e.g. "bfloat16".

    Example:
        >>> setup = Setup(1, torch.device("cpu"), None, Path(), quick=True)
        >>> matrix_products(setup, "float32").operations == 2 * 256**3
        True
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return MatrixProducts(dtype, setup.device, 256 if setup.quick else 4096)


def _times_json(times: Times) -> dict[str, Any]:
    rounded = [float(f"{second:.4g}") for second in times.seconds]
    return {"name": times.name, "median_seconds": median(rounded) if rounded else None, "seconds": rounded}


def _ratio(above: Sequence[float], below: Sequence[float]) -> Ratio | None:
    """Ratios of the rounds; of the medians if the numbers of rounds differ; None if a side has no rounds."""
    if not above or not below:
        return None
    if len(above) != len(below):
        above, below = [median(above)], [median(below)]
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))
