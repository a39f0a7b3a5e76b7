"""Run the program's commands as users do, from outside, and look at exit code, messages and files."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

import psutil

ROOT = Path(os.environ.get("ORIGINAL_UNET_ROOT") or Path(__file__).parents[2]).resolve()
TIMEOUT = 180  # seconds for a command, with machines in mind that do other things
MEMORY = 6 * 2**30  # bytes of addresses; torch needs about one GiB
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONFAULTHANDLER": "", "COLUMNS": "120"}


def _without_plan(words: tuple[str, ...]) -> tuple[str, ...]:
    """Train without a plan: by the configuration alone, unless the words name a plan."""
    trains = "train" in words[:8] and "bundle" in words[:8] and not any(word.startswith("--plan") for word in words)
    knows = (ROOT / "bundle" / "running" / "plan.py").is_file()  # an earlier checkout may be tried
    return (*words, "--plan=false") if trains and knows else words


@dataclass(repr=False)
class Outcome:
    """How a command ended."""

    words: tuple[str, ...]
    code: int | None  # None: stopped by the time limit. Negative: by a signal
    out: str
    err: str
    seconds: float
    peak: int  # bytes of memory

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def last(self) -> str:
        """The last message: from the last line that starts with `error:`, else the last three lines."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        starts = [i for i, line in enumerate(lines) if "error:" in line.lower()]
        return "\n".join(lines[starts[-1] :] if starts else lines[-3:])

    def __repr__(self) -> str:
        tail = "\n".join(self.text.splitlines()[-25:])
        return f"`python -m {' '.join(self.words)}` ended with {self.code} in {self.seconds:.1f} s\n{tail}"


@dataclass
class Running:
    """A command at work."""

    words: tuple[str, ...]
    folder: Path
    begun: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        end = time.monotonic() + TIMEOUT
        while not (self.folder / "pid").exists():
            assert time.monotonic() < end, "the server of processes does not answer"
            time.sleep(0.005)
        return int((self.folder / "pid").read_text())

    @property
    def done(self) -> bool:
        return (self.folder / "outcome").exists()

    def send(self, number: int) -> None:
        """Send a signal to the command's own process, not to its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self) -> None:
        """End the command and all of its processes."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """The command's processes that are alive, workers as well."""
        found = []
        session = int((self.folder / "session").read_text()) if (self.folder / "session").exists() else None
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def wait(self, timeout: float = TIMEOUT) -> Outcome:
        """Wait for the end. After the time limit, kill the command; its code is then None."""
        end = time.monotonic() + timeout
        while not self.done and time.monotonic() < end:
            time.sleep(0.005)
        seconds = time.monotonic() - self.begun
        outcome: dict[str, Any] = {"code": None, "peak": 0}
        if self.done:
            outcome = json.loads((self.folder / "outcome").read_text())
        else:
            self.stop()
        out, err = (self._read(name) for name in ("stdout", "stderr"))
        return Outcome(self.words, out=out, err=err, seconds=seconds, **outcome)

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_bytes().decode(errors="backslashreplace") if path.exists() else ""


class Program:
    """The commands of a checkout: $ORIGINAL_UNET_ROOT, else this repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs: list[Running] = []
        self._server: subprocess.Popen[str] | None = None

    def start(self, *words: Any, memory: int = MEMORY, environment: dict[str, str] | None = None) -> Running:
        """Start `python -m WORDS` in the checkout."""
        running = Running(_without_plan(tuple(map(str, words))), Path(mkdtemp(dir=self.folder)))
        job = {
            "words": running.words,
            "folder": str(running.folder),
            "memory": memory,
            "environment": ENVIRONMENT | (environment or {}),
        }
        pipe = self._pipe()
        pipe.write(json.dumps(job) + "\n")
        pipe.flush()
        self._jobs.append(running)
        assert running.pid  # the first job waits for the server, which is not the command's time
        running.begun = time.monotonic()
        return running

    def run(self, *words: Any, timeout: float = TIMEOUT, **options: Any) -> Outcome:
        """Run `python -m WORDS` in the checkout to its end, or to the time limit."""
        return self.start(*words, **options).wait(timeout)

    def _pipe(self) -> IO[str]:
        if self._server is None or self._server.poll() is not None:
            command = [sys.executable, str(Path(__file__).with_name("preloaded.py")), str(ROOT)]
            self._server = subprocess.Popen(
                command, stdin=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT, start_new_session=True
            )
        assert self._server.stdin is not None
        return self._server.stdin

    def close(self) -> None:
        """End the server and whatever still runs."""
        for job in self._jobs:
            if not job.done:
                job.stop()
        if self._server is not None:
            assert self._server.stdin is not None
            self._server.stdin.close()
            self._server.kill()
            self._server.wait()
