"""Reports of an evaluation as CSV and JSON: measures of every image, and of all images."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.utils import string_list_all_gather

from ..data.annotation import annotated_pixels
from ..data.datalist import natural_order
from ..data.items import source_of
from ..engines import engine_items
from ..io.arrays import as_array
from ..io.files import write_csv, write_json
from ..io.names import shown
from ..io.tables import GrowingCSV
from ..metrics.images import measure_once
from ..metrics.pixels import dice_per_class, image_confusion, iou_per_class, nan_mean, pixel_error

logger = logging.getLogger(__name__)

AVERAGING = (
    "mean: of the values of the images, leaving out those where a class is in neither prediction nor truth; "
    "mean_dice, mean_iou: of the classes within an image first; pooled: of all pixels of all images together; "
    "null: undefined everywhere"
)


def measure(confusion: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Compute all measures of a confusion matrix (K, K): `pixel_error`, `mean_dice`, `mean_iou`, `dice_<class>`, ...

    Example:
        >>> measure(np.array([[1, 1], [0, 2]]), ["background", "cell"])["dice_cell"]
        0.8
    """
    dice, iou = dice_per_class(confusion), iou_per_class(confusion)
    values = {
        "pixel_error": float(pixel_error(confusion)),
        "mean_dice": float(nan_mean(dice)),
        "mean_iou": float(nan_mean(iou)),
    }
    for measured, per_class in (("dice", dice), ("iou", iou)):
        for name, value in zip(class_names, per_class, strict=True):
            values[f"{measured}_{name.replace(' ', '_')}"] = float(value)
    return values


def summarise(confusions: np.ndarray, class_names: Sequence[str], split: str) -> dict[str, Any]:
    """Put together the content of `metrics.json`.

    Args:
        confusions: (N, K, K), a `scripts.metrics.confusion_matrix` per image.
        class_names: names of the classes 0 .. K - 1.
        split: as in `ImageReport`.

    Example:
        >>> found = summarise(np.array([[[2, 0], [0, 2]], [[1, 1], [0, 2]]]), ["background", "cell"], "test")
        >>> found["mean"]["pixel_error"], found["annotated_pixels"]
        (0.125, 8)
    """
    rows = [measure(confusion, class_names) for confusion in confusions]
    pooled = confusions.sum(axis=0)
    names = measure(pooled, class_names)
    return {
        "split": split,
        "images": len(rows),
        "annotated_pixels": int(pooled.sum()),
        "mean": {name: float(nan_mean(np.array([row[name] for row in rows]))) for name in names},
        "pooled": names,
        "confusion": {"rows": "true", "columns": "predicted", "classes": list(class_names), "pixels": pooled.tolist()},
        "averaging": AVERAGING,
    }


class ImageReport(ABC):
    """Measure every image of an evaluation, and write files at the end. Base class.

    The first of several processes writes the files, with the images of all processes. Samplers may repeat an image to
    give every process the same number. A repeated image counts once.

    Rows of `table` are written to `<table>.unfinished.csv` as images are measured, so that an interrupted evaluation
    keeps them. The file is removed at the end.

    Args:
        output_dir: folder of the files.
        split: name of the data, e.g. "validation", for the reader of the files.
    """

    table = ""  # name of the table with a row per image

    def __init__(self, output_dir: str | Path, split: str) -> None:
        self.output_dir = Path(output_dir)
        self.split = split
        self._rows: GrowingCSV | None = None
        self._found: list[tuple[str, Any]] = []

    @abstractmethod
    def measure_image(self, item: Mapping[str, Any], evaluator: Engine) -> Any:
        """Measure an image.

        Args:
            item: what was loaded and predicted, by key.
            evaluator: for `scripts.metrics.images.measure_once`.

        Returns:
            Nested lists and dictionaries of numbers, since processes exchange them as JSON.
        """

    @abstractmethod
    def write(self, names: Sequence[str], found: Sequence[Any]) -> None:
        """Write the files, given the name of each image and the result of `measure_image`."""

    def row(self, measured: Any) -> dict[str, Any]:
        """Give the row of an image for the table of an unfinished run. {}: no such table."""
        return {}

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.STARTED, self._reset)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        evaluator.add_event_handler(Events.COMPLETED, self._finish)

    def _reset(self, _: Engine) -> None:
        self._found = []
        rank = f".{idist.get_rank()}" if idist.get_world_size() > 1 else ""
        path = self.output_dir / f"{self.table}.unfinished{rank}.csv"
        self._rows = GrowingCSV(path) if self.table else None

    def _collect(self, evaluator: Engine) -> None:
        for item in engine_items(evaluator):
            name = source_of(item) or f"image {len(self._found)} of process {idist.get_rank()}"
            try:
                measured = self.measure_image(item, evaluator)
            except ValueError as error:
                raise ValueError(f"{shown(name)}: {error}") from error
            self._found.append((name, measured))
            if self._rows is not None:
                self._rows.add([{"image": Path(name).name, **self.row(measured)}])

    def _finish(self, _: Engine) -> None:
        found = _gathered(self._found)
        if idist.get_rank() == 0:
            self.write(_short_names([name for name, _ in found]), [measured for _, measured in found])
        if self._rows is not None:
            self._rows.path.unlink(missing_ok=True)


class MetricsReport(ImageReport):
    """Write `metrics_per_image.csv` and `metrics.json` at the end of an evaluation.

    It compares `pred`, a class map (1, H, W) or scores (K, H, W), with `label`: a class map (1, H, W), or class map and
    weight map (2, H, W). `weight`, a weight map (1, H, W), may be missing. Pixels of a negative class or of weight 0
    are not counted.

    Args:
        output_dir, split: as in `ImageReport`.
        class_names: names of the classes 0 .. K - 1.

    Example::

        val_handlers:
        - _target_: scripts.handlers.MetricsReport
          output_dir: evaluation
          class_names: [background, cell]
    """

    table = "metrics_per_image"

    def __init__(self, output_dir: str | Path, class_names: Sequence[str], split: str = "test") -> None:
        super().__init__(output_dir, split)
        self.class_names = list(class_names)

    def measure_image(self, item: Mapping[str, Any], evaluator: Engine) -> list[list[int]]:
        """Count the confusion matrix."""
        label = item["label"]
        if len(label) == 1 and "weight" in item:
            class_map, weight = as_array(label), as_array(item["weight"])
            if not np.array_equal(annotated_pixels(class_map, weight), annotated_pixels(class_map)):
                label = np.concatenate([class_map, weight])  # else the result is shared with the metrics
        confusion = measure_once(evaluator, image_confusion, item["pred"], label, len(self.class_names))
        return confusion.tolist()

    def row(self, measured: Any) -> dict[str, Any]:
        """Give the measures of an image."""
        confusion = np.array(measured, dtype=np.int64)
        return {"annotated_pixels": int(confusion.sum()), **rounded(measure(confusion, self.class_names))}

    def write(self, names: Sequence[str], found: Sequence[Any]) -> None:
        """Write a row per image, and the means."""
        k = len(self.class_names)
        confusions = np.array(found, dtype=np.int64).reshape(-1, k, k)
        rows = [{"image": name, **self.row(confusion)} for name, confusion in zip(names, confusions, strict=True)]
        columns = ["image", "annotated_pixels", *measure(np.zeros((k, k), int), self.class_names)]
        write_csv(self.output_dir / "metrics_per_image.csv", rows, columns)
        summary = summarise(confusions, self.class_names, self.split)
        write_json(self.output_dir / "metrics.json", summary)
        dice = [f"Dice of {name} {summary['mean'][f'dice_{name}']:.4f}" for name in self.class_names[1:]]
        logger.info(
            "pixels, %s: error %.4f, %s",
            f"mean of {len(names)} images" if len(names) != 1 else "1 image",
            summary["mean"]["pixel_error"],
            ", ".join(dice),
        )


def lowest(names: Sequence[str], scores: Sequence[float], measured: str) -> list[dict[str, Any]]:
    """List the five images with the lowest scores, ascending. Images without a score (NaN) are left out.

    Args:
        names: of the images.
        scores: of the images.
        measured: name of the score.

    Example:
        >>> lowest(["a", "b", "c"], [0.9, float("nan"), 0.5], "seg")
        [{'image': 'c', 'seg': 0.5}, {'image': 'a', 'seg': 0.9}]
    """
    known = [
        (float(score), natural_order(name), name) for name, score in zip(names, scores, strict=True) if score == score
    ]
    return [{"image": name, measured: score} for score, _, name in sorted(known)[:5]]


def rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    """Round the cells of a table to six decimals. NaN becomes None, an empty cell.

    Example:
        >>> rounded({"dice": 2 / 3, "iou": float("nan")})
        {'dice': 0.666667, 'iou': None}
    """
    return {name: None if value != value else round(value, 6) for name, value in values.items()}


def _gathered(found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Collect the images of all processes, each once, sorted by name. A single process keeps its order."""
    if idist.get_world_size() == 1:
        return found
    lines = string_list_all_gather([json.dumps(named) for named in found], delimiter="\n")
    everything = dict(json.loads(line) for line in lines if line)  # a process without images sends an empty line
    return [(name, everything[name]) for name in sorted(everything, key=natural_order)]


def _short_names(names: Sequence[str]) -> list[str]:
    """Give file names without folders, unless two would be equal."""
    short = [Path(name).name for name in names]
    return short if len(set(short)) == len(set(names)) else list(names)
