"""Files that appear complete or not at all, and tables in them: rows of figures as CSV, figures as JSON.

A file is written under a temporary name beside its place, then renamed.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def temporary_path(path: Path) -> Path:
    """The hidden name beside `path` under which this process writes, with the suffix kept, which names the format."""
    return path.with_name(f".tmp-{os.getpid()}-{path.name}")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends well, and is removed when it does not.

    The process id in the name lets several processes write the same file: the last to finish wins, and no reader ever
    meets half a file. Parent folders are made.

    Args:
        path: the file to write; an existing one is replaced.

    Raises:
        OSError: the folder cannot be made or written to.

    Example:
        with replacing("run/curves.png") as temporary:
            figure.savefig(temporary)
    """
    path = Path(path)
    _make_writable(path.parent)
    temporary = temporary_path(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "no permission"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise OSError(f"cannot write into the folder {folder} ({reason}); set output_dir or model_dir to another one")


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV.

    Args:
        path: the file, replaced atomically.
        rows: column name -> value; what is None or missing in a row stays empty.
        columns: which columns, in which order; None: every name, in order of appearance.
    """
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read what `write_csv` wrote; all values are strings."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, replacing the file atomically; NaN, which JSON lacks, becomes null."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def six_digits(value: float) -> float:
    """A measured number with the six digits that are worth reading; whole numbers stay whole."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
