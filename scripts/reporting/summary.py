"""Collect the figures of a run for the head of its page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, median
from typing import Any

from .gather import Run
from .verdict import interval, validations, words


def duration(seconds: float) -> str:
    """Write a time for readers.

    Example:
        >>> duration(4.2), duration(754), duration(9000)
        ('4 s', '13 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _figure(name: str, value: Any, more: str = "") -> dict[str, str]:
    return {"name": name, "value": value if isinstance(value, str) else f"{value:.3f}", "more": more}


def _foreground(scores: Mapping[str, Any], start: str = "") -> tuple[str, float] | None:
    """Average the Dice of all classes but the background, which is easy. None: no background, or no other score."""
    dice = {name: value for name, value in scores.items() if name.startswith(f"{start}dice_")}
    if dice.pop(f"{start}dice_background", None) is None:
        return None
    known = [value for value in dice.values() if value is not None and math.isfinite(value)]
    return (words(next(iter(dice))) if len(dice) == 1 else "Dice of the foreground", fmean(known)) if known else None


def summary_figures(run: Run) -> list[dict[str, str]]:
    """List the most important figures of a run: `name`, `value` and `more`, a small line below.

    Example:
        >>> from pathlib import Path
        >>> run = Run(Path("out"), ("training",), history=[{"epoch": 2.0, "val_seg": 0.5}])
        >>> summary_figures(run)[0]["value"]
        '0.500'
    """
    figures = []
    if "training" in run.kinds:
        figures += _of_training(run)
    if "evaluation" in run.kinds:
        figures += _of_evaluation(run)
    if run.kinds == ("segmentation",):
        figures += _of_segmentation(run)
    return figures


def _of_training(run: Run) -> list[dict[str, str]]:
    figures = []
    name, scores = validations(run.history)
    if scores:
        epoch, best = max(scores, key=lambda pair: pair[1])
        row = next(row for row in run.history if row["epoch"] == epoch)
        shown = (_foreground(row, "val_") if name == "val_mean_dice" else None) or (words(name), best)
        figures.append(_figure(f"{shown[0]}, best validation", shown[1], f"epoch {int(epoch)}"))
    fitted = run.settings.training.fitted if run.settings else None
    if fitted is not None:
        more = f"{fitted.before:.3f} before; fitted to the validation images"
        figures.append(_figure(f"{words(fitted.measure)} after the fit of the objects", fitted.after, more))
    if run.history:
        last = run.history[-1]
        steps = f"{int(last['iteration'] or 0)} steps" if last.get("iteration") else ""
        figures.append(_figure("epochs", str(int(last["epoch"] or 0)), steps))
        seconds = sum(row.get("seconds") or 0 for row in run.history)
        if seconds:
            figures.append(_figure("in steps, without validations", duration(seconds)))
    if run.split:
        parts = [len(run.split.get(part, [])) for part in ("training", "validation")]
        figures.append(_figure("images train, validate", f"{parts[0]}, {parts[1]}", _rule(run.split.get("rule"))))
    return figures


def _rule(rule: Any) -> str:
    """Write the rule of a split in words."""
    how = rule.get("how") if isinstance(rule, Mapping) else None
    return {
        "random": "drawn at random",
        "last": "the last images validate",
        "block": "a block of images validates",
        "all": "every image",
        "file": "as a file lists them",
        "listed": "as the data set lists them",
    }.get(str(how), "")


def _of_evaluation(run: Run) -> list[dict[str, str]]:
    figures = []
    first = next((row for row in run.objects.get("instances", []) if row.get("threshold") == 0.5), None)
    if first:
        more = (
            f"precision {first['precision']:.3f}, recall {first['recall']:.3f}"
            if None not in (first.get("precision"), first.get("recall"))
            else ""
        )
        figures += (
            [_figure("F1 at IoU .5, all objects together", first["f1"], more)] if first.get("f1") is not None else []
        )
    for name, where in (("seg", run.objects), ("det", run.objects)):
        if where.get(name) is not None:
            figures.append(_figure(words(name), where[name]))
    for name in ("v_rand", "v_info"):
        found = run.membranes.get(name)
        if found and found.get("score") is not None:
            figures.append(_figure(words(name), found["score"], f"best threshold {found['threshold']:.1f}"))
    mean = run.metrics.get("mean", {})
    if mean.get("mean_dice") is not None:
        error = mean.get("pixel_error")
        more = "" if error is None else f"pixel error {error:.3f}"
        name, dice = _foreground(mean) or ("mean Dice", mean["mean_dice"])
        figures.append(_figure(name, dice, more))
    key = run.key_column
    known = interval([row.get(key or "") for row in run.table.values()])  # type: ignore[misc]
    if known and key:
        more = f"{known[0]:.3f}, mean over images; 95 % of resampled means"
        figures.append(_figure(f"{words(key)}, interval", f"{known[1]:.3f}–{known[2]:.3f}", more))
    counted = run.objects
    more = f"{counted['reference_objects']} objects in the truth" if "reference_objects" in counted else ""
    figures.append(_figure("images measured", str(len(run.table)), more))
    return figures


def _of_segmentation(run: Run) -> list[dict[str, str]]:
    names = list(run.finished) or list(run.areas)
    figures = [_figure("images segmented", str(len(names)))]
    if run.areas:
        every = [area for areas in run.areas.values() for area in areas]
        per_image = [len(run.areas.get(name, ())) for name in names or run.areas]
        figures.append(_figure("objects", str(len(every)), f"median {median(per_image):g} an image"))
        figures.append(_figure("median area", f"{median(every):g} px" if every else "–"))
    return figures
