"""What a bundle consists of: the files that travel, and the sizes that the places where it is published allow."""

from __future__ import annotations

import subprocess
from pathlib import Path

NAME = "original_unet_segmentation"  # the zoo's form, and MONAI Label takes the kind of task from it
FOLDERS = ("configs", "docs", "scripts")
WEIGHTS, LARGE_FILES, LICENSE = "models/model.pt", "large_files.yml", "LICENSE"
MEBIBYTE = 2**20
ZOO_LIMIT = 25 * MEBIBYTE  # the model zoo's contributing guide: no larger file, links in large_files.yml instead
OWN_LIMIT = 95 * MEBIBYTE  # hosts of repositories refuse files of 100
LEFT_OUT = ("__pycache__",)


def source_files(root: Path) -> list[str]:
    """Names of a bundle's files below its root, sorted.

    Args:
        root: a checkout, of which the files under version control count, or an unpacked bundle, of which all do.
    """
    names = _tracked(root)
    if names is None:
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        names = [path.as_posix() for path in found if not _is_hidden(path)]
    return sorted(names)


def travelling_files(root: Path) -> list[str]:
    """Those of the files that belong to the published bundle: configs, docs, scripts and the licence; weights apart."""
    return [name for name in source_files(root) if name == LICENSE or name.split("/")[0] in FOLDERS]


def _tracked(root: Path) -> list[str] | None:
    """Files under version control that exist; None where the folder is no checkout."""
    if not (root / ".git").exists():  # not a folder inside somebody else's checkout
        return None
    try:
        listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in LEFT_OUT for part in path.parts)
