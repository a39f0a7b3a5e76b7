"""Draw the curves of a run: loss and scores over epochs, scores over thresholds."""

from __future__ import annotations

from .charts import Chart, Line, chart
from .gather import Run
from .thresholds import Curve
from .verdict import validations, words


def training_charts(run: Run) -> list[Chart]:
    """Draw loss, learning rate and validation scores over epochs.

    Example:
        >>> from pathlib import Path
        >>> run = Run(Path("out"), ("training",), history=[{"epoch": 1.0, "loss": 0.5}])
        >>> [chart.title for chart in training_charts(run)]
        ['Training loss']
    """
    rows = run.history

    def line(column: str, best: bool = False) -> Line:
        points = [(float(r["epoch"] or 0), v) for r in rows if (v := r.get(column)) is not None]
        return Line(words(column), points, best)

    losses = [v for r in rows if (v := r.get("loss")) is not None]
    is_wide = bool(losses) and 0 < min(losses) < max(losses) / 20
    key, _ = validations(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row if name.startswith("val_")))
    groups = {"Dice": "val_dice_", "IoU": "val_iou_", "error": "error"}
    others = {
        title: [name for name in columns if part in name and name != key and line(name).points]
        for title, part in groups.items()
    }
    log = " The axis is logarithmic." if is_wide else ""
    drawn = [
        chart("Training loss", [line("loss")], "epoch", f"Mean loss of each epoch.{log}", log=is_wide),
        chart(
            f"Validation: {words(key)}",
            [line(key, best=True)],
            "epoch",
            "The ring marks the best validation.",
            is_score=True,
        )
        if key
        else None,
        *(
            chart(
                f"Validation: {title}",
                [line(name) for name in names],
                "epoch",
                _lower_is_better(title),
                is_score=title != "error",
                from_zero=title == "error",
            )
            for title, names in others.items()
        ),
        chart("Learning rate", [line("lr")], "epoch", "Mean of each epoch.", from_zero=True),
    ]
    return [each for each in drawn if each is not None]


def _lower_is_better(title: str) -> str:
    return "Less is better." if title == "error" else "Higher is better."


def threshold_charts(run: Run, curve: Curve | None) -> list[Chart]:
    """Draw scores over the threshold of the probability, and over the required agreement of objects.

    Args:
        run: an evaluation has curves of its own.
        curve: measured for the page. None: none.

    Example:
        >>> from pathlib import Path
        >>> curve = Curve("F1", [0.4, 0.5], [0.8, 0.9], used=0.5, images=3)
        >>> threshold_charts(Run(Path("out"), ("training",)), curve)[0].names
        ['F1']
    """
    drawn: list[Chart | None] = []
    if curve is not None:
        measured = "in the evaluation" if run.membranes.get("curves") else "here"
        text = (
            f"{curve.name} over the threshold of the probability, of {curve.images} images, measured {measured}. "
            f"The dashed line is the threshold in use, {curve.used:.2g}."
        )
        points = list(zip(curve.thresholds, curve.values, strict=True))
        drawn.append(
            chart(
                "Threshold of the probability",
                [Line(curve.name, points, True)],
                "threshold",
                text,
                marked=curve.used,
                is_score=True,
            )
        )
    levels = run.objects.get("instances", [])
    if levels:
        lines = [
            Line(name, [(row["threshold"], float("nan") if row.get(column) is None else row[column]) for row in levels])
            for name, column in (("F1", "f1"), ("precision", "precision"), ("recall", "recall"))
        ]
        text = "How scores fall if objects must agree better with the truth: intersection over union from .5 to .9."
        drawn.append(chart("Required agreement of objects", lines, "IoU threshold", text, is_score=True))
    for name in ("v_rand", "v_info"):
        found = run.membranes.get("curves", {}).get(name)
        if found:
            lines = [
                Line(
                    column,
                    [
                        (t, float("nan") if v is None else v)
                        for t, v in zip(run.membranes["curves"]["thresholds"], found[column], strict=True)
                    ],
                )
                for column in ("f", "precision", "recall")
                if column in found
            ]
            text = "Precision falls with mergers, recall with splits."
            drawn.append(chart(f"{words(name)} over thresholds", lines, "threshold", text, is_score=True))
    return [each for each in drawn if each is not None]
