"""Describe the machine and the versions of programs: for the record of a run, for plans and for diagnoses."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from .inferers.precision import computes_in_bfloat16
from .io.memory import available_memory

GIB = 2**30
SHARED_MEMORY = Path("/dev/shm")
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy", "scikit-image")


def versions() -> dict[str, str]:
    """Find the versions of Python and of the installed packages.

    Example:
        >>> list(versions())[:3]
        ['python', 'torch', 'monai']
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a conda environment may lack the metadata
            found[name] = "unknown"
    return found


def hardware() -> dict[str, str | int | float]:
    """Describe the processor, its widest vector instructions in torch, cores, memory in GiB, and the GPU if present.

    Example:
        >>> list(hardware())[:4]
        ['processor', 'instructions', 'cores', 'memory_gib']
    """
    in_bfloat16 = " and bfloat16" if computes_in_bfloat16(torch.device("cpu")) else ""
    found: dict[str, str | int | float] = {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability() + in_bfloat16,
        "cores": _cores(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


@dataclass(frozen=True)
class Machine:
    """The machine of a training.

    Args:
        device: "cuda" or "cpu", as `configs/train.yaml` chooses.
        processor: name of the GPU, or the vector instructions of the CPU.
        cores: that this process may use.
        memory: bytes of RAM that this process may take in all.
        gpu_memory: bytes of the GPU. 0: no GPU.
        bfloat16: whether convolutions compute in bfloat16.
    """

    device: str
    processor: str
    cores: int
    memory: int
    gpu_memory: int = 0
    bfloat16: bool = False

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine.

        Example:
            >>> Machine.here().device in ("cpu", "cuda")
            True
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        gpu = device.type == "cuda"
        return cls(
            device=device.type,
            processor=torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability(),
            cores=_cores(),
            memory=available_memory(),
            gpu_memory=torch.cuda.get_device_properties(0).total_memory if gpu else 0,
            bfloat16=computes_in_bfloat16(device),
        )

    @property
    def words(self) -> str:
        """Describe in words: "CPU, 2 cores, AVX512 and bfloat16"."""
        kind = f"{self.processor}, {self.gpu_memory / GIB:.0f} GiB" if self.gpu_memory else f"CPU, {self.processor}"
        return f"{kind}, {self.cores} core{'s' if self.cores > 1 else ''}{', bfloat16' if self.bfloat16 else ''}"


def free_space(folder: Path) -> int:
    """Read the free bytes of the disk of a folder, which need not exist yet.

    Example:
        >>> from pathlib import Path
        >>> free_space(Path("not/yet/there")) > 0
        True
    """
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def writable(folder: Path) -> bool:
    """Whether files may be written into a folder. A folder without any right to write is read-only, also for root.

    Example:
        >>> from pathlib import Path
        >>> writable(Path("."))
        True
    """
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def shared_memory() -> int | None:
    """Read the free bytes of the shared memory, in which worker processes pass tiles. None: not on this system.

    Example:
        >>> shared_memory() is None or shared_memory() >= 0
        True
    """
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def has_mps() -> bool:
    """Whether torch may use the GPU of an Apple machine.

    Example:
        >>> has_mps() in (True, False)
        True
    """
    return bool(torch.backends.mps.is_available())


def _cores() -> int:
    """Count the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _processor() -> str:
    """Find the vendor's name of the processor on Linux, else the name known to Python."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
