"""What an evaluation found, image by image and on the whole, as CSV and JSON."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.utils import string_list_all_gather

from scripts.data.items import source_of
from scripts.engines import engine_items
from scripts.io.arrays import as_array
from scripts.io.files import write_csv, write_json
from scripts.metrics.pixels import (
    confusion_matrix,
    dice_per_class,
    iou_per_class,
    nan_mean,
    pixel_error,
    split_target,
    to_class_map,
)

AVERAGING = (
    "mean: of the values of the images, leaving out those where a class is in neither prediction nor truth; "
    "mean_dice, mean_iou: of the classes within an image first; pooled: of all pixels of all images together; "
    "null: undefined everywhere"
)


def measure(confusion: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """All measures of a confusion matrix (K, K) by name: `pixel_error`, `mean_dice`, `mean_iou`, `dice_<class>`, ..."""
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
    """The content of the JSON file.

    Args:
        confusions: (N, K, K), a matrix per image, rows true, columns predicted.
        class_names: names of the classes 0 .. K - 1.
        split: which data these are, e.g. "validation".
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
    """Measure every image of an evaluation, and write files when it is over; subclasses say what.

    Several processes put their images together and the first writes; an image that a sampler gave to two of them, to
    share evenly, counts once.

    Args:
        output_dir: where the files are written.
        split: which data these are, for the reader of the files.
        image_key: whose metadata tell the file name.
    """

    def __init__(self, output_dir: str | Path, split: str, image_key: str = "image") -> None:
        self.output_dir = Path(output_dir)
        self.split = split
        self.image_key = image_key
        self._found: list[tuple[str, Any]] = []

    @abstractmethod
    def measure_image(self, item: Mapping[str, Any]) -> Any:
        """What is found on an image, as nested lists and dictionaries of numbers, since it may travel as JSON."""

    @abstractmethod
    def write(self, names: Sequence[str], found: Sequence[Any]) -> None:
        """Write the files, given the name of each image and what `measure_image` found on it."""

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.STARTED, self._reset)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        evaluator.add_event_handler(Events.COMPLETED, self._finish)

    def _reset(self, _: Engine) -> None:
        self._found = []

    def _collect(self, evaluator: Engine) -> None:
        for item in engine_items(evaluator):
            name = source_of(item, self.image_key) or f"image {len(self._found)} of process {idist.get_rank()}"
            try:
                self._found.append((name, self.measure_image(item)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def _finish(self, _: Engine) -> None:
        found = _gathered(self._found)
        if idist.get_rank() == 0:
            self.write(_short_names([name for name, _ in found]), [measured for _, measured in found])


class MetricsReport(ImageReport):
    """Write `metrics_per_image.csv` and `metrics.json` when an evaluation is over.

    Args:
        output_dir: where the two files are written.
        class_names: names of the classes 0 .. K - 1.
        split: which data these are, for the reader of the files.
        image_key: whose metadata tell the file name.
        pred_key: class map (1, H, W) or scores (K, H, W).
        label_key: class map (1, H, W), or (2, H, W) with the weight map stacked on it; pixels that are negative or of
            weight 0 are not counted.
        weight_key: weight map (1, H, W); may be missing.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        split: str = "test",
        image_key: str = "image",
        pred_key: str = "pred",
        label_key: str = "label",
        weight_key: str = "weight",
    ) -> None:
        super().__init__(output_dir, split, image_key)
        self.class_names = list(class_names)
        self.pred_key = pred_key
        self.label_key = label_key
        self.weight_key = weight_key

    def measure_image(self, item: Mapping[str, Any]) -> list[list[int]]:
        """The confusion matrix."""
        label, weight = split_target(as_array(item[self.label_key]))
        if weight is None and self.weight_key in item:
            weight = as_array(item[self.weight_key])[0]
        pred = to_class_map(as_array(item[self.pred_key]))
        return confusion_matrix(pred, label, len(self.class_names), weight).tolist()

    def write(self, names: Sequence[str], found: Sequence[Any]) -> None:
        """A row per image, and the means."""
        k = len(self.class_names)
        confusions = np.array(found, dtype=np.int64).reshape(-1, k, k)
        rows = [
            {"image": name, "annotated_pixels": int(c.sum()), **rounded(measure(c, self.class_names))}
            for name, c in zip(names, confusions, strict=True)
        ]
        columns = ["image", "annotated_pixels", *measure(np.zeros((k, k), int), self.class_names)]
        write_csv(self.output_dir / "metrics_per_image.csv", rows, columns)
        write_json(self.output_dir / "metrics.json", summarise(confusions, self.class_names, self.split))


def lowest(names: Sequence[str], scores: Sequence[float], measured: str, count: int = 5) -> list[dict[str, Any]]:
    """The images of the lowest scores, ascending, to be looked at; those without a score (NaN) are left out.

    Example:
        >>> lowest(["a", "b", "c"], [0.9, float("nan"), 0.5], "seg")
        [{'image': 'c', 'seg': 0.5}, {'image': 'a', 'seg': 0.9}]
    """
    known = [(float(score), name) for name, score in zip(names, scores, strict=True) if score == score]
    return [{"image": name, measured: score} for score, name in sorted(known)[:count]]


def rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    """Cells of a table: six decimals; NaN as an empty cell."""
    return {name: None if value != value else round(value, 6) for name, value in values.items()}


def _gathered(found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The images of all processes, each once, by name; on a single process just as they came."""
    if idist.get_world_size() == 1:
        return found
    lines = string_list_all_gather([json.dumps(named) for named in found], delimiter="\n")
    everything = dict(json.loads(line) for line in lines if line)  # a process without images sends an empty line
    return [(name, everything[name]) for name in sorted(everything)]


def _short_names(names: Sequence[str]) -> list[str]:
    """File names without folders, unless two would be equal."""
    short = [Path(name).name for name in names]
    return short if len(set(short)) == len(set(names)) else list(names)
