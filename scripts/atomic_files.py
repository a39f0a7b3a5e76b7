"""Files that appear complete or not at all: written under a temporary name beside their place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
