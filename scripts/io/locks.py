"""Reserve a folder for a single process, so that two runs never write into the same folder.

The lock is the file `.lock` in the folder: JSON with the process, the computer, the start and the command. A lock of a
process that has ended (kill -9, a power cut) is taken over. Of another computer, nothing is known: its lock stays,
unless it is of an earlier start of the same SLURM job.
"""

from __future__ import annotations

import atexit
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from .files import machine, temporary_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
_held: dict[Path, int] = {}  # folder -> how many locks of this process have it


class FolderInUseError(RuntimeError):
    """Another process writes into the folder."""


class FolderLock:
    """Reserve a folder for this process, until `release` or the end of the process.

    Locks of one process do not exclude each other: a training may lock its folder of weights and its folder of results,
    if both are the same. Of several processes of one run (torchrun), only the first should lock.

    Args:
        folder: made if absent.
        key: setting that names the folder, for the message.

    Raises:
        FolderInUseError: from `acquire`: a living process has the folder, or a process on another computer. The message
            names the process and the remedy.
        OSError: from `acquire`: the folder cannot be made or written to.

    Example:
        >>> from pathlib import Path
        >>> with FolderLock("output/cells"):
        ...     Path("output/cells/.lock").is_file()
        True
        >>> Path("output/cells/.lock").is_file()
        False
    """

    def __init__(self, folder: str | os.PathLike[str], key: str = "output_dir") -> None:
        self.folder = Path(folder).resolve()
        self.key = key
        self.acquired = False

    def acquire(self) -> FolderLock:
        """Reserve the folder. A lock of a process that has ended is taken over."""
        if self.acquired:
            return self
        if not _held.get(self.folder):
            self._write()
        _held[self.folder] = _held.get(self.folder, 0) + 1
        self.acquired = True
        return self

    def release(self) -> None:
        """Free the folder, if this was the last lock of this process. Without a lock, nothing happens."""
        if not self.acquired:
            return
        self.acquired = False
        _held[self.folder] = _held.get(self.folder, 1) - 1
        if _held[self.folder] <= 0:
            _free(self.folder)

    def __enter__(self) -> FolderLock:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _write(self) -> None:
        path = self.folder / NAME
        temporary = temporary_path(path)  # makes the folder
        with _alone(self.folder):
            if path.exists():
                holder = _read(path)
                if holder is not None and _is_running(holder):
                    raise FolderInUseError(self._refusal(path, holder))
                path.unlink(missing_ok=True)
            try:
                temporary.write_text(json.dumps(_this_process()), encoding="utf-8")
                try:
                    os.link(temporary, path)  # whole, and fails if the file exists
                except FileExistsError:  # another process was faster, in a file system without `flock`
                    raise FolderInUseError(self._refusal(path, _read(path) or {})) from None
                except OSError:  # a file system without hard links
                    self._write_alone(path, temporary.read_text(encoding="utf-8"))
            finally:
                temporary.unlink(missing_ok=True)

    def _write_alone(self, path: Path, content: str) -> None:
        try:
            with path.open("x", encoding="utf-8") as file:  # of several processes, one succeeds
                file.write(content)
        except FileExistsError:
            raise FolderInUseError(self._refusal(path, _read(path) or {})) from None

    def _refusal(self, path: Path, holder: dict[str, Any]) -> str:
        """Say who has the folder, and the remedy."""
        here = holder.get("machine", machine()) == machine() and holder.get("host") == socket.gethostname()
        place = f" on this computer ({holder.get('host')})"
        if not here:
            place = f" on the computer {holder.get('host')}, or in a container there"
        who = f"process {holder.get('pid')}{place} (since {holder.get('started')}: {holder.get('command')})"
        other = f"wait, stop that process, or set {self.key} to another folder"
        remedy = other if here else f"{other}. If no process runs there, delete {path}"
        text = (
            f"{self.folder} is in use by {who if holder else f'the process in {path}'}. Two runs would overwrite each "
            f"other's files: {remedy}"
        )
        return "".join(letter if letter.isprintable() else "?" for letter in text)  # a file may hold anything


def _this_process() -> dict[str, Any]:
    """Describe this process, for the file."""
    return {
        **_identity(),
        "host": socket.gethostname(),
        **_slurm_job(),
        "started": datetime.now().isoformat(sep=" ", timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
    }


def _identity() -> dict[str, Any]:
    """What tells this process from all others. Process numbers are used again."""
    me = psutil.Process()
    return {"pid": me.pid, "start": _start_of(me), "machine": machine(), "boot": _boot()}


def _slurm_job() -> dict[str, Any]:
    """Name the job of SLURM, and count its restarts (`scontrol requeue`). {}: no job."""
    if "SLURM_JOB_ID" not in os.environ:
        return {}
    job = f"{os.environ.get('SLURM_CLUSTER_NAME', '')} {os.environ['SLURM_JOB_ID']}"
    return {"slurm_job": job, "slurm_restart": int(os.environ.get("SLURM_RESTART_COUNT", "0"))}


def _is_earlier_start(holder: dict[str, Any]) -> bool:
    """Check for an earlier start of this job. SLURM ends all processes of a job before it starts the job again."""
    job = _slurm_job()
    same = bool(job) and holder.get("slurm_job") == job["slurm_job"]
    before = holder.get("slurm_restart")
    return same and isinstance(before, int) and before < job["slurm_restart"]


def _start_of(process: psutil.Process) -> float:
    """When a process started. On Linux in ticks since the boot, which a change of the clock leaves as they are."""
    if not sys.platform.startswith("linux"):
        return float(process.create_time())  # seconds
    content = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(content.rpartition(")")[2].split()[19])  # field 22; field 2 is a name in brackets


def _boot() -> str | None:
    """Name the start of the system. None: not Linux."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _read(path: Path) -> dict[str, Any] | None:
    """Read a lock. None: no lock, or a file that holds none, for example empty after a power cut."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {**content, "pid": int(content["pid"]), "host": str(content["host"])}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_running(holder: dict[str, Any]) -> bool:
    """Check whether the process of a lock still runs. Of other computers and containers, nothing is known: yes."""
    if _is_earlier_start(holder):
        return False
    if holder["host"] != socket.gethostname():
        return True
    if holder.get("boot", _boot()) != _boot():
        return False
    if holder.get("machine", machine()) != machine():
        return True
    try:
        process = psutil.Process(holder["pid"])
        same = abs(_start_of(process) - float(holder.get("start", _start_of(process)))) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.AccessDenied, PermissionError):  # a process of another user
        return True
    except (psutil.NoSuchProcess, OSError, ValueError, TypeError):
        return False


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from judging the same lock at the same time. Two could take over one lock."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # file systems without `flock`
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _free(folder: Path) -> None:
    """Delete the lock of this process. The copies of this process (`fork`) do not own the lock."""
    _held.pop(folder, None)
    holder = _read(folder / NAME)
    if holder is not None and _identity().items() <= holder.items():
        with suppress(OSError):
            (folder / NAME).unlink(missing_ok=True)


@atexit.register
def free_all() -> None:
    """Free all folders of this process. Python calls this at its end, also after an error.

    Example:
        >>> free_all()
    """
    for folder in list(_held):
        _free(folder)
