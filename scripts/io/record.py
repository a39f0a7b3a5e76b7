"""Keep a record of a run beside its results: the settings, and the images whose results are complete.

`results.jsonl` has the settings in the first line, then a line for each finished image. Each of several processes has
a file of its own, since two machines cannot safely append to one file of a network file system.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..ranks import gather
from .files import replacing
from .names import PathLike, split_address

RECORD = "results.jsonl"


class RunRecord:
    """Record the settings of a run and its finished images in `<folder>/results.jsonl`.

    Rank 1 of several processes writes `.results.rank1.jsonl`, with the same first line. `merge` joins all files. A
    killed run leaves the files, and `read` finds the images of all.

    Args:
        folder: folder of the results.
        settings: what decides the results, name -> text.
        rank: number of this process.

    Example:
        >>> from pathlib import Path
        >>> Path("cells.png").touch()
        >>> record = RunRecord(Path("out"), {"min_area": "40"})
        >>> record.begin({})
        >>> record.add("cells.png", "cells.png", {"kinds": ["classes"]})
        >>> RunRecord(Path("out"), {"min_area": "50"}).differences()
        'min_area 40 (now 50)'
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], rank: int = 0) -> None:
        self.path = folder / RECORD
        self.settings = dict(settings)
        self._rank = rank
        self._added: dict[str, dict[str, Any]] = {}
        self._own = self.path if rank == 0 else folder / f".{self.path.stem}.rank{rank}.jsonl"
        self._earlier_settings: dict[str, str] | None = None
        self.images: dict[str, dict[str, Any]] = {}
        self.read()

    def read(self) -> None:
        """Read the record of an earlier run. A line that was cut by a kill or a full disk counts as not written."""
        self._earlier_settings, self.images = _read(self.path)
        for path in self._others() if self.exists else ():
            settings, images = _read(path)
            if settings == self._earlier_settings:
                self.images |= images

    def _others(self) -> list[Path]:
        """List the files of other processes, now or of a killed run."""
        return sorted(self.path.parent.glob(f".{self.path.stem}.rank*.jsonl"))

    @property
    def exists(self) -> bool:
        """Whether an earlier run left a record."""
        return self._earlier_settings is not None

    def differences(self) -> str:
        """Name the settings of the earlier run that differ: "min_area 40 (now 50)". "": none."""
        before, now = self._earlier_settings or {}, self.settings
        names = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
        return ", ".join(f"{name} {before.get(name, 'not set')} (now {now.get(name, 'not set')})" for name in names)

    def finished(self, name: str, source: PathLike) -> dict[str, Any] | None:
        """Return what was recorded of an image, if the file has not changed since. None: not finished.

        Args:
            name: of the image, as in `add`.
            source: the image file.
        """
        entry = self.images.get(name)
        return entry if entry is not None and entry.get("file") == _state(source) else None

    def begin(self, kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Start the record of this run, with the images that stay finished. Of several processes, only rank 0 calls."""
        self.images = {name: dict(entry) for name, entry in kept.items()}
        self._write(self.path, kept)
        for path in self._others():
            path.unlink(missing_ok=True)

    def _write(self, path: Path, images: Mapping[str, Mapping[str, Any]]) -> None:
        lines = [{"settings": self.settings}, *images.values()]
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def add(self, name: str, source: PathLike, content: Mapping[str, Any]) -> None:
        """Append a finished image, in a single write.

        Args:
            name: of the image, as in the table of objects.
            source: the image file, or an address of a plane.
            content: more to record.
        """
        entry = {"image": name, "file": _state(source), **content}
        if self._rank > 0 and not self._added:
            self._write(self._own, {})
        descriptor = os.open(self._own, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, ("\n" if self._is_cut() else "").encode() + (json.dumps(entry) + "\n").encode())
        finally:
            os.close(descriptor)
        self.images[name] = self._added[name] = entry

    def merge(self, order: Sequence[str] = ()) -> None:
        """Join the files of all processes. All processes call, after their last image.

        Args:
            order: names of images. Lines are sorted by their places here, other names last.
        """
        shares = gather(self._added)
        if len(shares) == 1:
            return
        if self._rank == 0:
            found = {name: entry for share in [self.images, *shares] for name, entry in share.items()}
            places = {name: place for place, name in enumerate(order)}
            self.images = {name: found[name] for name in sorted(found, key=lambda name: places.get(name, len(places)))}
            self._write(self.path, self.images)
        gather(None)  # rank 0 has written
        if self._rank > 0:
            self._own.unlink(missing_ok=True)

    def _is_cut(self) -> bool:
        """Check for a last line without end, left by a full disk."""
        with self._own.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"


def _read(path: Path) -> tuple[dict[str, str] | None, dict[str, dict[str, Any]]]:
    """Read settings and images. None: no settings."""
    settings, images = None, {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None, {}
    for number, line in enumerate(lines):
        try:
            entry = json.loads(line)
            if number == 0:
                settings = {str(name): str(value) for name, value in entry["settings"].items()}
            else:
                images[str(entry["image"])] = entry
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return settings, images


def _state(source: PathLike) -> list[int] | None:
    """Size in bytes and time of the last change in nanoseconds. None: no such file."""
    try:
        state = os.stat(split_address(source)[0])
    except (OSError, ValueError):
        return None
    return [state.st_size, state.st_mtime_ns]
