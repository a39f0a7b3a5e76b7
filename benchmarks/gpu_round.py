"""Run everything that needs a GPU within a time limit: tests, benchmarks, trainings.

    python -m benchmarks.gpu_round --minutes 15 --out round --data data [--parts tests,bench,train] [--sets em,nuclei]

The sets are those of `benchmarks.gpu_trainings`. `em_all` trains only if it is named: it has no figure.

Each step is a new process and ends after a share of the time. Steps without enough time are named and left out. `--out`
receives `summary.md` and `summary.json` after every step, `tests.log`, `bench/`, and a folder for every training, with
the weights in pieces. The exit code is 0 if no step failed.

Without a GPU, small networks and synthetic images show that everything runs.

Requirements: torch 2.8, MONAI 1.6, pytorch-ignite, pydantic and their requirements, scikit-image, tifffile, matplotlib,
tensorboard, psutil, tqdm; pytest for the tests. Internet, a compiler and a writable checkout are not needed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import torch

from benchmarks.gpu_trainings import MEASURED, TRAININGS, told
from bundle.experiments.provenance import hardware, versions
from bundle.running.run import ROOT
from scripts.io.files import write_json

SHARES = {"tests": 0.15, "bench": 0.30, "train": 0.55}  # share of the minutes; later parts get unused time
LEAST = {"tests": 8.0, "bench": 20.0, "train": 25.0}  # seconds; a step with less time is left out


@dataclass
class Step:
    """One step of the round.

    Attributes:
        name: e.g. "tests" or "train em".
        state: "held", "failed", "out of time" (ended, its files stay) or "left out".
        seconds: duration.
        told: results, as lines.
    """

    name: str
    state: str
    seconds: float = 0.0
    told: list[str] = field(default_factory=list)


class Round:
    """Steps within a time limit.

    Args:
        seconds: time limit for all steps.
        out: receives logs, results and the summary.
        data: folder of the data sets.
    """

    def __init__(self, seconds: float, out: Path, data: Path) -> None:
        self.begun = time.monotonic()
        self.seconds = seconds
        self.out = out
        self.data = data
        self.steps: list[Step] = []
        self.versions = versions()
        self.head = {"device": _device(), "minutes": seconds / 60, "versions": self.versions, "hardware": hardware()}

    @property
    def left(self) -> float:
        """Remaining seconds."""
        return self.seconds - (time.monotonic() - self.begun)

    def tests(self, seconds: float) -> None:
        """Run tests/gpu, which compare the GPU with the CPU."""
        log = self.out / "tests.log"
        options = ["-q", "-ra", "-p", "no:cacheprovider", "-W", "default", "-o", "addopts=", "--durations=5"]
        command = ["-m", "pytest", "tests/gpu", *options, f"--basetemp={self.out / 'pytest'}"]
        step = self._run("tests", command, seconds, log)
        step.told = [line for line in _tail(log, 12) if " passed" in line or " failed" in line or "FAILED" in line]
        self._note(step)

    def bench(self, seconds: float) -> None:
        """Run `python -m bundle bench waiting gpu`, without the libraries of the command line."""
        for name, share in (("waiting", 0.3), ("gpu", 1.0)):
            self._bench(name, share * seconds)
            seconds -= self.steps[-1].seconds

    def _bench(self, name: str, seconds: float) -> None:
        log, folder = self.out / f"bench_{name}.log", self.out / "bench" / name
        quick = not torch.cuda.is_available()
        call = f"bench({name!r}, data={str(self.data)!r}, output={str(folder)!r}, quick={quick}, "
        call += f"seconds={max(1.0, seconds - LEAST['tests']):.0f})"
        table = folder / "bench.md"
        _forget(table, folder / "bench.json")
        step = self._run(f"bench {name}", ["-c", f"from bundle.bench import bench; {call}"], seconds, log)
        step.told = table.read_text(encoding="utf-8").splitlines() if table.is_file() else _tail(log, 5)
        self._note(step)

    def train(self, name: str, seconds: float) -> None:
        """Train one data set."""
        folder = self.out / name
        command = ["-m", "benchmarks.gpu_trainings", name, f"--minutes={seconds / 60:.3f}", f"--out={folder}"]
        result = folder / "result.json"
        _forget(result, *folder.glob(f"{name}.pt*"))
        step = self._run(f"train {name}", [*command, f"--data={self.data}"], seconds, self.out / f"{name}.log")
        if result.is_file():
            step.told = told(json.loads(result.read_text(encoding="utf-8")))
        else:
            step.told = _tail(self.out / f"{name}.log", 3)
        self._note(step)

    def leave_out(self, name: str, why: str) -> None:
        """Record a step that is left out, with the reason."""
        self._note(Step(name, "left out", told=[why]))

    def _run(self, name: str, arguments: Sequence[str], seconds: float, log: Path) -> Step:
        """Run Python for at most `seconds`, then end Python and all child processes."""
        print(f"{name}: at most {seconds:.0f} s ...", flush=True)
        environment = {
            **os.environ,
            **dict.fromkeys(("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "TQDM_DISABLE"), "1"),
        }
        begun = time.monotonic()
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                code: int | None = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
        state = "out of time" if code is None else "failed" if code else "held"
        return Step(name, state, round(time.monotonic() - begun, 1))

    def _note(self, step: Step) -> None:
        self.steps.append(step)
        print("\n".join([f"{step.name}: {step.state}, {step.seconds:.0f} s", *step.told]), flush=True)
        write_json(self.out / "summary.json", {**self.head, "steps": [asdict(step) for step in self.steps]})
        (self.out / "summary.md").write_text(self.summary(), encoding="utf-8")

    def summary(self) -> str:
        """Format the round as Markdown."""
        told = ", ".join(f"{name} {self.versions[name]}" for name in ("torch", "monai", "python"))
        lines = [f"{self.head['device']}; {told}", ""]
        lines += ["| step | outcome | seconds |", "|---|---|---:|"]
        lines += [f"| {step.name} | {step.state} | {step.seconds:.0f} |" for step in self.steps]
        for step in self.steps:
            lines += ["", f"## {step.name}", "", *step.told]
        return "\n".join(lines) + "\n"

    @property
    def held(self) -> bool:
        """Whether no step failed."""
        return all(step.state != "failed" for step in self.steps)


def _device() -> str:
    if not torch.cuda.is_available():
        return "no GPU: small networks on the CPU show that everything runs, and measure nothing"
    return f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / 2**30:.0f} GiB"


def _end(process: subprocess.Popen) -> None:
    """End a running process and all child processes."""
    if process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def _forget(*paths: Path) -> None:
    """Remove results of an earlier round."""
    for path in paths:
        path.unlink(missing_ok=True)


def _tail(log: Path, lines: int) -> list[str]:
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return [line for line in text.splitlines() if line.strip()][-lines:]


def run_round(minutes: float, out: Path, data: Path, parts: Sequence[str], sets: Sequence[str]) -> Round:
    """Run the parts in order, each within a share of the remaining time.

    Args:
        minutes: time limit for all parts.
        out: folder for the results.
        data: folder with isbi2012, DSB2018-fluo, DIC-C2DH-HeLa, PhC-C2DH-U373.
        parts: some of "tests", "bench", "train".
        sets: keys of `benchmarks.gpu_trainings.TRAININGS`.

    Returns:
        The round, with the results of all steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    a_round = Round(60 * minutes, out, data)
    wanted = {part: SHARES[part] for part in SHARES if part in parts}
    while wanted:
        part = next(iter(wanted))
        seconds = a_round.left * wanted[part] / sum(wanted.values())
        del wanted[part]
        if part == "train":
            _trainings(a_round, [name for name in TRAININGS if name in sets])
        elif seconds < LEAST[part]:
            a_round.leave_out(part, f"{seconds:.0f} s remained, {LEAST[part]:.0f} s are needed")
        elif part == "tests":
            a_round.tests(seconds)
        else:
            a_round.bench(seconds)
    return a_round


def _trainings(a_round: Round, names: Sequence[str]) -> None:
    for k, name in enumerate(names):
        seconds = a_round.left * TRAININGS[name].share / sum(TRAININGS[other].share for other in names[k:])
        if seconds < LEAST["train"]:  # train some of the sets rather than none
            seconds = min(a_round.left, LEAST["train"])
        if seconds < LEAST["train"]:
            a_round.leave_out(f"train {name}", f"{seconds:.0f} s remained, {LEAST['train']:.0f} s are needed")
        else:
            a_round.train(name, seconds)


def main() -> None:
    """Run a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="time limit")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets, from bundle fetch")
    parser.add_argument("--parts", default=",".join(SHARES), help="tests, bench, train, joined by commas")
    known_sets = f"{', '.join(TRAININGS)}, joined by commas (default: all measured ones)"
    parser.add_argument("--sets", default=",".join(MEASURED), help=known_sets)
    arguments = parser.parse_args()
    parts, sets = (words.replace(" ", "").split(",") for words in (arguments.parts, arguments.sets))
    for option, names, known in (("--parts", parts, SHARES), ("--sets", sets, TRAININGS)):
        unknown = [name for name in names if name not in known]
        if unknown:
            parser.error(f"{option}: unknown {', '.join(unknown)}; choose from {', '.join(known)}")
    if not arguments.minutes > 0:
        parser.error(f"--minutes must be above 0, got {arguments.minutes}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # also ends the running step
    a_round = run_round(arguments.minutes, arguments.out.resolve(), arguments.data.resolve(), parts, sets)
    print(f"\n{a_round.summary()}")
    sys.exit(0 if a_round.held else 1)


if __name__ == "__main__":
    main()
