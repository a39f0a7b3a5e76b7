"""Keep unfinished work in a folder, and record which blocks are done: killed, the same command goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..io.files import TEMPORARY, write_json
from ..io.locks import NAME as LOCK
from ..io.names import shown

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


def check_folder(folder: Path) -> None:
    """Refuse a work folder of another program: its files would be deleted.

    Args:
        folder: of the work. It need not exist.

    Raises:
        FileExistsError: a file, or a folder with other files. The message names the folder.

    Example:
        >>> from pathlib import Path
        >>> check_folder(Path("new"))
    """
    if not folder.exists() or (folder / SETTINGS).exists():
        return
    if not folder.is_dir() or any(entry.name != LOCK and not TEMPORARY.match(entry.name) for entry in folder.iterdir()):
        raise FileExistsError(
            f"{shown(folder)} is the place of unfinished work, but was not made by this program. Rename it, or give "
            "another output_dir"
        )


def begin(folder: Path, settings: Mapping[str, Any], output: Path, anew: bool = False) -> bool:
    """Check whether a work folder belongs to these settings. Begin new work otherwise, and note the settings.

    Work without its arrays is begun anew: its journals name blocks that are gone.

    Args:
        folder: of the work, with the arrays under the name of the output.
        settings: all that decides the result, as JSON.
        output: the result.
        anew: delete unfinished work.

    Returns:
        whether the work was begun before.

    Raises:
        ValueError: the work was begun with other settings, or the file of its settings is damaged. The message names
            the first that differ.

    Example:
        >>> from pathlib import Path
        >>> folder, output = Path("out.ome.zarr.part"), Path("out.ome.zarr")
        >>> folder.mkdir()
        >>> begin(folder, {"block_size": 512}, output)
        False
        >>> (folder / "out.ome.zarr").mkdir()  # the arrays
        >>> begin(folder, {"block_size": 512}, output)
        True
    """
    before = {} if anew else _noted(folder / SETTINGS)
    if not before or not (folder / output.name).is_dir():
        clear(folder)
        write_json(folder / SETTINGS, dict(settings))
        return False
    differ = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if differ:
        changes = ", ".join(f"{name}: {before.get(name)}, now {settings.get(name)}" for name in differ[:3])
        raise ValueError(
            f"{output} was begun with other settings ({changes}). Repeat the command with those settings, or begin "
            "anew with --overwrite true"
        )
    return True


def clear(folder: Path) -> None:
    """Delete work, but not the lock. Killed in between, the next `begin` deletes the rest.

    Example:
        >>> from pathlib import Path
        >>> folder = Path("old.ome.zarr.part")
        >>> folder.mkdir()
        >>> begin(folder, {"block_size": 512}, Path("old.ome.zarr"))
        False
        >>> clear(folder)
        >>> list(folder.iterdir())
        []
    """
    settings = folder / SETTINGS
    if settings.exists():
        settings.write_bytes(b"")  # needs no space on a full disk
    for entry in sorted(folder.iterdir(), key=lambda entry: entry == settings):  # the settings last
        if entry.name != LOCK:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)


def _noted(file: Path) -> dict[str, Any]:
    """Read the settings of work. {}: there are none, or the work is being deleted."""
    if not file.exists() or not file.stat().st_size:
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{shown(file)} is damaged ({error}), so the unfinished work cannot go on. Begin anew with --overwrite true"
        ) from error
