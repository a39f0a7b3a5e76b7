"""Report of an evaluation by the measures of the ISBI 2012 EM challenge: per slice, of all, and over thresholds."""

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
from ..metrics.images import measure_once
from ..metrics.membranes import (
    POOLED,
    THINNED,
    THRESHOLDS,
    ThresholdCurve,
    cell_probability,
    image_curves,
    pooled_counts,
    stack_curves,
    thinned_curves,
)
from ..metrics.overlap import agreement
from ..metrics.pixels import split_target
from ..metrics.warping import WarpingError, warping_error
from ..plot.evaluation import threshold_figure
from ..plot.panels import save_figure
from .reports import ImageReport, lowest, rounded

DOI = "10.3389/fnana.2015.00142"
logger = logging.getLogger(__name__)

DEFINITIONS = {
    "v_rand": "foreground-restricted Rand F-score after thinning, mean over slices, highest over thresholds; "
    f"doi {DOI}",
    "v_info": "foreground-restricted information theoretic F-score after thinning, mean over slices, highest over "
    f"thresholds; doi {DOI}",
    "rand_error": "1 - foreground-restricted Rand F-score without thinning, pairs of pixels of all slices together, "
    f"lowest over thresholds; doi {DOI}",
    "pixel_error": f"1 - F-score of cell pixels, pixels of all slices together, lowest over thresholds; doi {DOI}",
    "warping_error": "pixels of splits and mergers after warping the truth to the proposal, of all pixels of all "
    f"slices, lowest over thresholds; doi {DOI}",
    "per slice": "at the thresholds that are best for all slices together",
    "null": "undefined or not measured; a partly annotated slice makes the warping error of the whole stack undefined",
}
COLUMNS = (
    *(f"{name}_{part}" for name in THINNED for part in ("precision", "recall", "f")),
    *("rand_f", "pixel_error", "warping_error"),
)


def measure_slice(
    probability: np.ndarray,
    truth: np.ndarray,
    annotated: np.ndarray | None = None,
    warping: bool = True,
    thinned: np.ndarray | None = None,
) -> dict[str, Any]:
    """Measure what the scores of a slice and of its stack need.

    Args:
        probability, truth: as in `scripts.metrics.thinned_curves`.
        annotated: bool (H, W), pixels that count. None: all. A partly annotated slice has no warping error.
        warping: measure the warping error, which takes about half a second per slice.
        thinned: (2, 3, T), from `image_curves`. None: measured here.

    Returns:
        Nested lists: `thinned` (2, 3, T), from `image_curves`. `pooled` (2, T, 3), pairs and pixels as in
        `pooled_counts`. `warping` (2, T - 1), pixels of splits and of mergers, or None. `pixels`, the size of the
        slice.

    Raises:
        ValueError: as `scripts.metrics.thinned_curves`.

    Example:
        >>> measured = measure_slice(np.array([[0.9, 0.15, 0.9]]), np.array([[1, 0, 1]]))
        >>> measured["warping"][1], measured["pixels"]  # a merger at the two lowest thresholds
        ([1, 1, 0, 0, 0, 0, 0, 0, 0, 0], 3)
    """
    if annotated is None:
        annotated = np.ones(truth.shape, bool)
    if thinned is None:
        thinned = np.array([(c.precision, c.recall, c.f) for c in thinned_curves(probability, truth, valid=annotated)])
    warped = warping_error([(probability, truth)]) if warping and annotated.all() else None
    # pixels that are not annotated become membrane in both, which the older measures do not count
    pairs, pixels = pooled_counts(np.where(annotated, probability, 0), (truth != 0) & annotated)
    return {
        "thinned": thinned.tolist(),
        "pooled": [pairs.tolist(), pixels.tolist()],
        "warping": None if warped is None else [warped.splits.tolist(), warped.mergers.tolist()],
        "pixels": truth.size,
    }


def stack_warping(slices: Sequence[Mapping[str, Any]]) -> WarpingError | None:
    """Add up the warping errors of slices from `measure_slice`. None if a slice has none.

    Example:
        >>> stack_warping([{"warping": [[0] * 10, [1, 0] * 5], "pixels": 25}]).error
        0.0
    """
    if not slices or any(s["warping"] is None for s in slices):
        return None
    splits, mergers = np.array([s["warping"] for s in slices]).sum(axis=0)
    return WarpingError(THRESHOLDS[:-1], splits, mergers, sum(s["pixels"] for s in slices))


def slice_row(
    measured: Mapping[str, Any], curves: Mapping[str, ThresholdCurve], warping: WarpingError | None
) -> dict[str, float]:
    """List the measures of a slice at the best thresholds of the stack, by the names in `COLUMNS`.

    Args:
        measured: the slice, from `measure_slice`.
        curves: of the stack, from `stack_curves`.
        warping: of the stack, from `stack_warping`.

    Example:
        >>> measured = measure_slice(np.array([[0.9, 0.15, 0.9]]), np.array([[1, 0, 1]]))
        >>> row = slice_row(measured, stack_curves([measured]), stack_warping([measured]))
        >>> row["v_rand_f"], row["warping_error"]
        (1.0, 0.0)
    """
    thinned = zip(THINNED, measured["thinned"], strict=True)
    pooled = zip(POOLED, measured["pooled"], strict=True)
    values = [line[curves[name].best] for name, lines in thinned for line in lines]
    rand, pixel = (agreement(*counts[curves[name].best]).f for name, counts in pooled)
    wrong = float("nan")
    if warping is not None:
        wrong = sum(line[warping.best] for line in measured["warping"]) / measured["pixels"]
    return dict(zip(COLUMNS, (*values, rand, 1 - pixel, wrong), strict=True))


def summarise_stack(names: Sequence[str], slices: Sequence[Mapping[str, Any]], split: str) -> dict[str, Any]:
    """Put together the content of `em_metrics.json`.

    Args:
        names: of the slices.
        slices: each from `measure_slice`.
        split: as in `ImageReport`.

    Example:
        >>> measured = measure_slice(np.array([[0.9, 0.15, 0.9]]), np.array([[1, 0, 1]]))
        >>> summarise_stack(["0.png"], [measured], "validation")["warping_error"]
        {'error': 0.0, 'threshold': 0.2, 'splits': 0, 'mergers': 0}
    """
    curves, warping = stack_curves(slices), stack_warping(slices)
    rows = [slice_row(measured, curves, warping) for measured in slices]
    lines: dict[str, Any] = {"thresholds": THRESHOLDS.round(6).tolist()}
    content: dict[str, Any] = {"split": split, "slices": len(slices)}
    for name, curve in curves.items():
        lines[name] = {"precision": curve.precision.tolist(), "recall": curve.recall.tolist(), "f": curve.f.tolist()}
        key, best = (name, {"score": curve.score}) if name in THINNED else (f"{name}_error", {"error": curve.error})
        content[key] = {
            **best,
            "threshold": curve.best_threshold,
            "precision": float(curve.precision[curve.best]),
            "recall": float(curve.recall[curve.best]),
        }
    content["warping_error"] = None
    if warping is not None:
        content["warping_error"] = {
            "error": warping.error,
            "threshold": warping.best_threshold,
            "splits": int(warping.splits[warping.best]),
            "mergers": int(warping.mergers[warping.best]),
        }
        lines["warping"] = {
            "thresholds": warping.thresholds.round(6).tolist(),
            "splits": warping.splits.tolist(),
            "mergers": warping.mergers.tolist(),
            "error": warping.errors.tolist(),
        }
    worst = lowest(names, [row["v_rand_f"] for row in rows], "v_rand_f")
    return {**content, "worst": worst, "definitions": DEFINITIONS, "curves": lines}


class EmReport(ImageReport):
    """Write `em_metrics_per_slice.csv`, `em_metrics.json` and `threshold_curves.png` at the end of an evaluation.

    It compares `pred` with `label`, both as in `scripts.metrics.membranes.image_curves`.

    Args:
        output_dir, split: as in `ImageReport`.
        channel: class of the cells.
        warping: measure the warping error, too, which takes about half a second per slice.

    Example::

        val_handlers:
        - _target_: scripts.handlers.EmReport
          output_dir: evaluation
    """

    def __init__(
        self, output_dir: str | Path, channel: int = 1, warping: bool = True, split: str = "validation"
    ) -> None:
        super().__init__(output_dir, split)
        self.channel = channel
        self.warping = warping

    def measure_image(self, item: Mapping[str, Any], evaluator: Engine) -> dict[str, Any]:
        """Apply `measure_slice`."""
        pred, target = item["pred"], item["label"]
        label, weight = split_target(as_array(target))
        annotated = annotated_pixels(label, weight)
        thinned = measure_once(evaluator, image_curves, pred, target, self.channel)
        probability = cell_probability(as_array(pred), self.channel)
        return measure_slice(probability, label == self.channel, annotated, self.warping, thinned)

    def write(self, names: Sequence[str], found: Sequence[Any]) -> None:
        """Write a row per slice, the scores of the stack, and the curves over thresholds."""
        curves, warping = stack_curves(found), stack_warping(found)
        rows = [
            {"image": name, **rounded(slice_row(measured, curves, warping))}
            for name, measured in zip(names, found, strict=True)
        ]
        write_csv(self.output_dir / "em_metrics_per_slice.csv", rows, ["image", *COLUMNS])
        write_json(self.output_dir / "em_metrics.json", summarise_stack(names, found, self.split))
        scores = [
            f"{name} {c.f[c.best]:.4f}" for name, c in (("V_Rand", curves["v_rand"]), ("V_Info", curves["v_info"]))
        ]
        logger.info("membranes: %s, each at its best threshold", ", ".join(scores))
        slices = f"{len(names)} slice{'' if len(names) == 1 else 's'}, {self.split}"
        save_figure(threshold_figure(curves, warping, title=slices), self.output_dir / "threshold_curves.png")
