"""Prepare MONAI Label's folder beside the user's images: links to the images, and labels.

    <folder>/                      default: STUDIES_labels
        datastore_v2.json          MONAI Label's list of images and labels
        labels/final, original     submitted labels; labels proposed by the model
        a.png, b.tif, ...          links to the images; copies where links are not possible

Nothing is written into the folder of the images. Earlier versions wrote labels there: a new folder starts with copies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from bundle.running.errors import UsageError

LIST, LABELS = "datastore_v2.json", "labels"


def prepare_studies(folder: Path, studies: Path, images: Iterable[Path]) -> list[str]:
    """Make or renew the server's folder.

    Args:
        folder: to write to; made if absent.
        studies: the user's folder of images. Nothing in it is changed.
        images: files of `studies` to serve.

    Returns:
        Notes for the user: labels taken over from an earlier version.

    Raises:
        UsageError: `folder` lies in `studies`, or holds foreign files.

    Example:
        >>> Path("images").mkdir()
        >>> _ = Path("images/a.png").write_bytes(b"")
        >>> prepare_studies(Path("images_labels"), Path("images"), [Path("images/a.png")])
        []
        >>> Path("images_labels/a.png").samefile("images/a.png")
        True
    """
    if folder == studies or studies in folder.parents:
        raise UsageError(
            f"--labels {folder} lies in the studies, where nothing is written; choose a folder beside the studies"
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LABELS).is_dir():
        raise UsageError(f"--labels {folder} holds files of somebody else; choose a new folder")
    notes = [] if (folder / LABELS).is_dir() else _take_over(folder, studies)
    wanted = {image.name: image.resolve() for image in images}
    for path in folder.iterdir():
        if path.is_symlink() and wanted.get(path.name) != path.resolve():
            path.unlink()
    for name, image in wanted.items():
        _link(image, folder / name)
    return notes


def _take_over(folder: Path, studies: Path) -> list[str]:
    """Copy labels of earlier versions from the studies."""
    earlier = [path for path in (studies / LABELS).rglob("*") if path.is_file()]
    for path in earlier:
        target = folder / path.relative_to(studies)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    (folder / LABELS).mkdir(parents=True, exist_ok=True)
    if not earlier:
        return []
    if (studies / LIST).is_file():
        shutil.copy2(studies / LIST, folder / LIST)
    return [f"{len(earlier)} labels of an earlier version copied from {studies / LABELS}; new labels go to {folder}"]


def _link(image: Path, target: Path) -> None:
    """Link an image. Where links are not possible, copy the image, and again after a change."""
    if target.is_symlink():
        return
    if target.is_file():
        old, new = target.stat(), image.stat()
        if (old.st_size, old.st_mtime_ns) != (new.st_size, new.st_mtime_ns):
            shutil.copy2(image, target)
        return
    try:
        os.symlink(image, target)
    except OSError:
        shutil.copy2(image, target)
