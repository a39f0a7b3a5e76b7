"""Write files completely or not at all. Read and write tables as CSV, write numbers as JSON.

A file is written under a temporary name in the same folder, then renamed. The first file of a process in a folder
removes the temporary files of processes that have died.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from .names import shown

TEMPORARY = re.compile(r"\.tmp-(?P<pid>\d+)-(?:(?P<host>[0-9a-f]{8})-)?.")  # earlier versions wrote no host
LONGEST_ENDING = 16  # characters of a temporary name's ending
ABANDONED = 7 * 24 * 3600  # seconds after which the temporary file of another machine is a leftover
FOR_ALL = {  # errors that concern all files, not a single one
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENFILE, errno.EMFILE, errno.ENODEV, errno.EIO),
    *(getattr(errno, name) for name in ("ESTALE", "ENOTCONN", "ENXIO") if hasattr(errno, name)),
}


class FolderError(OSError):
    """A folder cannot be written to, or has vanished. Concerns all files of the folder."""


class SameFileError(ValueError):
    """A result would replace its source."""


def concerns_all_files(error: BaseException) -> bool:
    """Tell an error of the disk or folder (full, read-only, gone) from an error of a single file.

    Example:
        >>> concerns_all_files(OSError(errno.ENOSPC, "No space left")), concerns_all_files(FileNotFoundError("a.png"))
        (True, False)
    """
    return isinstance(error, FolderError) or (isinstance(error, OSError) and error.errno in FOR_ALL)


def temporary_path(path: Path) -> Path:
    """Return a temporary name for a file: hidden, in the same folder, with the same ending. Create the folder.

    The name holds process ID and machine: several processes may write the same file, and the last process to finish
    wins. A checksum replaces the file's name, since names may be as long as a file system allows. The first call for a
    folder removes leftovers, see `remove_leftovers`.

    Raises:
        FolderError: the folder cannot be created or written to.

    Example:
        >>> from pathlib import Path
        >>> temporary_path(Path("run/curves.png")).suffix
        '.png'
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(path.parent, os.W_OK) else "no permission"
    except OSError as error:
        if error.errno in FOR_ALL:
            raise  # a full disk, for example
        reason = error.strerror or str(error)
    if reason:
        raise FolderError(
            f"cannot write into the folder {shown(path.parent)} ({reason}); set output_dir or model_dir to another"
        )
    _tidy_once(path.parent.absolute(), os.getpid())
    ending = path.suffix if len(path.suffix) <= LONGEST_ENDING else ""
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.with_name(f".tmp-{os.getpid()}-{machine()}-{name}{ending}")


@cache
def machine() -> str:
    """Return a checksum of the place where a process number names one process: computer, and container on Linux.

    Containers with the network of the computer share its name, but not its process numbers.

    Example:
        >>> len(machine())
        8
    """
    container = ""
    with suppress(OSError):  # not Linux
        container = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {container}".encode()).hexdigest()[:8]


@cache
def _tidy_once(folder: Path, pid: int) -> None:
    """Remove leftovers at the first file of a process in a folder. `pid` tells a forked process from its parent."""
    with suppress(OSError):
        remove_leftovers(folder)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove temporary files of this program whose process has died. Other files stay.

    Temporary files of another machine or container are removed after a week, since its processes cannot be seen.

    Returns:
        the removed files.

    Example:
        >>> from pathlib import Path
        >>> Path(".tmp-999999999-cells.tif").touch()
        >>> [path.name for path in remove_leftovers(Path("."))]
        ['.tmp-999999999-cells.tif']
    """
    removed = []
    for path in folder.iterdir():
        match = TEMPORARY.match(path.name)
        if match is None or path.is_dir():
            continue
        if match["host"] in (None, machine()):
            dead = not psutil.pid_exists(int(match["pid"]))
        else:
            dead = time.time() - path.lstat().st_mtime > ABANDONED
        if dead:
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


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
        with naming(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in errors without a name (a full disk) or with a temporary name (a folder in the way).

    Example:
        >>> from pathlib import Path
        >>> with naming(Path("cells.tif")):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        OSError: [Errno 28] No space left on device: 'cells.tif'
    """
    try:
        yield
    except OSError as error:
        named = error.filename is not None and not TEMPORARY.match(Path(os.fsdecode(error.filename)).name)
        if error.errno is None or named:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def identities(paths: Iterable[str | os.PathLike[str]]) -> dict[tuple[int, int], str | os.PathLike[str]]:
    """Identify existing files: device and inode, equal for all names and links of a file -> path.

    Example:
        >>> from pathlib import Path
        >>> Path("cells.png").touch()
        >>> list(identities(["cells.png", "absent.png"]).values())
        ['cells.png']
    """
    found = {}
    for path in paths:
        with suppress(OSError, ValueError):
            state = os.stat(path)
            found[state.st_dev, state.st_ino] = path
    return found


def refuse_overwriting(
    results: Iterable[Path], sources: Mapping[tuple[int, int], str | os.PathLike[str]], remedy: str
) -> None:
    """Refuse results that are the sources themselves, also by links or on file systems that ignore case.

    Args:
        results: files to be written.
        sources: files that must stay, from `identities`.
        remedy: end of the message: "set output_dir to another folder".

    Raises:
        SameFileError: a result is a source. The message names both.

    Example:
        >>> from pathlib import Path
        >>> Path("cells.png").touch()
        >>> refuse_overwriting([Path("./cells.png")], identities(["cells.png"]), "set output_dir to another folder")
        Traceback (most recent call last):
        scripts.io.files.SameFileError: the result cells.png would replace its source cells.png; set output_dir to ...
    """
    same = [(path, sources[identity]) for identity, path in identities(results).items() if identity in sources]
    if same:
        more = f", and {len(same) - 1} more" if len(same) > 1 else ""
        raise SameFileError(
            f"the result {shown(same[0][0])} would replace its source {shown(same[0][1])}{more}; {remedy}"
        )


def text_cell(value: Any) -> Any:
    """Make a cell of a table safe: text that a spreadsheet would run as a formula, and control characters.

    Numbers stay numbers. Other text that begins with = + - or @ gets a leading ', as OWASP advises
    (https://owasp.org/www-community/attacks/CSV_Injection). Control characters become escapes, see `shown`.

    Example:
        >>> text_cell("=HYPERLINK(1)"), text_cell(-0.5), text_cell("-0.5")
        ("'=HYPERLINK(1)", -0.5, '-0.5')
    """
    if not isinstance(value, str):
        return value
    text = shown(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
        csv.writer(file, lineterminator="\n").writerow(map(text_cell, names))
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writerows({name: text_cell(value) for name, value in row.items()} for row in rows)


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
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def file_state(path: str | Path) -> str:
    """Describe size and time of the last change of a file, to notice changes without reading the file.

    Example:
        >>> _ = Path("empty").write_bytes(b"")
        >>> file_state("empty").split(" of ")[0]
        '0 bytes'
    """
    state = os.stat(path)
    return f"{state.st_size} bytes of {datetime.fromtimestamp(state.st_mtime)} ({state.st_mtime_ns % 10**6})"


def six_digits(value: float) -> float:
    """Round a measured number to six significant digits. Integers stay as they are.

    Example:
        >>> six_digits(0.123456789), six_digits(12345678)
        (0.123457, 12345678)
    """
    return value if isinstance(value, int) else float(f"{value:.6g}")
