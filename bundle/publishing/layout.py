"""The files of a published bundle, limits of their sizes, and the zip file."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

NAME = "original_unet_segmentation"  # MONAI Label reads the kind of task from the name
FOLDERS = ("configs", "scripts")
WEIGHTS, SETTINGS, LARGE_FILES = "models/model.pt", "models/model.json", "large_files.yml"
METADATA, LICENSE = "configs/metadata.json", "LICENSE"
CARD, DATA_LICENCE = "docs/README.md", "docs/data_license.txt"  # the other documents are about the repository
PICTURES = "docs/images/*_worst.png"  # of the card
MEBIBYTE = 2**20
ZOO_LIMIT = 25 * MEBIBYTE  # the zoo's contributing guide; larger files are linked in large_files.yml
OWN_LIMIT = 95 * MEBIBYTE  # repository hosts refuse files of 100 MiB
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in the zip format
UNIX, PLAIN_FILE = 3, 0o100644 << 16  # system and rights of an entry: the owner writes, all read


def source_files(root: Path) -> list[str]:
    """List a bundle's files as sorted paths relative to the root: in a checkout only files under version control.

    Example:
        >>> _ = Path("LICENSE").write_text("...")
        >>> source_files(Path("."))
        ['LICENSE']
    """
    names = _tracked(root)
    if names is None:
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        hidden = ("__pycache__", ".")
        names = [path.as_posix() for path in found if not any(part.startswith(hidden) for part in path.parts)]
    return sorted(names)


def travelling_files(root: Path) -> list[str]:
    """List the files to publish: configs, scripts, licence, model card with pictures, terms of the data.

    The weights are added later.

    Example:
        >>> for name in ("LICENSE", "README.md"):
        ...     _ = Path(name).write_text("...")
        >>> travelling_files(Path("."))
        ['LICENSE']
    """
    single = (LICENSE, CARD, DATA_LICENCE)
    return [
        name
        for name in source_files(root)
        if name in single or name.split("/")[0] in FOLDERS or PurePosixPath(name).match(PICTURES)
    ]


def write_archive(path: Path, files: Mapping[str, Path | bytes]) -> None:
    """Write a zip file. The bytes depend only on names and contents: no times, no owners, sorted names.

    Files are stored without compression. Weights hardly shrink, and versions of zlib compress differently.

    Example:
        >>> write_archive(Path("a.zip"), {"b.txt": b"text"})
        >>> zipfile.ZipFile("a.zip").namelist()
        ['b.txt']
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=EPOCH)
            entry.create_system, entry.external_attr = UNIX, PLAIN_FILE
            content = files[name]
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())


def _tracked(root: Path) -> list[str] | None:
    """List existing files under version control. None: the folder is no checkout."""
    if not (root / ".git").exists():  # a bundle unpacked inside another checkout is no checkout
        return None
    try:
        listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]
