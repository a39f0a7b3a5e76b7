"""Report of an evaluation by the Cell Tracking Challenge and instance scores: per object, per image and of all."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine

from ..data.annotation import annotated_pixels
from ..io.arrays import as_array
from ..io.files import write_csv, write_json
from ..metrics.mistakes import DEFINITIONS as MEANINGS
from ..metrics.mistakes import mistakes_of
from ..metrics.objects import (
    THRESHOLDS,
    det_counts,
    det_from_counts,
    instance_counts_of,
    instance_scores_from_counts,
    seg_from_counts,
    seg_jaccards_of,
)
from ..metrics.overlap import overlaps
from ..plot.evaluation import jaccard_figure
from ..plot.panels import save_figure
from .reports import ImageReport, lowest, rounded

logger = logging.getLogger(__name__)

DEFINITIONS = {
    "seg": "mean over reference objects of the Jaccard index with the one result object that covers more than half of "
    "them, 0 where none does; doi 10.1093/bioinformatics/btu080",
    "det": "1 - cost of the splits (5), misses (10) and false objects (1) at the markers, of the cost of an empty "
    "result; doi 10.1371/journal.pone.0144959",
    "instances": "objects match where IoU > threshold: precision TP / (TP + FP), recall TP / (TP + FN), f1 "
    "2 TP / (2 TP + FP + FN), mean_matched_iou over the matches; arXiv 1801.00868",
    **MEANINGS,
    "null": "undefined, such as det without markers",
}
AVERAGING = (
    "counts of all images are added up before they are divided, so that every object counts the same, whatever image "
    "it is in; these are not means of the values per image"
)
MISTAKES = tuple(MEANINGS)  # columns of their numbers, at an IoU of .5
COLUMNS = (
    *("reference_objects", "result_objects", *MISTAKES, "seg", "det"),
    *(f"{name}_{threshold}" for threshold in THRESHOLDS for name in ("precision", "recall", "f1")),
    f"mean_matched_iou_{THRESHOLDS[0]}",
)


def measure_frame(
    result: np.ndarray,
    reference: np.ndarray,
    markers: np.ndarray | None = None,
    valid: np.ndarray | None = None,
) -> dict[str, Any]:
    """Measure what the scores of an image and of its data set need.

    Args:
        result: label image (H, W), 0 = background.
        reference: label image (H, W), as in the file, negative = not annotated.
        markers: label image (H, W), one marker per cell. None: no DET.
        valid: mask or weight map (H, W), 0 = not annotated, for precision, recall and F1.

    Returns:
        Lists: `labels`, `areas` (pixels) and `jaccards` (R,) of the reference objects. `instances` (T, 4) and `det`
        (4,), the counts of `scripts.metrics.objects`. `results`, the number of result objects. `mistakes`, numbers by
        name. `det` is None without markers.

    Raises:
        ValueError: the shapes differ, or a value is no object number.

    Example:
        >>> measured = measure_frame(np.array([[1, 1, 1, 0]]), np.array([[4, 4, 0, 9]]))
        >>> measured["labels"], [round(jaccard, 3) for jaccard in measured["jaccards"]]
        ([4, 9], [0.667, 0.0])
    """
    whole = overlaps(result, reference)
    annotated = annotated_pixels(reference, valid)
    known = whole if annotated.all() else overlaps(result, reference, annotated)
    mistakes = mistakes_of(known)
    return {
        "labels": whole.reference_ids.tolist(),
        "areas": whole.reference_areas.tolist(),
        "jaccards": seg_jaccards_of(whole).tolist(),
        "results": len(whole.result_ids),
        "instances": instance_counts_of(known).tolist(),
        "mistakes": {name: getattr(mistakes, name) for name in MISTAKES},
        "det": None if markers is None else det_counts(result, markers).tolist(),
    }


def frame_row(measured: Mapping[str, Any]) -> dict[str, float]:
    """Compute the scores of an image from `measure_frame`, by the names in `COLUMNS`. NaN: undefined.

    Example:
        >>> row = frame_row(measure_frame(np.array([[1, 1, 1, 0]]), np.array([[4, 4, 0, 9]])))
        >>> row["seg"], row["recall_0.6"]
        (0.3333333333333333, 0.5)
    """
    instances = instance_scores_from_counts(np.array(measured["instances"]))
    detected = float("nan") if measured["det"] is None else float(det_from_counts(np.array(measured["det"])))
    row = {
        "reference_objects": len(measured["labels"]),
        "result_objects": measured["results"],
        **measured["mistakes"],
        "seg": _seg([measured]),
        "det": detected,
    }
    for k, threshold in enumerate(THRESHOLDS):
        row |= {f"{name}_{threshold}": float(instances[name][k]) for name in ("precision", "recall", "f1")}
    return row | {COLUMNS[-1]: float(instances["mean_matched_iou"][0])}


def summarise_frames(names: Sequence[str], frames: Sequence[Mapping[str, Any]], split: str) -> dict[str, Any]:
    """Put together the content of `object_metrics.json`.

    Args:
        names: of the images.
        frames: each from `measure_frame`.
        split: as in `ImageReport`.

    Example:
        >>> frame = measure_frame(np.array([[1, 1, 1, 0]]), np.array([[4, 4, 0, 9]]))
        >>> summarise_frames(["t000.tif"], [frame], "validation")["seg_missed"]
        1
    """
    marked = [frame["det"] for frame in frames if frame["det"] is not None]
    detections = np.array(marked, dtype=int).reshape(-1, 4).sum(axis=0)
    counts = np.array([frame["instances"] for frame in frames], float).reshape(-1, len(THRESHOLDS), 4).sum(axis=0)
    scores = instance_scores_from_counts(counts)
    jaccards = _jaccards(frames)
    return {
        "split": split,
        "images": len(frames),
        "reference_objects": len(jaccards),
        "result_objects": sum(frame["results"] for frame in frames),
        "images_with_markers": len(marked),
        "markers": int(detections[3]),
        "seg": _seg(frames),
        "seg_missed": int((jaccards == 0).sum()),
        "det": float(det_from_counts(detections)),
        "instances": [
            {
                "threshold": threshold,
                **{name: float(values[k]) for name, values in scores.items()},
                **{name: int(counts[k, n]) for n, name in enumerate(("matches", "false", "missed"))},
            }
            for k, threshold in enumerate(THRESHOLDS)
        ],
        "worst": lowest(names, [_seg([frame]) for frame in frames], "seg"),
        "averaging": AVERAGING,
        "definitions": DEFINITIONS,
    }


class ObjectReport(ImageReport):
    """Write the scores of all objects, images and reference objects at the end of an evaluation.

    The files are `objects_per_image.csv`, `objects_reference.csv` (worst first), `object_metrics.json` and
    `object_iou.png`.

    Each item needs two label images (1, H, W):

        pred_instances  predicted objects, from `scripts.transforms.InstancesFromScoresd`
        reference       label image as read from the file; negative pixels are not annotated

    DET also needs `markers` (1, H, W), a label image with a marker in every cell.

    Args:
        output_dir, split: as in `ImageReport`.
        valid_key: mask or weight map (1, H, W), 0 = not annotated, for precision, recall and F1. None: none.

    Example::

        val_handlers:
        - _target_: scripts.handlers.ObjectReport
          output_dir: evaluation
    """

    table = "objects_per_image"

    def __init__(self, output_dir: str | Path, valid_key: str | None = None, split: str = "validation") -> None:
        super().__init__(output_dir, split)
        self.valid_key = valid_key

    def measure_image(self, item: Mapping[str, Any], evaluator: Engine) -> dict[str, Any]:
        """Apply `measure_frame`."""
        missing = [key for key in ("pred_instances", "reference", self.valid_key) if key and key not in item]
        if missing:
            raise KeyError(f"{type(self).__name__}: no {', '.join(missing)} among {', '.join(sorted(item))}")
        result, reference = _label_image(item, "pred_instances"), _label_image(item, "reference")
        markers = _label_image(item, "markers") if "markers" in item else None
        valid = as_array(item[self.valid_key])[0] if self.valid_key else None
        return measure_frame(result, reference, markers, valid)

    def row(self, measured: Any) -> dict[str, Any]:
        """Give the scores of an image."""
        return rounded(frame_row(measured))

    def write(self, names: Sequence[str], found: Sequence[Any]) -> None:
        """Write a row per image, a row per reference object, the scores of all, and the histogram of objects."""
        named = list(zip(names, found, strict=True))
        rows = [{"image": name, **self.row(frame)} for name, frame in named]
        write_csv(self.output_dir / "objects_per_image.csv", rows, ["image", *COLUMNS])
        objects = [
            {"image": name, "label": label, "area": area, **rounded({"jaccard": jaccard})}
            for name, frame in named
            for label, area, jaccard in zip(frame["labels"], frame["areas"], frame["jaccards"], strict=True)
        ]
        objects.sort(key=lambda row: row["jaccard"])
        write_csv(self.output_dir / "objects_reference.csv", objects, ["image", "label", "area", "jaccard"])
        summary = summarise_frames(names, found, self.split)
        write_json(self.output_dir / "object_metrics.json", summary)
        loosest = summary["instances"][0]
        logger.info(
            "objects: F1 %.4f at an IoU of %g, SEG %.4f; %d of %d objects missed, %d false",
            *(loosest["f1"], loosest["threshold"], summary["seg"]),
            *(loosest["missed"], summary["reference_objects"], loosest["false"]),
        )
        images = f"{len(names)} image{'' if len(names) == 1 else 's'}, {self.split}"
        save_figure(jaccard_figure(_jaccards(found), title=images), self.output_dir / "object_iou.png")


def _label_image(item: Mapping[str, Any], key: str) -> np.ndarray:
    """Take a label image (H, W) out of an entry (1, H, W)."""
    labels = as_array(item[key])
    if labels.ndim != 3 or len(labels) != 1:
        raise ValueError(f"{key} must be a label image (1, H, W), got the shape {labels.shape}")
    return labels[0]


def _jaccards(frames: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """List the Jaccard indices of all reference objects, (R,)."""
    return np.array([jaccard for frame in frames for jaccard in frame["jaccards"]], float)


def _seg(frames: Sequence[Mapping[str, Any]]) -> float:
    """Compute SEG of all reference objects, in the same order of sums as `seg_score`."""
    counts = [(np.sum(frame["jaccards"]), len(frame["jaccards"])) for frame in frames]
    return float(seg_from_counts(np.array(counts, float).reshape(-1, 2).sum(axis=0)))
