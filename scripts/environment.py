"""Describe the machine and the versions of programs, for the record of a run."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from .inferers.precision import computes_in_bfloat16

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
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    """Find the vendor's name of the processor on Linux, else the name known to Python."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
