"""Compute scores over the threshold of the probability of class 1, from the images of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.membranes import THRESHOLDS as MEMBRANES
from ..settings import ModelSettings
from .cases import LEVELS, Case
from .gather import Run


@dataclass(frozen=True)
class Curve:
    """A score over thresholds of the probability of class 1.

    Args:
        name: of the score.
        thresholds, values: (T,).
        used: the threshold of the weights.
        images: number of images.
    """

    name: str
    thresholds: Sequence[float]
    values: Sequence[float]
    used: float
    images: int


def threshold_curve(run: Run, cases: Sequence[Case]) -> Curve | None:
    """Compute a score over thresholds: of the evaluation if measured there, else of the images of the report.

    Objects: F1 at an IoU of .5. Membranes: V_Rand, mean over images. Other labels: Dice of class 1, of all pixels.

    Example:
        >>> from pathlib import Path
        >>> threshold_curve(Run(Path("."), ("training",)), []) is None
        True
    """
    settings = run.settings or ModelSettings()
    measured = run.membranes.get("curves", {})
    if measured.get("v_rand"):
        values = [float("nan") if value is None else value for value in measured["v_rand"]["f"]]
        return Curve("V_Rand", measured["thresholds"], values, settings.threshold, int(run.membranes.get("slices", 0)))
    rand = [case.v_rand for case in cases if case.v_rand is not None]
    if rand:
        return Curve("V_Rand", MEMBRANES.tolist(), np.nanmean(rand, axis=0).tolist(), settings.threshold, len(rand))
    counts = [case.counts for case in cases if case.counts is not None]
    if not counts:
        return None
    matches, false, missed = np.sum(counts, axis=0).T
    values = (2 * matches / np.maximum(2 * matches + false + missed, 1)).tolist()
    name = "F1 at IoU .5" if settings.label_kind == "instances" else f"Dice of {settings.class_names[1]}"
    return Curve(name, LEVELS, values, settings.threshold, len(counts))
