"""Data sets of the benchmarks: configurations, parts of the images, and figures of trainings and evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.data.datalist import find_pairs
from scripts.data.splits import save_split, without_ending
from scripts.handlers.history import read_history

VIEWS = (1, 8)
AP = "AP at IoU 0.5"
EM_METRICS = {
    "V_Rand": ("em_metrics.json", "v_rand", "score"),
    "V_Info": ("em_metrics.json", "v_info", "score"),
    "pixel error": ("em_metrics.json", "pixel_error", "error"),
}
CELL_METRICS = {
    "SEG": ("object_metrics.json", "seg"),
    "DET": ("object_metrics.json", "det"),
    "F1 at IoU 0.5": ("object_metrics.json", "instances", 0, "f1"),
}


@dataclass(frozen=True)
class DataSet:
    """A data set, its configuration, and its figures.

    Attributes:
        folder: folder of the data, below `--data`.
        config: overlay on `train.yaml`: its name in `configs`, or a path that ends in .yaml.
        metric: of the curves, a column of `history.csv`.
        metrics: figures of the table: name -> file and keys in the reports of an evaluation.
    """

    folder: str
    config: str
    metric: str
    metrics: Mapping[str, tuple[str | int, ...]]


@dataclass(frozen=True)
class Task(DataSet):
    """A data set with three parts: training images, images for the choice of the weights, measured images.

    Attributes:
        shares: shares of the second and the third part.
        neighbours: whether neighbouring images resemble each other: the parts are then blocks.
    """

    shares: tuple[float, float]
    neighbours: bool


EM = DataSet("isbi2012", "data_isbi2012", "val_v_rand", EM_METRICS)
HELA = DataSet("DIC-C2DH-HeLa", "data_dic_hela", "val_seg", CELL_METRICS)
U373 = DataSet("PhC-C2DH-U373", "data_phc_u373", "val_seg", CELL_METRICS)
PARTS = 2018  # seed of the parts of all published figures
TASKS = {
    "em": Task(**vars(EM), shares=(0.12, 0.2), neighbours=True),
    "nuclei": Task("DSB2018-fluo", "data_nuclei", "val_instance_f1", CELL_METRICS, (0.1, 0.1), neighbours=False),
}


def write_parts(task: Task, dataset: Path, out: Path, seed: int = PARTS) -> tuple[Path, Path]:
    """Write the splits of the training and of the measurement.

    Args:
        task: data set with three parts.
        dataset: folder of the data.
        out: folder for `training.json` and `measured.json`.
        seed: of the parts, for images without similar neighbours.

    Returns:
        both files. The second names the measured images as validation.

    Raises:
        FileNotFoundError: images or labels are missing.
    """
    items = find_pairs(str(dataset))
    order: np.ndarray = np.arange(len(items))
    if not task.neighbours:
        order = np.random.RandomState(seed).permutation(order)
    choose, measure = (max(1, round(share * len(items))) for share in task.shares)
    train, chosen, measured = np.split(order, [len(items) - choose - measure, len(items) - measure])
    rule = {"how": "benchmarks.recipes", "seed": seed}  # as it was: finished trainings know the files by checksum
    return save_parts(items, (train, chosen, measured), out, rule)


def save_parts(
    items: Sequence[dict[str, Any]], parts: Sequence[Iterable[int]], out: Path, rule: dict[str, Any]
) -> tuple[Path, Path]:
    """Write the splits of the training and of the measurement, from the numbers of the items.

    Args:
        items: result of `find_pairs`.
        parts: numbers of the training, choosing and measured items.
        out: folder for `training.json` and `measured.json`.
        rule: a note for the reader of the files.

    Returns:
        both files. The second names the measured items as validation.

    Example:
        >>> items = [{"image": f"{k}.png"} for k in range(6)]
        >>> _, measured = save_parts(items, (range(4), [4], [5]), Path(), {"how": "by hand"})
        >>> json.loads(measured.read_text())["validation"]
        ['5.png']
    """
    train, *others = ([items[k] for k in sorted(part)] for part in parts)
    files = out / "training.json", out / "measured.json"
    for file, held in zip(files, others, strict=True):
        save_split(file, {"training": train, "validation": held}, list(items), rule)
    return files


def course(history: Path) -> dict[str, Any]:
    """Read steps, epochs, seconds in steps and milliseconds a step from `history.csv`."""
    rows = read_history(history)
    steps, seconds = int(rows[-1]["iteration"] or 0), sum(row["seconds"] or 0.0 for row in rows)
    return {"steps": steps, "epochs": len(rows), "step_seconds": round(seconds, 1), "ms_a_step": 1e3 * seconds / steps}


def figures(folder: Path, metrics: Mapping[str, tuple[str | int, ...]]) -> dict[str, float | None]:
    """Read figures from the reports of an evaluation.

    Args:
        folder: folder of the reports.
        metrics: name -> file and keys of a figure.

    Raises:
        FileNotFoundError: a report is missing.

    Example:
        >>> _ = Path("object_metrics.json").write_text('{"seg": 0.9, "det": null}')
        >>> figures(Path(), {"SEG": ("object_metrics.json", "seg")})
        {'SEG': 0.9}
    """
    found: dict[str, float | None] = {}
    for name, (file, *keys) in metrics.items():
        value: Any = json.loads((folder / str(file)).read_text(encoding="utf-8"))
        for key in keys:
            value = value[key]
        found[name] = value
    return found


def with_ap(found: Mapping[str, float | None]) -> dict[str, float | None]:
    """Add the average precision as StarDist defines it, TP / (TP + FP + FN), from F1.

    Example:
        >>> with_ap({"F1 at IoU 0.5": 0.8})
        {'F1 at IoU 0.5': 0.8, 'AP at IoU 0.5': 0.6666666666666667}
    """
    f1 = found.get("F1 at IoU 0.5")
    return {**found, **({} if f1 is None else {AP: f1 / (2 - f1)})}


def protocol(trained: Iterable[str], chose: Iterable[str], measured: Iterable[str]) -> str:
    """Write the numbers of images that trained, chose and are measured, and whether figures are optimistic.

    Args:
        trained: names of the training images.
        chose: names of the images for the choice of the weights.
        measured: names of the measured images. Without names, no figure is claimed.

    Raises:
        ValueError: a measured image has trained.

    Example:
        >>> protocol(["00.png", "01.png"], ["02.png"], ["02.png"])
        '2 images train, 1 chooses the weights and is measured: the figures are optimistic'
        >>> protocol(["00.png", "01.png"], ["00.png", "01.png"], [])
        '2 images train, the same images choose the weights, and none is measured: no figure is claimed'
    """
    trained, chose, measured = ({without_ending(name) for name in part} for part in (trained, chose, measured))
    count, many = len(trained), len(measured)
    if both := trained & measured:
        raise ValueError(f"{sorted(both)[:3]} have trained the weights and would be measured. Measure other images")
    if not measured:
        choose = "the same images" if chose == trained else len(chose)
        return f"{count} images train, {choose} choose the weights, and none is measured: no figure is claimed"
    if chose == measured:
        rest = "1 chooses the weights and is" if many == 1 else f"{many} choose the weights and are"
        return f"{count} images train, {rest} measured: the figures are optimistic"
    if common := chose & measured:
        others = f"{many} are measured. {len(common)} of these chose: the figures are optimistic"
    else:
        others = f"{many} others are measured"
    return f"{count} images train and {len(chose)} choose the weights, {others}"
