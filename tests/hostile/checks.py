"""Read back what the program wrote, with other programs' libraries."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # line ends, tabs and returns of progress bars are no attack


def broken_files(folder: Path) -> list[str]:
    """Name every visible file that cannot be read as a whole."""
    broken = []
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            read(path)
        except FileNotFoundError:  # moved in the meantime
            continue
        except Exception as error:
            broken.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    return broken


def read(path: Path) -> Any:
    """Read a file by its suffix; None for other kinds of files."""
    match path.suffix:
        case ".pt":
            return torch.load(path, map_location="cpu", weights_only=True)
        case ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        case ".csv":
            return table(path)
        case ".png":
            with Image.open(path) as image:
                return np.asarray(image)
        case ".tif":
            return tifffile.imread(path)
    return None


def table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file; every row must have all columns."""
    content = path.read_bytes().decode()
    assert content.endswith("\n"), f"{path.name} ends within a row: {content[-40:]!r}"
    head, *rows = list(csv.reader(content.splitlines()))
    short = [row for row in rows if len(row) != len(head)]
    assert not short, f"{path.name} has rows of {len(head)} columns, and {short[0]}"
    return [dict(zip(head, row, strict=True)) for row in rows]


def leftovers(folder: Path) -> list[str]:
    """List hidden files, which are temporary."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.is_file())


def contents(folder: Path) -> dict[str, str]:
    """Map each file to its checksum."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def best(folder: Path) -> float:
    """Get the validation score of a folder's best weights; -1 without weights."""
    path = folder / "model.json"
    found = json.loads(path.read_text())["training"]["best"] if path.exists() else None
    return -1.0 if found is None else float(found)
