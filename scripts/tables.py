"""Rows of figures to and from CSV, figures to JSON; every file appears complete or not at all."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.atomic_files import replacing


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV.

    Args:
        path: the file, replaced atomically.
        rows: column name -> value; what is None or missing in a row stays empty.
        columns: which columns, in which order; None: every name, in order of appearance.
    """
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read what `write_csv` wrote; all values are strings."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, replacing the file atomically; NaN, which JSON lacks, becomes null."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def six_digits(value: float) -> float:
    """A measured number with the six digits that are worth reading; whole numbers stay whole."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
