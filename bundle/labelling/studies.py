"""Prepare MONAI Label's folder beside the user's images: links to the images, and labels.

    <folder>/                      default: STUDIES_labels
        served_images.json         links and copies that this module has made: no other file is replaced or removed
        datastore_v2.json          MONAI Label's list of images and labels
        labels/final, original     submitted labels; labels proposed by the model
        a.png, b.tif, ...          links to the images; copies where links are not possible

Nothing is written into the folder of the images. Earlier versions wrote labels there: a new folder starts with copies.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bundle.labelling.guard.allowed import IMAGES
from bundle.running.errors import UsageError
from scripts.io.files import TEMPORARY, replacing, temporary_path, write_json
from scripts.io.locks import NAME as LOCK
from scripts.io.names import shown

OWN, LIST, LABELS = "served_images.json", "datastore_v2.json", "labels"
SHOWN = 5  # file names in a message
COARSEST = 2 * 10**9  # nanoseconds; FAT stores times in steps of 2 s

State = tuple[int, int] | None  # of an image when it was copied: bytes, time in nanoseconds. None: a link


@dataclass
class OwnFiles:
    """Content of served_images.json: the images that this module has put into the folder.

    Args:
        studies: folder of the images.
        images: name -> state.
        complete: labels of earlier versions have been copied.
    """

    studies: str
    images: dict[str, State] = field(default_factory=dict)
    complete: bool = False

    @classmethod
    def read(cls, folder: Path) -> OwnFiles | None:
        """Read the file of a folder. None: no file.

        Raises:
            UsageError: the file is damaged.
        """
        path = folder / OWN
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            images = {_checked(name): state and _pair(state) for name, state in content["images"].items()}
            return cls(str(content["studies"]), images, content["complete"] is True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(
                f"{path} is damaged ({error}), but tells which files here are yours. Choose a new --labels, and copy "
                f"{folder / LABELS} there after the first start"
            ) from error

    def write(self, folder: Path) -> None:
        """Write the file, before the links and copies that the file names."""
        write_json(folder / OWN, {"studies": self.studies, "images": self.images, "complete": self.complete})

    def has_made(self, path: Path) -> bool:
        """Find whether a file of the folder is the link or the copy that this module has made."""
        if path.name not in self.images:
            return False
        state = self.images[path.name]
        if state is None or path.is_symlink():
            return state is None and path.is_symlink()
        size, time = _state_of(path)
        return size == state[0] and abs(time - state[1]) <= COARSEST


def check_folder(folder: Path, studies: Path) -> None:
    """Refuse a folder in which files of the user could be lost or served. Nothing is written.

    Args:
        folder: for links and labels; may be absent.
        studies: the user's folder of images.

    Raises:
        UsageError: `folder` lies in `studies`, or holds files that this module has not made.

    Example:
        >>> check_folder(Path("images_labels"), Path("images"))
    """
    if folder == studies or studies in folder.parents:
        raise UsageError(
            f"--labels {folder} lies in the studies, where nothing is written; choose a folder beside the studies"
        )
    own = OwnFiles.read(folder)
    if own is None:
        found = _files_of(folder)
    else:  # images, which MONAI Label would serve. Other files disturb nobody
        entries = (path for path in sorted(folder.iterdir()) if path.name.lower().endswith(IMAGES))
        found = (path for path in entries if not own.has_made(path))
    names = [shown(path.relative_to(folder)) for path in islice(found, SHOWN + 1)]
    if names:
        more = ", ..." if len(names) > SHOWN else ""
        raise UsageError(
            f"--labels {folder} holds files that this command has not written: {', '.join(names[:SHOWN])}{more}; "
            f"{'choose a new folder' if own is None else 'move them to another folder'}"
        )


def prepare_studies(folder: Path, studies: Path, images: Iterable[Path]) -> list[str]:
    """Make or renew the server's folder. Lock the folder before.

    Args:
        folder: to write to; made if absent.
        studies: the user's folder of images. Nothing in it is changed.
        images: files of `studies` to serve.

    Returns:
        Notes for the user: labels taken over from an earlier version, labels made for other images.

    Raises:
        UsageError: as `check_folder`.

    Example:
        >>> Path("images").mkdir()
        >>> _ = Path("images/a.png").write_bytes(b"")
        >>> prepare_studies(Path("images_labels"), Path("images"), [Path("images/a.png")])
        []
        >>> Path("images_labels/a.png").samefile("images/a.png")
        True
    """
    check_folder(folder, studies)
    own = OwnFiles.read(folder) or OwnFiles(str(studies))
    notes = []
    if own.studies != str(studies) and Path(own.studies).is_dir():
        notes.append(
            f"WARNING: the labels in {folder} were made for the images in {own.studies}, and are used for images "
            f"of equal names in {studies}. For other images choose another --labels"
        )
    own.studies = str(studies)
    if not own.complete:
        own.write(folder)  # from now on, the folder is known as ours
        notes += _take_over(folder, studies)
        own.complete = True
    _renew_images(folder, own, {image.name: image.resolve() for image in images})
    return notes


def _take_over(folder: Path, studies: Path) -> list[str]:
    """Copy labels of earlier versions from the studies. Labels of an interrupted start are whole, and stay."""
    earlier = [path for path in (studies / LABELS).rglob("*") if path.is_file()]
    for path in [*earlier, *([studies / LIST] if earlier and (studies / LIST).is_file() else [])]:
        target = folder / path.relative_to(studies)
        if not target.exists():
            with replacing(target) as temporary:
                shutil.copy2(path, temporary)
    (folder / LABELS).mkdir(parents=True, exist_ok=True)
    if not earlier:
        return []
    return [f"{len(earlier)} labels of an earlier version copied from {studies / LABELS}; new labels go to {folder}"]


def _renew_images(folder: Path, own: OwnFiles, wanted: Mapping[str, Path]) -> None:
    """Link or copy the wanted images, and remove own links and copies of other images.

    Links and copies are removed before their names leave the file, and made after the file names them.
    """
    links = _can_link(folder)
    states = {name: None if links else _state_of(image) for name, image in wanted.items()}
    for name, state in own.images.items():
        path = folder / name
        kept = name in wanted and state == states[name] and (state is not None or path.resolve() == wanted[name])
        if not kept:
            path.unlink(missing_ok=True)
    own.images = states
    own.write(folder)
    for name, image in wanted.items():
        path = folder / name
        if os.path.lexists(path):
            continue
        if links:
            path.symlink_to(image)
        else:
            with replacing(path) as temporary:
                shutil.copy2(image, temporary)


def _can_link(folder: Path) -> bool:
    """Try a link. Windows needs a privilege, and some file systems have no links."""
    trial = temporary_path(folder / "link")
    try:
        os.symlink(folder, trial)
    except OSError:
        return False
    trial.unlink()
    return True


def _files_of(folder: Path) -> Iterator[Path]:
    """List the files of a folder and its subfolders, without locks and temporary files."""
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        for path in entry.rglob("*") if entry.is_dir() else [entry]:
            if not path.is_dir() and path.name != LOCK and not TEMPORARY.match(path.name):
                yield path


def _state_of(image: Path) -> tuple[int, int]:
    """Return size in bytes and time of the last change in nanoseconds, to find changed files."""
    found = image.stat()
    return found.st_size, found.st_mtime_ns


def _checked(name: str) -> str:
    """Return the name of an image of the folder. A path to another folder is an error."""
    if Path(name).name != name or not name.lower().endswith(IMAGES):
        raise ValueError(f"{name!r} is no image of the folder")
    return name


def _pair(state: Iterable[int]) -> tuple[int, int]:
    size, time = map(int, state)
    return size, time
