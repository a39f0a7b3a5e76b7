"""Write files completely or not at all. Read and write tables as CSV, write numbers as JSON.

A file is written under a temporary name in the same folder, then renamed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def temporary_path(path: Path) -> Path:
    """Return a temporary name for a file: hidden, in the same folder, with the same ending. Create the folder.

    The process ID in the name lets several processes write the same file. The last process to finish wins.

    Raises:
        OSError: the folder cannot be created or written to.

    Example:
        >>> from pathlib import Path
        >>> temporary_path(Path("run/curves.png")).suffix
        '.png'
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(path.parent, os.W_OK) else "no permission"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise OSError(f"cannot write into the folder {path.parent} ({reason}); set output_dir or model_dir to another")
    return path.with_name(f".tmp-{os.getpid()}-{path.name}")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file under a temporary path and rename the file at the end of the block.

    If the block raises, the temporary file is deleted and an existing file at `path` stays.

    Args:
        path: file to write. An existing file is replaced, missing folders are created.

    Raises:
        OSError: the folder cannot be created or written to, or the disk is full. The message names the file.

    Example:
        >>> from pathlib import Path
        >>> with replacing("run/notes.txt") as temporary:
        ...     _ = temporary.write_text("done")
        >>> Path("run/notes.txt").read_text()
        'done'
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk, for example
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV. The file appears completely or not at all.

    Args:
        path: the file. An existing file is replaced.
        rows: column name -> value. A missing value or None gives an empty cell.
        columns: names and order of the columns. None: all names, in order of appearance.

    Example:
        >>> from scripts.io import read_csv
        >>> write_csv("history.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2}])
        >>> read_csv("history.csv")
        [{'epoch': '1', 'loss': '0.5'}, {'epoch': '2', 'loss': ''}]
    """
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read a CSV file: for each row, column name -> value as a string.

    Example:
        >>> from scripts.io import write_csv
        >>> write_csv("history.csv", [{"epoch": 1, "loss": 0.5}])
        >>> read_csv("history.csv")
        [{'epoch': '1', 'loss': '0.5'}]
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON. The file appears completely or not at all.

    Args:
        path: the file. An existing file is replaced.
        content: dictionaries, lists, strings, finite numbers, NaN, None. NaN becomes null, since JSON has no NaN.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> write_json("metrics.json", {"dice": float("nan")})
        >>> json.loads(Path("metrics.json").read_text())
        {'dice': None}
    """
    # infinite numbers stay, and are refused
    plain = json.loads(json.dumps(content), parse_constant=lambda name: None if name == "NaN" else float(name))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def sha256_of(path: str | Path) -> str:
    """Compute the checksum of a file, in hexadecimal.

    Example:
        >>> _ = Path("empty").write_bytes(b"")
        >>> sha256_of("empty")[:12]
        'e3b0c44298fc'
    """
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def six_digits(value: float) -> float:
    """Round a measured number to six significant digits. Integers stay as they are.

    Example:
        >>> six_digits(0.123456789), six_digits(12345678)
        (0.123457, 12345678)
    """
    return value if isinstance(value, int) else float(f"{value:.6g}")
