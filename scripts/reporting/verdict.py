"""Judge a run by stated rules. Every remark follows from figures, and says which.

| rule | remark |
|---|---|
| the history has no validation | the training was not validated |
| best score in the last tenth of the validations, and `GAIN` above the best of the first two thirds | still improving |
| last score `LOSS` below the best, best in the first two thirds | the score fell after its best |
| Dice of a class below `POOR` in the last validation | the class is hardly found |
| best score below `POOR` | hardly anything is found |
| fewer than `FEW` images validate or are measured | the figure is uncertain |
| objects merged, split, missed or false | numbers of objects |
| another threshold is better by 2 `GAIN` | the better threshold |
| else | the threshold fits; range of thresholds with scores within `FLAT` of the best |
| images that chose the weights are measured | the figure is optimistic |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.mistakes import DEFINITIONS, Mistakes
from .cases import Cases
from .gather import Row, Run
from .thresholds import Curve

GAIN, LOSS, FLAT, FEW = 0.005, 0.02, 0.02, 5
MANY = 0.05  # share of objects with a mistake worth a remark as a warning
POOR = 0.1  # Dice of a class that is hardly found
RESAMPLES = 2000
GOOD, NOTE, WARN = "good", "note", "warn"
NAMES = {  # column or metric: words for readers
    "f1_0.5": "F1 at IoU .5",
    "instance_f1": "F1 at IoU .5",
    "seg": "SEG",
    "det": "DET",
    "v_rand_f": "V_Rand",
    "v_rand": "V_Rand",
    "v_info_f": "V_Info",
    "v_info": "V_Info",
    "mean_dice": "mean Dice",
    "mean_iou": "mean IoU",
    "pixel_error": "pixel error",
}


@dataclass(frozen=True)
class Remark:
    """A remark of the verdict.

    Args:
        kind: "good", "note" or "warn".
        text: finding with its figures, and the remedy if there is one.
    """

    kind: str
    text: str


def words(name: str) -> str:
    """Write the name of a measure for readers.

    Example:
        >>> words("val_v_rand"), words("val_dice_cell")
        ('V_Rand', 'Dice of cell')
    """
    name = name.removeprefix("val_")
    if name in NAMES:
        return NAMES[name]
    for start, word in (("dice_", "Dice of "), ("iou_", "IoU of ")):
        if name.startswith(start):
            return word + name.removeprefix(start).replace("_", " ")
    return name.replace("_", " ")


def judge(run: Run, cases: Cases, curve: Curve | None) -> list[Remark]:
    """List the remarks on a run, by the rules of this module. Warnings come first.

    Example:
        >>> from pathlib import Path
        >>> run = Run(Path("out"), ("training",), history=[{"epoch": 1.0, "loss": 0.5}])
        >>> judge(run, Cases(), None)[0].text[:36]
        'The training has not been validated:'
    """
    remarks = [*_of_training(run), *_of_images(run, cases), *_of_objects(run, cases), *_of_threshold(curve)]
    remarks += [Remark(WARN, problem) for problem in run.problems]
    failed = len(cases.failures)
    if failed:
        remarks.append(
            Remark(WARN, f"{failed} images could not be read or segmented for this page: see the list below.")
        )
    return sorted(remarks, key=lambda remark: (WARN, NOTE, GOOD).index(remark.kind))


def validations(history: Sequence[Row]) -> tuple[str, list[tuple[float, float]]]:
    """Find the key metric of a history, and its values: pairs of epoch and score.

    Example:
        >>> validations([{"epoch": 1.0, "loss": 1.0, "val_seg": 0.5}, {"epoch": 2.0, "loss": 0.9, "val_seg": None}])
        ('val_seg', [(1.0, 0.5)])
    """
    names = dict.fromkeys(name for row in history for name in row if name.startswith("val_") and "error" not in name)
    for name in names:  # the key metric is the first
        found = [(float(row["epoch"] or 0), value) for row in history if (value := row.get(name)) is not None]
        if found:
            return name, found
    return "", []


def _of_training(run: Run) -> list[Remark]:
    if "training" not in run.kinds:
        return []
    name, scores = validations(run.history)
    if not run.history:
        return [Remark(WARN, "The training has not finished an epoch: there are no curves yet.")]
    if not scores:
        return [
            Remark(
                WARN,
                "The training has not been validated: no score judges the weights. Go on with --resume true.",
            )
        ]
    remarks = []
    done, planned = int(run.history[-1]["epoch"] or 0), _planned(run)
    if run.record and run.record.get("seconds") is None:
        more = f" of {planned}" if planned else ""
        remarks.append(
            Remark(
                WARN,
                f"The training did not end, or still runs: {done}{more} epochs are done. Go on with --resume true.",
            )
        )
    remarks += _of_classes(run)
    epochs, values = zip(*scores, strict=True)
    best = int(np.argmax(values))
    early = values[: max(1, math.ceil(len(values) * 2 / 3))]
    gain = values[best] - max(early)
    at = f"{words(name)} is {values[best]:.3f} at epoch {int(epochs[best])} of {done}"
    if values[best] < POOR:
        text = f"Hardly anything is found: {at}. Look at the labels, and at panel.png. Train longer."
        remarks.append(Remark(WARN, text))
    elif len(values) >= 4 and best >= 0.9 * (len(values) - 1) and gain >= GAIN:
        text = f"Still improving at the end: {at}, {gain:.3f} above the best of the first two thirds. Train longer."
        remarks.append(Remark(NOTE, text))
    elif len(values) >= 4 and best < len(early) and values[best] - values[-1] >= LOSS:
        text = (
            f"The score fell after its best: {at}, {values[-1]:.3f} at the end. The saved weights are the best ones. "
            "More images or a shorter training help."
        )
        remarks.append(Remark(NOTE, text))
    elif len(values) >= 4:
        remarks.append(
            Remark(GOOD, f"The training has levelled off: {at}, within {max(gain, 0):.3f} of the first two thirds.")
        )
    else:
        text = f"Too few validations ({len(values)}) to say whether a longer training helps: {at}."
        remarks.append(Remark(NOTE, text))
    return remarks


def _of_classes(run: Run) -> list[Remark]:
    """Name the classes that the last validation has hardly found."""
    name, _ = validations(run.history)
    last = next(row for row in reversed(run.history) if row.get(name) is not None)
    dice = {name.removeprefix("val_dice_"): value for name, value in last.items() if name.startswith("val_dice_")}
    lost = [f"{name} ({value:.2f})" for name, value in dice.items() if value is not None and value < POOR]
    if not lost:
        return []
    text = (
        f"Hardly found in the last validation, by their Dice: {', '.join(lost)}. Label more of them, or train longer."
    )
    return [Remark(WARN, text)]


def _planned(run: Run) -> int | None:
    try:
        planned = int(run.record.get("settings", {}).get("max_epochs", ""))
    except ValueError:
        return None
    return planned if planned < 10**9 else None


def _of_images(run: Run, cases: Cases) -> list[Remark]:
    remarks = []
    if "evaluation" in run.kinds:
        measured = len(run.table)
        chose = run.metrics.get("split") == "validation" or run.membranes.get("split") == "validation"
        scores = [row.get(run.key_column or "") for row in run.table.values()]
        if chose and any(score != 0 for score in scores):  # figures of 0 are not optimistic
            text = (
                f"The measured images ({measured}) also chose the weights: the figures are optimistic. "
                "Measure images that the training has not seen."
            )
            remarks.append(Remark(NOTE, text))
        if not run.metrics:
            remarks.append(Remark(WARN, f"The evaluation did not end: {measured} images are measured."))
    else:
        measured = len(run.split.get("validation", [])) if "training" in run.kinds else FEW
    if 0 < measured < FEW:
        part = "Measured" if "evaluation" in run.kinds else "Validation"
        text = f"{part} images: {measured}. With fewer than {FEW}, the figures are uncertain. Label more images."
        remarks.append(Remark(WARN, text))
    failed = run.record.get("failures") or []
    if failed:
        remarks.append(Remark(WARN, f"{len(failed)} images failed. The first: {failed[0]}"))
    if run.kinds == ("segmentation",):
        names = list(run.finished) or list(run.areas)
        empty = [name for name in names if not run.areas.get(name)]
        if run.areas and empty:
            remarks.append(Remark(NOTE, f"{len(empty)} of {len(names)} images have no object. The first: {empty[0]}."))
        if run.record and run.record.get("seconds") is None:
            remarks.append(
                Remark(
                    WARN,
                    f"The segmentation did not end: {len(names)} images are done. Go on with --skip_finished true.",
                )
            )
    return remarks


def _of_objects(run: Run, cases: Cases) -> list[Remark]:
    """Count mistakes: of all images of an evaluation, else of the images measured for the page."""
    known = [read for row in run.table.values() if (read := _mistakes_in(row)) is not None]
    what = "measured"
    if not known:
        known = [each.mistakes for each in cases.measured.values() if each.mistakes is not None]
        what = "validation" if "training" in run.kinds else "shown"
    if not known:
        return []
    total = sum(known, Mistakes())
    images = f"the {len(known)} {what} images" if len(known) > 1 else f"the {what} image"
    counted = {name: getattr(total, name) for name in DEFINITIONS}
    text = f"In {images}, with {total.truth} objects in the truth and {total.found} found"
    if not any(counted.values()):
        return [Remark(GOOD, f"{text}: none is missed, false, merged or split.")]
    found = [
        f"{count} {name}, {_share(count, total.found)} of those found"
        if name == "false"
        else f"{count} {name}, {_share(count, total.truth)}"
        for name, count in counted.items()
        if count
    ]
    many = max(counted.values()) > MANY * total.truth
    return [Remark(WARN if many else NOTE, f"{text}: {'; '.join(found)}.")]


def _mistakes_in(row: Row) -> Mistakes | None:
    """Read the numbers of objects in a row of an evaluation. None: it has none, as in earlier versions."""
    values = [row.get(name) for name in ("reference_objects", "result_objects", *DEFINITIONS)]
    return None if None in values else Mistakes(*(int(value or 0) for value in values))


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} %" if of else "no object in the truth"


def _of_threshold(curve: Curve | None) -> list[Remark]:
    if curve is None:
        return []
    known = [(v, t) for t, v in zip(curve.thresholds, curve.values, strict=True) if math.isfinite(v)]
    if not known:
        return []
    score, best = max(known)
    used = float(np.interp(curve.used, curve.thresholds, np.nan_to_num(curve.values)))
    if score - used >= 2 * GAIN:
        text = (
            f"Another threshold may be better: {curve.name} {score:.3f} at {best:.1f}, {used:.3f} at {curve.used:.2g} "
            f"as used. Try --threshold {best:.1f}, and measure on other images."
        )
        return [Remark(NOTE, text)]
    if score < POOR:  # a network that finds nothing has no threshold to judge
        return []
    text = f"The threshold fits: {curve.name} is {used:.3f} at {curve.used:.2g} as used, and {score:.3f} at most."
    low, high = _plateau(curve, score)
    if low < high:
        text += f" From {low:.2g} to {high:.2g} the threshold hardly matters: less than {FLAT} is lost."
    return [Remark(GOOD, text)]


def _plateau(curve: Curve, score: float) -> tuple[float, float]:
    """Find the thresholds around the one in use with scores within `FLAT` of the best."""
    good = [score - value < FLAT for value in np.nan_to_num(curve.values)]
    below = [t for t, fits in zip(curve.thresholds, good, strict=True) if t < curve.used and not fits]
    above = [t for t, fits in zip(curve.thresholds, good, strict=True) if t > curve.used and not fits]
    low, high = max(below, default=-math.inf), min(above, default=math.inf)
    inside = [t for t, fits in zip(curve.thresholds, good, strict=True) if low < t < high and fits]
    return min(inside, default=curve.used), max(inside, default=curve.used)


def interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Compute the mean and its 95 % interval, by drawing the images anew with replacement (percentile bootstrap).

    Args:
        values: scores of the images.

    Returns:
        mean, lower and upper end; None for fewer than five finite values.

    Example:
        >>> interval([0.5] * 6)
        (0.5, 0.5, 0.5)
    """
    known = np.array([value for value in values if value is not None and math.isfinite(value)], float)
    if len(known) < FEW:
        return None
    drawn = np.random.default_rng(0).choice(known, (RESAMPLES, len(known))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(known.mean()), float(low), float(high)
