"""Compute scores over the threshold of the probability of class 1, from the images of a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.membranes import THRESHOLDS as MEMBRANES
from .gather import Run
from .measured import LEVELS, Measured
from .results import settings_in_use


@dataclass(frozen=True)
class Curve:
    """A score over thresholds of the probability of class 1.

    Args:
        name: of the score.
        thresholds, values: (T,).
        used: the threshold in use.
        images: number of images.
    """

    name: str
    thresholds: Sequence[float]
    values: Sequence[float]
    used: float
    images: int


def threshold_curve(run: Run, measured: Iterable[Measured]) -> Curve | None:
    """Compute a score over thresholds: of the evaluation if measured there, else of the images measured for the report.

    Objects: F1 at an IoU of .5. Membranes: V_Rand, mean over images. Other labels: Dice of class 1, of all pixels.

    Example:
        >>> from pathlib import Path
        >>> threshold_curve(Run(Path("."), ("training",)), []) is None
        True
    """
    settings = settings_in_use(run)
    known = run.membranes.get("curves", {})
    if known.get("v_rand"):
        values = [float("nan") if value is None else value for value in known["v_rand"]["f"]]
        return Curve("V_Rand", known["thresholds"], values, settings.threshold, int(run.membranes.get("slices", 0)))
    found = list(measured)
    rand = [each.v_rand for each in found if each.v_rand is not None]
    if rand:
        return Curve("V_Rand", MEMBRANES.tolist(), np.nanmean(rand, axis=0).tolist(), settings.threshold, len(rand))
    counts = [each.counts for each in found if each.counts is not None]
    if not counts:
        return None
    matches, false, missed = np.sum(counts, axis=0).T
    values = (2 * matches / np.maximum(2 * matches + false + missed, 1)).tolist()
    name = "F1 at IoU .5" if settings.label_kind == "instances" else f"Dice of {settings.class_names[1]}"
    return Curve(name, LEVELS, values, settings.threshold, len(counts))
