"""Write folders completely or not at all, and never over other files."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.running.errors import UsageError


@contextmanager
def whole_folder(target: Path, overwrite: bool, parts: Collection[str]) -> Iterator[Path]:
    """Fill an empty folder beside `target`, and rename it to `target` if the block ends without an error.

    Args:
        target: the folder to make; its parents are made too.
        overwrite: whether earlier results in `target` may be replaced. If they hold files that the block does not make,
            such as images of the user, they are moved to `target.1` (the first free number).
        parts: names of all folders that the block may make. A target with any other entry is never replaced.

    Raises:
        UsageError: `target` is a file, or holds something that may not be replaced.

    Example:
        >>> with whole_folder(Path("data"), overwrite=False, parts=("train",)) as new:
        ...     (new / "train").mkdir()
        >>> os.listdir("data")
        ['train']
    """
    target = target.resolve()  # also gives "." a name
    check_may_write(target, overwrite, parts)
    new = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    new.mkdir(parents=True)
    try:
        yield new
        if target.exists():  # keep the folder: it may be somebody's working directory
            if _files(target) - _files(new):
                _move_aside(target)
            for entry in sorted(target.iterdir()):
                shutil.rmtree(entry)
            for entry in sorted(new.iterdir()):
                shutil.move(entry, target / entry.name)
        else:
            new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _files(folder: Path) -> set[Path]:
    """List the files below a folder, by their paths in the folder."""
    return {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}


def _move_aside(target: Path) -> None:
    """Move the content of a folder into `target.1`, or the first free number, and say so."""
    numbered = (target.with_name(f"{target.name}.{number}") for number in itertools.count(1))
    aside = next(folder for folder in numbered if not folder.exists())
    aside.mkdir()
    for entry in sorted(target.iterdir()):
        shutil.move(entry, aside / entry.name)
    print(f"{target} held other files, too: the earlier content is in {aside}")


def check_may_write(target: Path, overwrite: bool, parts: Collection[str]) -> None:
    """Raise UsageError if `target` is a file, or holds something that may not be replaced. Args as in `whole_folder`.

    Example:
        >>> check_may_write(Path("new folder"), overwrite=False, parts=("train", "test"))
    """
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file, expected a folder or a new name; give another one")
    held = sorted(entry.name for entry in target.iterdir()) if target.is_dir() else []
    foreign = [name for name in held if name not in parts or not (target / name).is_dir()]
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UsageError(f"{target} holds other things ({shown}) and is left as it is; give an empty or new folder")
    if held and not overwrite:
        raise UsageError(f"{target} holds data already ({', '.join(held)}); give another folder, or --overwrite")


def shallowest(folder: Path, name: str) -> Path | None:
    """Find the entry with a name or relative path nearest to the top of a folder; None if absent.

    Example:
        >>> Path("set/some/01_GT").mkdir(parents=True)
        >>> shallowest(Path("set"), "01_GT").as_posix()
        'set/some/01_GT'
    """
    if (folder / name).exists():
        return folder / name
    return min(folder.rglob(name), key=lambda path: (len(path.parts), path), default=None)
