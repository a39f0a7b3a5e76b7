"""Write a table of many images as CSV, image by image."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import replacing, text_cell
from .names import shown


def has_columns(path: Path, columns: Sequence[str]) -> bool:
    """Check whether a CSV file begins with some columns.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("ranking.csv").write_text("rank,image,score\\n")
        >>> has_columns(Path("ranking.csv"), ["rank", "image"])
        True
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return next(csv.reader(file), [])[: len(columns)] == list(columns)


def check_table(path: Path, columns: Sequence[str]) -> None:
    """Refuse to replace a file other than a table with these columns.

    Args:
        path: the table to write. It need not exist.
        columns: of the table.

    Raises:
        ValueError: the file exists, and has other columns. The message names the file.

    Example:
        >>> from pathlib import Path
        >>> check_table(Path("new.csv"), ["rank", "image"])
    """
    if path.exists() and not has_columns(path, columns):
        raise ValueError(
            f"{shown(path)} has other columns than {','.join(columns)}, and would be replaced. Choose another file"
        )


class GrowingCSV:
    """Add rows to a CSV file. Rows of a full disk are taken back, so that a reader finds complete rows only.

    An existing file is replaced by the first rows.

    Args:
        path: the CSV file.

    Example:
        >>> from pathlib import Path
        >>> table = GrowingCSV(Path("objects.csv"))
        >>> table.add([{"image": "a.png", "area": 20}])
        >>> Path("objects.csv").read_text().splitlines()
        ['image,area', 'a.png,20']
        >>> table.add([{"image": "b.png", "area": 3, "perimeter": 4}])
        >>> Path("objects.csv").read_text().splitlines()
        ['image,area,perimeter', 'a.png,20,', 'b.png,3,4']
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self._begun = False

    def add(self, rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
        """Append rows in a single write.

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
        else:
            _append_whole(self.path, text)

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
