"""Write a table of many images as CSV, image by image, so that the file is whole at any moment."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import replacing, temporary_path, text_cell

# errors of file systems without hard links (exFAT, some network drives). There, a killed process may cut the last row
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


class GrowingCSV:
    """Add rows to a CSV file. A reader finds complete rows only, also after kill -9 or on a full disk.

    Rows are appended to a hidden twin of the file. Then the twin gets the file's name, and the earlier file becomes the
    next twin. Every row is written twice, however long the table. An existing file is replaced by the first rows.

    Args:
        path: the CSV file.

    Example:
        >>> from pathlib import Path
        >>> table = GrowingCSV(Path("objects.csv"))
        >>> table.add([{"image": "a.png", "area": 20}])
        >>> Path("objects.csv").read_text().splitlines()
        ['image,area', 'a.png,20']
        >>> table.add([{"image": "b.png", "area": 3, "perimeter": 4}])
        >>> table.close()
        >>> Path("objects.csv").read_text().splitlines()
        ['image,area,perimeter', 'a.png,20,', 'b.png,3,4']
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self._twin = temporary_path(path.with_name(f"twin of {path.name}"))
        self._spare = temporary_path(path.with_name(f"spare twin of {path.name}"))
        self._begun = False
        self._twin_ready = False  # whether the twin has the rows of the file but the last ones, `_lacking`
        self._lacking = ""
        self._links = True  # whether the file system has hard links

    def add(self, rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
        """Append rows. All of them appear at once, or none.

        Args:
            rows: column name -> value. None or a missing value gives an empty cell.
            columns: names of columns, for a table without rows.

        Raises:
            OSError: the disk is full, or the folder has vanished. The file keeps its earlier rows.
        """
        names = list(dict.fromkeys([*self.columns, *columns, *(name for row in rows for name in row)]))
        text = _csv([row.get(name) for name in names] for row in rows)
        if not self._begun or names != self.columns:
            self._widen(names, text)
        elif text:
            self._append(text)

    def close(self) -> None:
        """Remove the twin. More rows may follow."""
        self._twin_ready = False
        for path in (self._twin, self._spare):
            path.unlink(missing_ok=True)

    def _append(self, text: str) -> None:
        if not self._links:
            _append_whole(self.path, text)
            return
        if not self._twin_ready:
            shutil.copyfile(self.path, self._twin)
            self._lacking = ""
        self._twin_ready = False
        _append_whole(self._twin, self._lacking + text)
        try:
            os.link(self.path, self._spare)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            self._links = False
        os.replace(self._twin, self.path)
        if self._links:
            self._twin, self._spare = self._spare, self._twin
            self._twin_ready, self._lacking = True, text

    def _widen(self, names: list[str], text: str) -> None:
        """Write the table anew with more columns."""
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            file.write(_csv([names]))
            if self._begun:
                more = [""] * (len(names) - len(self.columns))
                with self.path.open(newline="", encoding="utf-8") as earlier:
                    rows = csv.reader(earlier)
                    next(rows)
                    csv.writer(file, lineterminator="\n").writerows([*row, *more] for row in rows)
            file.write(text)
        self.columns, self._begun = names, True
        self.close()


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([text_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _append_whole(path: Path, text: str) -> None:
    """Append text to an existing file, wholly or not at all."""
    with path.open("r+b", buffering=0) as file:  # a buffer would be written at the end, after the cut
        before, left = file.seek(0, os.SEEK_END), memoryview(text.encode())
        try:
            while left:
                left = left[file.write(left) :]
        except BaseException:
            with suppress(OSError):
                os.ftruncate(file.fileno(), before)
            raise
