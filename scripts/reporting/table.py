"""Make the table of all images of a run, worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ..data.datalist import natural_order
from ..io.names import shown
from ..metrics.mistakes import DEFINITIONS, Mistakes
from .cases import Cases
from .gather import Run
from .verdict import words

MOST_ROWS = 2000
COLUMNS = (  # of the tables of an evaluation, if present
    *("f1_0.5", "seg", "det", "v_rand_f", "v_info_f", "warping_error", "mean_dice", "mean_iou", "pixel_error"),
    *("reference_objects", "result_objects", *DEFINITIONS),
)
SCORES = ("f1_0.5", "seg", "v_rand_f", "v_info_f", "mean_dice", "mean_iou")
HEADINGS = {
    "reference_objects": "objects in truth",
    "result_objects": "objects found",
    "warping_error": "warping error",
}


def image_table(run: Run, cases: Cases) -> dict[str, Any] | None:
    """Make the rows of the table: of the evaluation, of the images measured for the page, or of the objects.

    Returns:
        `text`, `columns` and `rows` for the template; None without any figure of an image.

    Example:
        >>> from pathlib import Path
        >>> run = Run(Path("out"), ("evaluation",), table={"a": {"seg": 0.9}, "b": {"seg": 0.1}})
        >>> [row["name"] for row in image_table(run, Cases())["rows"]]
        ['b', 'a']
    """
    place = {case.name: k for k, case in enumerate(cases.cases)}
    rows: dict[str, Mapping[str, float | None]]
    if run.table:
        rows, text = dict(run.table), "Figures of the evaluation."
    elif any(each.scores for each in cases.measured.values()):
        rows = {
            name: {
                **{score: value if math.isfinite(value) else None for score, value in each.scores.items()},
                **({} if each.mistakes is None else _mistakes(each.mistakes)),
            }
            for name, each in cases.measured.items()
        }
        text = "Measured for this page, with the saved weights and their settings of objects."
    elif run.areas or run.finished:
        names = list(dict.fromkeys([*run.finished, *run.areas]))
        rows = {name: _of_areas(run.areas.get(name, ())) for name in names}
        text = "From objects.csv."
        uncertain = {name: each.uncertainty for name, each in cases.measured.items() if each.uncertainty is not None}
        rows |= {name: {"uncertainty": score, **rows[name]} for name, score in uncertain.items() if name in rows}
        if uncertain:
            text += " Uncertainty: the score of rank, change of the objects with the threshold, 0 for the same objects."
    else:
        return None
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    if run.table:
        columns = [name for name in COLUMNS if any(row.get(name) is not None for row in rows.values())]
    if "uncertainty" in columns:  # the first image may have none
        columns = list(dict.fromkeys(["uncertainty", *columns]))
    key = next((name for name in (run.key_column, *columns) if name in columns), None)
    if key is None:
        return None
    low_first = key in SCORES
    whole = {
        column
        for column in columns
        if column not in (*SCORES, "uncertainty") and all(_is_whole(row.get(column)) for row in rows.values())
    }
    ordered = sorted(rows, key=lambda name: (_order(rows[name].get(key), low_first), natural_order(name)))
    if len(ordered) > MOST_ROWS:
        text += f" The table has the first {MOST_ROWS} of {len(ordered)} images."
    direction = "ascending" if low_first else "descending"
    return {
        "text": text,
        "columns": [{"name": "image", "sorted": ""}]
        + [{"name": HEADINGS.get(name, words(name)), "sorted": direction if name == key else ""} for name in columns],
        "rows": [
            {
                "name": shown(name),
                "picture": place.get(name),
                "cells": [_cell(rows[name].get(column), column in whole) for column in columns],
            }
            for name in ordered[:MOST_ROWS]
        ],
    }


def _is_whole(value: float | None) -> bool:
    return value is None or float(value).is_integer()


def _order(value: float | None, low_first: bool) -> float:
    if value is None:
        return math.inf
    return value if low_first else -value


def _mistakes(mistakes: Mistakes) -> dict[str, float]:
    names = {"reference_objects": "truth", "result_objects": "found", **{name: name for name in DEFINITIONS}}
    return {column: float(getattr(mistakes, name)) for column, name in names.items()}


def _of_areas(areas: Sequence[float]) -> dict[str, float | None]:
    return {
        "objects": float(len(areas)),
        "median area (px)": median(areas) if areas else None,
        "total area (px)": sum(areas),
    }


def _cell(value: float | None, whole: bool) -> dict[str, str]:
    if value is None:
        return {"value": "", "text": "–"}
    decimals = 0 if whole else 3 if value < 10 else 1
    return {"value": f"{value:.6g}", "text": f"{value:.{decimals}f}"}
