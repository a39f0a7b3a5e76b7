"""What was tried to make a training step and an image faster, each trial beside what is used.

    python -m benchmarks.trials step [--repeats 5] [--only compile graph]
    python -m benchmarks.trials image
    python -m benchmarks.trials threads

Trials take turns in one run; a ratio is the median of the rounds' own ratios to what is used. "threads" repeats what is
used in processes of their own, whose threads are bound to cores or wait in another way. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.measure import Setup, Way, take_turns
from benchmarks.ways_to_try import USED, Trial, image_trials, step_trials
from bundle.running.run import ROOT
from scripts.inferers.memory import keep_freed_memory

# environment of a process, which the OpenMP that torch comes with (GNU's) reads
THREADS: Mapping[str, Mapping[str, str]] = {
    "as it is": {},
    "threads pinned to cores": {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"},
    "threads that wait busily": {"OMP_WAIT_POLICY": "active"},
    "threads that wait asleep": {"OMP_WAIT_POLICY": "passive"},
}
KINDS: Mapping[str, Callable[[Setup], dict[str, Trial]]] = {"step": step_trials, "image": image_trials}


def chosen(trials: Mapping[str, Trial], only: Sequence[str]) -> dict[str, Trial]:
    """The first of the trials, and of the others those whose name has one of the words; all without a word."""
    return {
        name: trial
        for number, (name, trial) in enumerate(trials.items())
        if number == 0 or not only or any(word in name for word in only)
    }


def seconds_of(trials: Mapping[str, Trial], repeats: int) -> dict[str, list[float]]:
    """Seconds a piece of work of every trial in every round; the round before them warms up."""
    ways = {name: trial.make() for name, trial in trials.items()}

    def before(name: str) -> None:
        keep_freed_memory(trials[name].kept)
        if trials[name].kept:
            ways[name]()  # into the state of a run under way: what it takes is there from the piece before

    spent = take_turns(ways, repeats, before={name: partial(before, name) for name in ways})
    return {name: [second / trials[name].tiles for second in seconds] for name, seconds in spent.items()}


def seconds_in_processes(kind: str, repeats: int, quick: bool) -> dict[str, list[float]]:
    """Seconds of what is used, each round in new processes, by the environment of `THREADS`."""
    command = [sys.executable, "-m", "benchmarks.trials", kind, "--repeats", "3", "--only", USED, "--seconds"]

    def run(variables: Mapping[str, str]) -> float:
        environment = {**os.environ, **variables}
        more = ["--quick"] if quick else []
        return float(subprocess.check_output([*command, *more], cwd=ROOT, env=environment, text=True))

    ways: dict[str, Way] = {name: partial(run, variables) for name, variables in THREADS.items()}
    return take_turns(ways, repeats, warm_up=0, measures_itself=True)


def table(times: Mapping[str, Sequence[float]]) -> str:
    """Markdown: seconds a tile (or image), and how many times as fast as the first."""
    used = next(iter(times.values()))
    lines = ["| trial | seconds | times as fast as the first |", "|---|---|---|"]
    for name, seconds in times.items():
        ratios = [one / other for one, other in zip(used, seconds, strict=True)]
        lines.append(
            f"| {name} | {median(seconds):.3g} | {median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the trials of one kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, "threads"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], help="words in the names of trials; the first is always run")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--quick", action="store_true", help="a small network, to see that all of it runs")
    parser.add_argument("--seconds", action="store_true", help="print the median seconds of the first trial alone")
    arguments = parser.parse_args()
    if arguments.kind == "threads":
        for kind in KINDS:
            print(f"{kind}\n\n{table(seconds_in_processes(kind, arguments.repeats, arguments.quick))}\n", flush=True)
        return
    setup = Setup(arguments.repeats, arguments.device, None, Path(), arguments.quick)
    with torch.inference_mode(arguments.kind == "image"):
        times = seconds_of(chosen(KINDS[arguments.kind](setup), arguments.only), arguments.repeats)
    print(median(next(iter(times.values()))) if arguments.seconds else table(times))


if __name__ == "__main__":
    main()
