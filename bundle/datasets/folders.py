"""Folders that appear whole or not at all, and never in place of something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.errors import UsageError


@contextmanager
def whole_folder(target: Path, overwrite: bool, parts: Collection[str]) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends without an error its content becomes `target`.

    Args:
        target: the folder to make; its parents are made too.
        overwrite: whether a `target` that holds earlier results may be replaced.
        parts: names of all entries that the block may make. A folder with any other entry is never replaced.

    Yields:
        the folder to fill, beside `target`.

    Raises:
        UsageError: `target` is a file, or holds something that may not be replaced.
    """
    target = target.resolve()  # also gives "." a name
    check_may_write(target, overwrite, parts)
    new = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    new.mkdir(parents=True)
    try:
        yield new
        if target.exists():  # kept as a folder: it may be somebody's working directory
            for entry in sorted(target.iterdir()):
                shutil.rmtree(entry)
            for entry in sorted(new.iterdir()):
                shutil.move(entry, target / entry.name)
        else:
            new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_may_write(target: Path, overwrite: bool, parts: Collection[str]) -> None:
    """Refuse a target that something would be lost in.

    Args:
        target: the folder to be made.
        overwrite: whether earlier results may be replaced.
        parts: names of the folders that count as earlier results.

    Raises:
        UsageError: `target` is a file, or holds something that may not be replaced.
    """
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file, expected a folder or a new name; give another one")
    held = sorted(entry.name for entry in target.iterdir()) if target.is_dir() else []
    foreign = [name for name in held if name not in parts or not (target / name).is_dir()]
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UsageError(f"{target} holds other things ({shown}), which are not touched; give an empty or new folder")
    if held and not overwrite:
        raise UsageError(f"{target} holds data already ({', '.join(held)}); give another folder, or --overwrite")


def shallowest(folder: Path, name: str) -> Path | None:
    """The entry of that name nearest to the top of a folder, None if there is none."""
    if (folder / name).exists():
        return folder / name
    return min(folder.rglob(name), key=lambda path: (len(path.parts), path), default=None)
