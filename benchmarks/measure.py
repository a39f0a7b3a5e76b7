"""What `python -m bundle bench` measures with: ways that take turns, rows that compare them, and the machine's limit.

A row compares three numbers of seconds for the same work: ours, a baseline's (what a user would run instead), and a
limit's (the least this machine needs, measured beside them). They take turns, so that other load on the machine meets
all of them alike; a ratio is the median over the rounds of each round's own ratio, with the least and the largest.
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
    """On what the benchmarks run.

    Attributes:
        repeats: rounds that count.
        device: where networks run.
        data: folder of ISBI 2012, as `python -m bundle fetch isbi2012` makes it; None: synthetic images serve.
        scratch: a folder for files, removed afterwards.
        quick: small networks and images, one round: shows that all runs, not what it costs.
        seconds: `gpu` starts no row that would end later than this; None: no limit.
    """

    repeats: int
    device: torch.device
    data: Path | None
    scratch: Path
    quick: bool = False
    seconds: float | None = None

    @property
    def features(self) -> tuple[int, ...]:
        """Of the network to measure."""
        return (4, 8, 16, 32, 64) if self.quick else PAPER


class Times(NamedTuple):
    """Seconds of every round, and what took them."""

    name: str
    seconds: Sequence[float]


class Ratio(NamedTuple):
    """Median over rounds, least and largest."""

    median: float
    low: float
    high: float


class Goal(NamedTuple):
    """What a row is to reach.

    Attributes:
        kind: a name in `GOALS`.
        value: the figure.
    """

    kind: str
    value: float


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: the work.
        ours: its seconds; none where it failed or was left out, with the reason for a name.
        baseline: another's for the same work; None where nobody else does it.
        limit: the least this machine needs for it.
        goals: what is to be reached.
        note: what else was seen, with its unit.
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
        """How many times as fast as the baseline."""
        return None if self.baseline is None else _ratio(self.baseline.seconds, self.ours.seconds)

    @property
    def share(self) -> Ratio | None:
        """The limit's seconds in ours: 1 is as fast as the machine allows."""
        return None if self.limit is None else _ratio(self.limit.seconds, self.ours.seconds)

    def reached(self) -> bool | None:
        """Whether all goals are met; None: there is none."""
        return all(GOALS[goal.kind].holds(self, goal.value) for goal in self.goals) if self.goals else None

    def as_json(self) -> dict[str, Any]:
        """Every figure, those of every round included."""
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
    """How a goal reads, and when it is met."""

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
    """Seconds of every way in every round.

    Args:
        ways: name -> one piece of work.
        repeats: rounds that count; in each of them every way runs once.
        warm_up: rounds before them.
        before: what to do before each turn of a way, outside of its time.
        measures_itself: what a way gives are its seconds, those of another process.
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
    """Seconds of one call; work queued on a GPU is waited for."""
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
    """Torch's threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class MatrixProducts:
    """The machine's own rate in products of large matrices: the limit of a network's work.

    Args:
        dtype: of the matrices.
        device: where.
        size: rows and columns.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, size: int = 4096) -> None:
        self.operations = 2 * size**3
        self._a, self._b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def __call__(self) -> None:
        """One product."""
        torch.mm(self._a, self._b)

    def limit(self, seconds: Sequence[float], operations: float) -> Times:
        """Seconds that `operations` take at the rate of each round.

        Args:
            seconds: of one product in every round.
            operations: floating point ones, a multiplication and an addition are two.
        """
        return Times("matrix products", [second * operations / self.operations for second in seconds])


def _times_json(times: Times) -> dict[str, Any]:
    rounded = [float(f"{second:.4g}") for second in times.seconds]
    return {"name": times.name, "median_seconds": median(rounded) if rounded else None, "seconds": rounded}


def _ratio(above: Sequence[float], below: Sequence[float]) -> Ratio | None:
    """Of rounds that belong together; where one side ran fewer rounds, of its median; None where one ran none."""
    if not above or not below:
        return None
    if len(above) != len(below):
        above, below = [median(above)], [median(below)]
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))
