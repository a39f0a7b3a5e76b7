"""Find the memory that the process may still take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Read the free bytes of the RAM, within the limits of the container (cgroup) and of the process (`ulimit -v`).

    Example:
        >>> available_memory() > 0
        True
    """
    return max(0, min([psutil.virtual_memory().available, *_of_cgroups(), *_of_process()]))


def _of_process() -> Iterator[int]:
    try:
        import resource  # not on Windows
    except ImportError:
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms


def _of_cgroups() -> Iterator[int]:
    """Free bytes of the process's control groups: limit minus use. Cached files of the group count as free."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for _, controllers, name in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if controllers == "":  # version 2
            root, names = _CGROUPS, ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):  # version 1
            root = _CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        folder = root / name.strip("/")
        for group in (folder, *(parent for parent in folder.parents if parent.is_relative_to(root))):
            yield from _free(group, *names)


def _free(group: Path, limit: str, use: str, prefix: str) -> Iterator[int]:
    try:
        allowed, used = (int((group / name).read_text(encoding="ascii")) for name in (limit, use))
        pairs = (line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        cached = (f"{prefix}active_file", f"{prefix}inactive_file")
        yield allowed - used + sum(int(value) for name, value in pairs if name in cached)
    except (OSError, ValueError):  # no such group within the container, or the limit "max"
        return
