"""Read what a run has left in its folder: a training, an evaluation, or a segmented folder of images.

Damaged files end no report: they are named in `Run.problems`, and their part of the page is left out.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..data.datalist import find_images, find_pairs, natural_order
from ..data.items import paths_in
from ..handlers.history import read_history
from ..handlers.run_file import RUN, is_run_file
from ..io.files import read_csv
from ..io.names import ResultNames, shown, split_address
from ..io.record import RECORD
from ..settings import ModelSettings, read_settings
from .contents import check_content

T = TypeVar("T")
Row = dict[str, float | None]
Item = Mapping[str, Any]

SIGNS = {  # kind of a run: files of which one is enough
    "training": ("history.csv", "training_state.pt"),
    "evaluation": ("metrics.json", "metrics_per_image.csv", "metrics_per_image.unfinished.csv"),
    "segmentation": (RECORD, "objects.csv", "classes.csv"),
}
TABLES = ("objects_per_image", "em_metrics_per_slice", "metrics_per_image")  # of an evaluation
PROGRAMS = (".ts", ".pt2")  # exported networks that hold code: run.json may come from elsewhere
KEY_COLUMNS = {  # key metric: column in the tables of an evaluation
    "seg": "seg",
    "instance_f1": "f1_0.5",
    "v_rand": "v_rand_f",
    "v_info": "v_info_f",
    "mean_dice": "mean_dice",
    "mean_iou": "mean_iou",
}


@dataclass(frozen=True)
class Run:
    """The files of a run.

    Args:
        folder: of the run.
        kinds: "training", "evaluation", "segmentation"; several if several runs share the folder.
        history: rows of `history.csv`; empty cells are None.
        settings: of the weights: `model.json` of the folder, or of the weights that the run used. None: none found.
        weights: the file of weights, if the file exists. None: none found.
        record: content of `run.json`; {}: an earlier version wrote none.
        metrics, objects, membranes: content of `metrics.json`, `object_metrics.json` and `em_metrics.json`; {}: none.
        table: image -> measure -> value, of all tables with a row for each image.
        areas: image -> areas in pixels of the objects in `objects.csv`.
        finished: names of the images with complete results (`results.jsonl`), in order.
        split: content of `split.json`; {}: none.
        problems: a sentence for each file that could not be read.
    """

    folder: Path
    kinds: tuple[str, ...]
    history: Sequence[Row] = ()
    settings: ModelSettings | None = None
    weights: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    objects: Mapping[str, Any] = field(default_factory=dict)
    membranes: Mapping[str, Any] = field(default_factory=dict)
    table: Mapping[str, Row] = field(default_factory=dict)
    areas: Mapping[str, Sequence[float]] = field(default_factory=dict)
    finished: Sequence[str] = ()
    split: Mapping[str, Any] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def is_in_place(self) -> bool:
        """Whether `run.json` was written in this folder. Else the record may come from elsewhere."""
        return is_in_place(self.folder, self.record)

    @property
    def key_metric(self) -> str:
        """Name of the key metric, as in `scripts.metrics.key_metric`."""
        return "mean_dice" if self.settings is None else self.settings.key_metric

    @property
    def key_column(self) -> str | None:
        """Column of `table` for the key metric, or the best that the table has. None: no table."""
        known = {name for row in self.table.values() for name in row}
        own = "" if self.settings is None else KEY_COLUMNS.get(self.settings.key_metric, "")
        wanted = [own, "f1_0.5", "v_rand_f", "mean_dice"]
        return next((name for name in wanted if name in known), None)


class NoRunError(ValueError):
    """A folder holds neither a training, an evaluation nor a segmentation."""


def read_run(folder: str | Path) -> Run:
    """Read the folder of a run.

    Args:
        folder: of a training, an evaluation or a segmentation, finished or not.

    Raises:
        NoRunError: the folder holds none of the three, or does not exist. The message lists what was found.

    Example:
        >>> from scripts.io import write_csv
        >>> write_csv("out/history.csv", [{"epoch": 1, "loss": 0.5}])
        >>> read_run("out").kinds
        ('training',)
    """
    folder = Path(folder)
    kinds = tuple(kind for kind, names in SIGNS.items() if any((folder / name).is_file() for name in names))
    if not kinds:
        raise NoRunError(_what_is_there(folder))
    reader = _Reader(folder)
    record = reader.json(RUN) if is_run_file(folder / RUN) else {}
    weights = _weights(folder, record)
    settings = reader.tried("model.json", lambda: _settings(weights, folder), None)
    nothing: list[Row] = []
    history = reader.tried("history.csv", lambda: _history(folder / "history.csv"), nothing)
    return Run(
        folder,
        kinds,
        history,
        settings,
        weights,
        record,
        metrics=reader.json("metrics.json"),
        objects=reader.json("object_metrics.json"),
        membranes=reader.json("em_metrics.json"),
        table=_tables(reader) if "evaluation" in kinds else {},
        areas=reader.tried("objects.csv", lambda: _areas(folder / "objects.csv"), {}),
        finished=reader.tried(RECORD, lambda: _finished(folder / RECORD), []),
        split=reader.json("split.json"),
        problems=tuple(reader.problems),
    )


class _Reader:
    """Read files that may be missing or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []

    def tried(self, name: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except FileNotFoundError:
            return otherwise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            self.problems.append(f"{name} could not be read, and its part of the page is left out ({reason}).")
            return otherwise

    def json(self, name: str) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            return check_content(name, json.loads((self.folder / name).read_text(encoding="utf-8")))

        return self.tried(name, read, {})


def is_in_place(folder: Path, record: Mapping[str, Any]) -> bool:
    """Tell whether the content of a `run.json` was written in this folder.

    Example:
        >>> is_in_place(Path("out"), {"folder": "/of/another/machine"})
        False
    """
    written = record.get("folder")
    return written is not None and os.path.realpath(written) == os.path.realpath(folder)


def _what_is_there(folder: Path) -> str:
    expected = "expected the folder of a training, an evaluation or a segmentation"
    if not folder.exists():
        return f"{shown(folder)} does not exist; {expected}"
    if not folder.is_dir():
        return f"{shown(folder)} is a file; {expected}"
    entries = sorted(folder.iterdir(), key=lambda entry: natural_order(entry.name))
    names = [entry.name + ("/" if entry.is_dir() else "") for entry in entries]
    below = [
        entry.name
        for entry in entries
        if entry.is_dir() and any((entry / sign).is_file() for signs in SIGNS.values() for sign in signs)
    ]
    if below:
        return f"{shown(folder)} itself is no run, but has {', '.join(map(shown, below[:5]))}: report one of these"
    listed = ", ".join(map(shown, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    signs = "history.csv (training), metrics.json (evaluation) or results.jsonl (segmentation)"
    return f"{shown(folder)} holds {listed or 'nothing'}; {expected}, with {signs}"


def _weights(folder: Path, record: Mapping[str, Any]) -> Path | None:
    """Find the weights of a training in its folder, else the weights that the run has used.

    A record from elsewhere may name a file that has other weights here.
    """
    used = record.get("weights") if is_in_place(folder, record) else None
    named = [folder / "model.pt", Path(str(used or ""))]
    return next((path for path in named if path.is_file() and path.suffix.lower() not in PROGRAMS), None)


def _settings(weights: Path | None, folder: Path) -> ModelSettings | None:
    if weights is not None:
        return read_settings(weights)
    return read_settings(folder / "model.pt") if (folder / "model.json").is_file() else None


def _history(path: Path) -> list[Row]:
    rows = read_history(path)
    if rows and "epoch" not in rows[0]:
        raise ValueError("expected a column epoch")
    return [{name: _finite(value) for name, value in row.items()} for row in rows if row.get("epoch") is not None]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _tables(reader: _Reader) -> dict[str, Row]:
    """Join the tables of an evaluation by image. Tables of an unfinished run count, too."""
    joined: dict[str, Row] = {}
    for name in TABLES:
        for file in (f"{name}.csv", f"{name}.unfinished.csv"):
            rows: list[dict[str, str]] = reader.tried(file, partial(read_csv, reader.folder / file), [])
            for row in rows:
                image = _named(row)
                values = {column: _number(cell) for column, cell in row.items() if column not in ("image", None)}
                if name.startswith("em_"):  # other measures of this name than in `metrics_per_image.csv`
                    values["em_pixel_error"] = values.pop("pixel_error", None)
                joined[image] = joined.get(image, {}) | values
            if rows:
                break
    return joined


def _named(row: Mapping[str, str]) -> str:
    """Name the image of a row. Tables write ' before a name that a spreadsheet would run as a formula."""
    name = row["image"]
    return name[1:] if name[:1] == "'" and name[1:2] in "=+-@" else name


def _number(cell: str | None) -> float | None:
    try:
        return _finite(float(cell)) if cell else None
    except ValueError:
        return None


def _areas(path: Path) -> dict[str, list[float]]:
    areas: dict[str, list[float]] = {}
    for row in read_csv(path):
        areas.setdefault(_named(row), []).append(float(row["area_px"]))
    return areas


def _finished(path: Path) -> list[str]:
    """List the images with complete results, a line each. A line cut by a kill counts as not written."""
    names = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        entry = check_content(RECORD, content)
        first, last = (entry.get("pages") or [None, None])[:2]
        names += (
            [entry["image"]]
            if None in (first, last)
            else [f"{entry['image']}#page={k}" for k in range(first, last + 1)]
        )
    return names


def images_of(run: Run, data: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Find the images of a run, and their labels.

    Args:
        run: from `read_run`.
        data: folder of the images, or of the data set. None: as recorded in `run.json`.

    Returns:
        name of the image in the tables -> {"image": address, "label": address, "markers": address}; the last two may
        be missing. An address is a list for images with a file for each channel. For a training: the validation images.

    Raises:
        FileNotFoundError, ValueError: `data` holds no images, as `scripts.data.find_pairs`.

    A `run.json` from elsewhere could name any image of this computer. Images are then read below `data` alone.

    Example:
        >>> images_of(Run(Path("out"), ("training",)))
        {}
    """
    items = _recorded(run, data) or ([] if data is None else _found(run, data))
    if run.kinds == ("segmentation",):
        addresses = [next(paths_in([item["image"]])) for item in items]
        names = ResultNames(addresses)
        return {names.in_table(address): item for address, item in zip(addresses, items, strict=True)}
    addresses = [next(paths_in([item["image"]])) for item in items]
    short = [Path(address).name for address in addresses]
    return dict(zip(short if len(set(short)) == len(set(addresses)) else addresses, items, strict=True))


def _recorded(run: Run, data: str | Path | None) -> list[dict[str, Any]]:
    """List the items of `run.json` whose image exists, below `data` or the recorded folder."""
    if data is None and not run.is_in_place:
        return []
    root = str(run.record.get("data", "")) if data is None else os.path.abspath(str(data))
    if os.path.isfile(root):
        root = os.path.dirname(root)
    items: list[dict[str, Any]] = []
    for item in run.record.get("items", []):
        placed = {key: _placed(value, root) for key, value in item.items()}
        kept = {
            key: value for key, value in placed.items() if _exists(value) and (run.is_in_place or _below(value, root))
        }
        if "image" in kept:
            items.append(kept)
    return items


def _placed(value: Any, root: str) -> Any:
    return [_placed(part, root) for part in value] if isinstance(value, list) else os.path.join(root, str(value))


def _below(value: Any, root: str) -> bool:
    return all(Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root)) for path in paths_in([value]))


def _exists(value: Any) -> bool:
    try:
        return all(split_address(path)[0].is_file() for path in paths_in([value]))
    except OSError:  # a name that is too long
        return False


def _found(run: Run, data: str | Path) -> list[dict[str, Any]]:
    """List the images of a folder that the run has used, by name."""
    try:
        items = find_pairs(data) if run.kinds != ("segmentation",) else find_images(data)
    except FileNotFoundError:
        items = find_images(data)
    names = {Path(name).name for name in (*run.table, *run.finished)}
    if not names:
        names = {Path(str(name)).name for name in run.split.get("validation", [])}
    chosen = [item for item in items if Path(next(paths_in([item["image"]]))).name in names]
    return chosen if names else items
