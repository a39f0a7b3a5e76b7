"""What an evaluation found, image by image and on the whole, as CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.utils import string_list_all_gather

from scripts.engine_items import as_array, engine_items, source_of
from scripts.metrics import (
    confusion_matrix,
    dice_per_class,
    iou_per_class,
    nan_mean,
    pixel_error,
    split_target,
    to_class_map,
)
from scripts.tables import write_csv, write_json

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


class MetricsReport:
    """Write `metrics_per_image.csv` and `metrics.json` when an evaluation is over.

    Several processes put their images together and the first writes; an image that a sampler gave to two of them, to
    share evenly, counts once.

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
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.split = split
        self.image_key = image_key
        self.pred_key = pred_key
        self.label_key = label_key
        self.weight_key = weight_key
        self._found: list[tuple[str, np.ndarray]] = []

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.STARTED, self._reset)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        evaluator.add_event_handler(Events.COMPLETED, self._write)

    def _reset(self, _: Engine) -> None:
        self._found = []

    def _collect(self, evaluator: Engine) -> None:
        for item in engine_items(evaluator):
            label, weight = split_target(as_array(item[self.label_key]))
            if weight is None and self.weight_key in item:
                weight = as_array(item[self.weight_key])[0]
            pred = to_class_map(as_array(item[self.pred_key]))
            name = source_of(item, self.image_key) or f"image {len(self._found)} of process {idist.get_rank()}"
            try:
                self._found.append((name, confusion_matrix(pred, label, len(self.class_names), weight)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def _write(self, _: Engine) -> None:
        found = _gathered(self._found)
        if idist.get_rank() != 0:
            return
        k = len(self.class_names)
        confusions = np.array([confusion for _, confusion in found], dtype=np.int64).reshape(-1, k, k)
        rows = [
            {"image": name, "annotated_pixels": int(c.sum()), **_rounded(measure(c, self.class_names))}
            for name, c in zip(_short_names([name for name, _ in found]), confusions, strict=True)
        ]
        columns = ["image", "annotated_pixels", *measure(np.zeros((k, k), int), self.class_names)]
        write_csv(self.output_dir / "metrics_per_image.csv", rows, columns)
        write_json(self.output_dir / "metrics.json", summarise(confusions, self.class_names, self.split))


def _gathered(found: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """The images of all processes, each once, by name; on a single process just as they came."""
    if idist.get_world_size() == 1:
        return found
    lines = string_list_all_gather([json.dumps([name, c.tolist()]) for name, c in found], delimiter="\n")
    everything = dict(json.loads(line) for line in lines if line)  # a process without images sends an empty line
    return [(name, np.array(everything[name])) for name in sorted(everything)]


def _short_names(names: Sequence[str]) -> list[str]:
    """File names without folders, unless two would be equal."""
    short = [Path(name).name for name in names]
    return short if len(set(short)) == len(set(names)) else list(names)


def _rounded(values: dict[str, float]) -> dict[str, float | None]:
    """Six decimals; NaN as an empty cell."""
    return {name: None if value != value else round(value, 6) for name, value in values.items()}
