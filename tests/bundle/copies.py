"""Copies of the bundle to break, to change or to pack."""

from __future__ import annotations

import shutil
from pathlib import Path

from bundle.publishing.layout import FOLDERS, LICENSE

ROOT = Path(__file__).resolve().parents[2]
OF_THE_REPOSITORY = ("pyproject.toml", "constraints.txt", "CHANGELOG.md")
IGNORED = shutil.ignore_patterns("__pycache__", "*.png")


def copy_of_bundle(target: Path) -> Path:
    """Copy the bundle and the files of the repository for `verify`, without PNG images."""
    for name in (*FOLDERS, "docs"):
        shutil.copytree(ROOT / name, target / name, ignore=IGNORED)
    for name in (LICENSE, *OF_THE_REPOSITORY):
        shutil.copy(ROOT / name, target / name)
    return target


def replace_in(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text, which must exist."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} has no {old!r}: update the test"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
