"""Record which blocks are done, so that the same command goes on after it was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..io.files import write_json

SETTINGS = "settings.json"


class Journal:
    """A file with a line for each finished block. A line that was cut off by a power cut does not count.

    Only one process may write.

    Args:
        path: the file. It need not exist.

    Example:
        >>> from pathlib import Path
        >>> journal = Journal(Path("network.txt"))
        >>> journal.add([4, 2])
        >>> sorted(Journal(Path("network.txt")).finished())
        [2, 4]
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def finished(self) -> set[int]:
        """Read the numbers of all finished blocks."""
        if not self.path.exists():
            return set()
        lines = self.path.read_text(encoding="ascii", errors="replace").split("\n")
        return {int(line) for line in lines[:-1] if line.isdecimal()}

    def add(self, numbers: Iterable[int]) -> None:
        """Note finished blocks, on the disk before this returns."""
        with self.path.open("ab") as file:
            if file.tell() and not self._ends_with_a_line():
                file.write(b"?\n")  # the line that was cut off is no number of a block
            file.write("".join(f"{number}\n" for number in numbers).encode())
            file.flush()
            os.fsync(file.fileno())

    def _ends_with_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"


def same_settings(folder: Path, settings: Mapping[str, Any], output: Path) -> bool:
    """Check whether a work folder belongs to these settings, and note them in a new one.

    Args:
        folder: of the work.
        settings: all that decides the result, as JSON.
        output: the result, for the message.

    Returns:
        whether the work was begun before.

    Raises:
        ValueError: the work was begun with other settings. The message names the first that differ.

    Example:
        >>> from pathlib import Path
        >>> Path("work").mkdir()
        >>> [same_settings(Path("work"), {"block_size": 512}, Path("out.ome.zarr")) for _ in range(2)]
        [False, True]
    """
    file = folder / SETTINGS
    if not file.exists():
        write_json(file, dict(settings))
        return False
    before = json.loads(file.read_text(encoding="utf-8"))
    differ = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if differ:
        changes = ", ".join(f"{name}: {before.get(name)}, now {settings.get(name)}" for name in differ[:3])
        raise ValueError(
            f"{output} was begun with other settings ({changes}). Repeat the command with those settings, or begin "
            "anew with overwrite true"
        )
    return True
