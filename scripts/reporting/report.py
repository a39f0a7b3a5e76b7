"""Write the report of a run: one HTML page for a training, an evaluation or a segmented folder."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ..io.names import shown
from .cases import Cases, Curve, make_cases, threshold_curve
from .charts import Chart, Line, chart
from .gather import NoRunError, Run, images_of, read_run
from .mistakes import DEFINITIONS
from .page import render, write_page
from .verdict import FEW, FLAT, GAIN, LOSS, MANY, interval, judge, validations, words

PAGE = "report.html"
MOST_BYTES = 17_000_000  # of all pictures; the page stays below 20 MB
MOST_ROWS = 2000  # of the table
CONFIG_ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "configs").is_dir())
COLUMNS = (  # of the tables of an evaluation, if present
    *("f1_0.5", "seg", "det", "v_rand_f", "v_info_f", "warping_error", "mean_dice", "mean_iou", "pixel_error"),
    *("reference_objects", "result_objects"),
)
SCORES = ("f1_0.5", "seg", "v_rand_f", "v_info_f", "mean_dice", "mean_iou")
HEADINGS = {
    "reference_objects": "objects in truth",
    "result_objects": "objects found",
    "warping_error": "warping error",
}
MEASURES = {
    "F1 at IoU .5": "objects of prediction and truth match if their intersection is more than half of their union; "
    "F1 = 2 matches / (objects found + objects in the truth).",
    "SEG": "mean over objects of the truth: intersection over union with the object of the prediction that covers more "
    "than half, 0 if none does (doi 10.1093/bioinformatics/btu080).",
    "DET": "detection of marked cells, weighted by the corrections that they need (doi 10.1371/journal.pone.0144959).",
    "V_Rand": "Rand F-score of the EM challenge after thinning: precision falls with mergers, recall with splits (doi "
    "10.3389/fnana.2015.00142).",
    "V_Info": "the same idea with information (doi 10.3389/fnana.2015.00142).",
    "mean Dice": "2 |A and B| / (|A| + |B|) of the pixels of each class, mean over classes.",
    "mean IoU": "|A and B| / |A or B| of the pixels of each class, mean over classes.",
    "pixel error": "share of pixels with a wrong class.",
}
RULES = (
    f"Still improving: the best score is in the last tenth of the validations, and {GAIN} above the best of the first "
    "two thirds.",
    f"The score fell: the best score is in the first two thirds, and the last is {LOSS} below.",
    f"Uncertain: fewer than {FEW} images are measured, or validate.",
    f"Objects: {DEFINITIONS}. More than {100 * MANY:.0f} per 100 objects of the truth are a warning.",
    f"Threshold: it hardly matters if the score varies by less than {FLAT} from .3 to .7. Another one is named if its "
    f"score is {2 * GAIN} higher.",
    "Interval: the images are drawn anew with replacement 2,000 times; 95 % of the means lie inside.",
)

Track = Callable[[Sequence[str], str], Iterable[str]]


def write_report(
    folder: str | Path,
    output: str | Path | None = None,
    data: str | Path | None = None,
    images: int = 24,
    program: str = "original-unet",
    results: Sequence[Mapping[str, Any]] = (),
    track: Track = lambda names, _: names,
) -> Path:
    """Write the page of a run.

    Args:
        folder: of a training, an evaluation or a segmentation, finished or not.
        output: file of the page. None: `report.html` in `folder`.
        data: folder of the images, or of the data set. None: as recorded in `run.json`.
        images: most images with pictures. 0: no pictures.
        program: how the user calls the program, for the commands to go on with.
        results: blocks of a section with results of experiments: `kind` ("heading", "text" or "table"), `text`, and
            `rows` of a table.
        track: shows progress, as in `make_cases`.

    Returns:
        the file.

    Raises:
        NoRunError: the folder holds no run.
        ForeignPageError: the file exists, and is of another program.
        FileNotFoundError: `data` does not exist.

    Example:
        >>> from scripts.io import write_csv
        >>> write_csv("out/history.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}])
        >>> write_report("out").as_posix()
        'out/report.html'
    """
    folder = Path(folder)
    try:
        run = read_run(folder)
    except NoRunError:
        if not results:
            raise
        run = Run(folder, ("experiments",))
    path = folder / PAGE if output is None else Path(output)
    cases = Cases()
    if run.kinds != ("experiments",) and images > 0:
        cases = make_cases(run, images_of(run, data), images, MOST_BYTES, track)
    write_page(path, report_page(run, cases, program, results))
    return path


def report_page(
    run: Run, cases: Cases, program: str = "original-unet", results: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Write the page of a run as text. Arguments as in `write_report`.

    Example:
        >>> run = Run(Path("cells"), ("training",), history=[{"epoch": 1.0, "loss": 0.5}])
        >>> "<h1>cells</h1>" in report_page(run, Cases())
        True
    """
    curve = threshold_curve(run, cases.cases)
    remarks = [] if run.kinds == ("experiments",) else judge(run, cases, curve)
    table = _table(run, cases)
    curves, thresholds = _curves(run), _thresholds(run, curve)
    content: dict[str, Any] = {
        "figures": _figures(run, cases),
        "remarks": remarks,
        "rules": RULES,
        "results": results,
        "curves": curves,
        "thresholds": thresholds,
        "pictures": [case.picture for case in cases.cases],
        "pictures_text": _pictures_text(run, cases),
        "pictures_missing": cases.missing,
        "failures": cases.failures,
        "table": table,
        "commands": _commands(run, program),
        "facts": _facts(run),
        "settings": _settings(run),
        "model": _model(run),
        "without": _without(run),
        "definitions": [(name, text) for name, text in MEASURES.items() if name in _used_measures(run, cases)],
    }
    sections = {
        "summary": ("Summary", content["figures"] or remarks),
        "results": ("Experiments", results),
        "curves": ("Curves", curves),
        "thresholds": ("Thresholds", thresholds),
        "pictures": ("Pictures", cases.cases or cases.missing),
        "images": ("Images", table),
        "go-on": ("Commands", content["commands"]),
        "configuration": ("Configuration", content["facts"] or content["without"]),
        "measures": ("Measures", content["definitions"]),
    }
    name = run.folder.resolve().name
    return render(
        "report",
        version=_version(),
        title=f"{name}: {' and '.join(run.kinds)}",
        kind=" and ".join(run.kinds),
        heading=shown(name),
        subtitle=_subtitle(run),
        contents=[(id, text) for id, (text, there) in sections.items() if there],
        **content,
    )


def _version() -> str | None:
    try:
        metadata = json.loads((CONFIG_ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(metadata.get("version"))


def _subtitle(run: Run) -> str:
    parts = []
    data = run.record.get("data") or (run.settings.training.dataset if run.settings else None)
    if data:
        parts.append(f"Data set {shown(Path(str(data)).name)}")
    started = str(run.record.get("started") or "")
    if started:
        parts.append(f"started {started[:16].replace('T', ' ')} UTC")
    seconds = run.record.get("seconds")
    if isinstance(seconds, (int, float)):
        parts.append(f"took {duration(seconds)}")
    text = ", ".join(parts)
    return f"{text}." if text else ""


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


def _figures(run: Run, cases: Cases) -> list[dict[str, str]]:
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
        figures.append(_figure(f"{words(name)}, best validation", best, f"epoch {int(epoch)}"))
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
            if first.get("precision") is not None
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
        figures.append(_figure("mean Dice", mean["mean_dice"], "" if error is None else f"pixel error {error:.3f}"))
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


def _curves(run: Run) -> list[Chart]:
    """Draw loss, learning rate and validation scores over epochs."""
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
        chart(f"Validation: {words(key)}", [line(key, best=True)], "epoch", "The ring marks the best validation.")
        if key
        else None,
        *(
            chart(f"Validation: {title}", [line(name) for name in names], "epoch", _lower_is_better(title))
            for title, names in others.items()
        ),
        chart("Learning rate", [line("lr")], "epoch", "At the start of each epoch."),
    ]
    return [each for each in drawn if each is not None]


def _lower_is_better(title: str) -> str:
    return "Less is better." if title == "error" else "Higher is better."


def _thresholds(run: Run, curve: Curve | None) -> list[Chart]:
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
                "Threshold of the probability", [Line(curve.name, points, True)], "threshold", text, marked=curve.used
            )
        )
    levels = run.objects.get("instances", [])
    if levels:
        lines = [
            Line(name, [(row["threshold"], float("nan") if row.get(column) is None else row[column]) for row in levels])
            for name, column in (("F1", "f1"), ("precision", "precision"), ("recall", "recall"))
        ]
        text = "How scores fall if objects must agree better with the truth: intersection over union from .5 to .9."
        drawn.append(chart("Required agreement of objects", lines, "IoU threshold", text))
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
            drawn.append(chart(f"{words(name)} over thresholds", lines, "threshold", text))
    return [each for each in drawn if each is not None]


def _pictures_text(run: Run, cases: Cases) -> str:
    shown_images = len(cases.cases)
    if not shown_images:
        return ""
    how = (
        "Uncertain images come first."
        if not any(case.scores for case in cases.cases) and not run.table
        else "Worst images come first."
    )
    chosen = (
        f"All {shown_images} images"
        if shown_images >= cases.available
        else f"{shown_images} of {cases.available} images"
    )
    if shown_images < cases.available:
        drawn = "half of them the worst, the others drawn at random" if run.table else "drawn at random"
        chosen += f", {drawn} (--images shows more)"
    text = f"{chosen}. {how}"
    if cases.segmented_here:
        text += f" {cases.segmented_here} images were segmented for this page, in {duration(cases.seconds)}."
    return text


def _table(run: Run, cases: Cases) -> dict[str, Any] | None:
    """Make the rows of the table: of the evaluation, of the images measured here, or of the objects."""
    place = {case.name: k for k, case in enumerate(cases.cases)}
    rows: dict[str, Mapping[str, float | None]]
    if run.table:
        rows, text = dict(run.table), "Figures of the evaluation."
    elif any(case.scores for case in cases.cases):
        rows = {
            case.name: {
                **case.scores,
                **({} if case.mistakes is None else _mistakes(case.mistakes)),
            }
            for case in cases.cases
        }
        text = "Measured for this page, with the saved weights and their settings of objects."
    elif run.areas or run.finished:
        names = list(dict.fromkeys([*run.finished, *run.areas]))
        rows = {name: _of_areas(run.areas.get(name, ())) for name in names}
        text = "From objects.csv."
        for case in cases.cases:
            if case.doubt is not None and case.name in rows:
                rows[case.name] = {**rows[case.name], "uncertainty": case.doubt}
        if any(case.doubt is not None for case in cases.cases):
            text += " Uncertainty: mean of 4 p (1 - p) over the pixels, 0 for certain pixels, 1 for undecided ones."
    else:
        return None
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    if run.table:
        columns = [name for name in COLUMNS if any(row.get(name) is not None for row in rows.values())]
    key = next((name for name in (run.key_column, *columns) if name in columns), None)
    if key is None:
        return None
    low_first = key in SCORES
    whole = {
        column
        for column in columns
        if column not in SCORES and all(_is_whole(row.get(column)) for row in rows.values())
    }
    ordered = sorted(rows, key=lambda name: _order(rows[name].get(key), low_first))
    if len(ordered) > MOST_ROWS:
        text += f" The table has the first {MOST_ROWS} of {len(ordered)} images."
    direction = "ascending" if low_first else "descending"
    return {
        "text": text,
        "columns": [{"name": "image", "sorted": ""}]
        + [{"name": HEADINGS.get(name, words(name)), "sorted": direction if name == key else ""} for name in columns],
        "rows": [
            {
                "name": shown(name),
                "picture": place.get(name),
                "cells": [_cell(rows[name].get(column), column in whole) for column in columns],
            }
            for name in ordered[:MOST_ROWS]
        ],
    }


def _is_whole(value: float | None) -> bool:
    return value is None or float(value).is_integer()


def _order(value: float | None, low_first: bool) -> float:
    if value is None:
        return math.inf
    return value if low_first else -value


def _mistakes(mistakes: Any) -> dict[str, float]:
    names = {"truth": "objects in truth", "found": "objects found"}
    kept = {"truth": 0, "found": 0, "missed": 0, "false": 0, "merged": 0, "split": 0}
    return {names.get(name, name): float(getattr(mistakes, name)) for name in kept}


def _of_areas(areas: Sequence[float]) -> dict[str, float | None]:
    return {
        "objects": float(len(areas)),
        "median area (px)": median(areas) if areas else None,
        "total area (px)": sum(areas),
    }


def _cell(value: float | None, whole: bool) -> dict[str, str]:
    if value is None:
        return {"value": "", "text": "–"}
    return {"value": f"{value:.6g}", "text": f"{value:.0f}" if whole else f"{value:.3f}"}


def _used_measures(run: Run, cases: Cases) -> set[str]:
    names = {column for row in run.table.values() for column, value in row.items() if value is not None}
    names |= {name for row in run.history for name, value in row.items() if value is not None}
    names |= {name for case in cases.cases for name in case.scores}
    used = {words(name) for name in names}
    return used | ({"mean Dice"} if any(name.startswith("val_dice") for name in names) else set())


def _commands(run: Run, program: str) -> list[tuple[str, str]]:
    """List the commands to go on with. Paths are those of the current folder."""
    data = run.record.get("data")
    dataset = "my/data" if data is None else str(data)
    weights = None if run.weights is None else str(run.weights)
    split = run.folder / "split.json"

    def line(*words_of: str) -> str:
        return f"{program} {subprocess.list2cmdline([_near(word) for word in words_of])}"

    found = []
    if "training" in run.kinds:
        if weights:
            found.append(("Segment images with the weights", line("segment", "my/images", "--weights", weights)))
            if split.is_file():
                words_of = ("evaluate", dataset, "--weights", weights, "--split_file", str(split))
                found.append(("Measure the held-out images again", line(*words_of)))
            found.append(
                ("Measure images that the training has not seen", line("evaluate", "my/test", "--weights", weights))
            )
            found.append(
                ("Annotate next what the weights are least sure of", line("rank", "my/images", "--weights", weights))
            )
        if (run.folder / "training_state.pt").is_file():
            more = ("--output", str(run.folder), "--resume", "true", "--max_epochs", str(2 * _epochs(run)))
            found.append(("Train longer (repeat overlays and other settings)", line("train", dataset, *more)))
    elif weights:
        if "segmentation" not in run.kinds:
            found.append(("Segment images with the weights", line("segment", "my/images", "--weights", weights)))
        found.append(
            ("Annotate next what the weights are least sure of", line("rank", "my/images", "--weights", weights))
        )
        found.append(
            ("Train on your own labels, starting from the weights", line("train", "my/data", "--from", weights))
        )
    if run.kinds == ("segmentation",) and data:
        more = ("--output", str(run.folder), "--skip_finished", "true", *(("--weights", weights) if weights else ()))
        found.append(("Go on after an interruption, or with more images", line("segment", dataset, *more)))
    again = line("report", str(run.folder)) if run.kinds != ("experiments",) else ""
    return [*found, *([("Write this page again", again)] if again else [])]


def _epochs(run: Run) -> int:
    return int(run.history[-1]["epoch"] or 1) if run.history else 100


def _near(word: str) -> str:
    """Shorten an absolute path below the current folder."""
    path = Path(word)
    try:
        return path.relative_to(Path.cwd()).as_posix() or "." if path.is_absolute() else word
    except ValueError:
        return word


def _facts(run: Run) -> list[tuple[str, str]]:
    record = run.record
    facts: list[tuple[str, str]] = []
    if record:
        versions, hardware = record.get("versions", {}), record.get("hardware", {})
        facts += [("command", str(record.get("command", "")))]
        facts += [("versions", ", ".join(f"{name} {version}" for name, version in versions.items()))]
        machine = {"instructions": "{}", "cores": "{} cores", "memory_gib": "{} GiB of memory", "gpu": "{}"}
        parts = [str(hardware.get("processor", ""))]
        parts += [form.format(hardware[name]) for name, form in machine.items() if name in hardware]
        facts += [("machine", ", ".join(parts))]
    if run.settings is not None:
        file = run.weights.name if run.weights is not None else "not found"
        facts += [("weights", f"{file}, sha256 {run.settings.sha256}" if run.settings.sha256 else file)]
        facts += [("version of the weights", str(run.settings.version or "unknown"))]
    elif record.get("weights") and run.weights is None:
        facts += [("weights", f"{Path(str(record['weights'])).name}, not found now")]
    return [(name, value) for name, value in facts if value]


def _settings(run: Run) -> list[tuple[str, str]]:
    """List the settings of the run: keys that users set. Components and parts of components are left out."""
    settings = run.record.get("settings", {})
    return [
        (name, _near(str(value)))
        for name, value in settings.items()
        if "." not in name and not str(value).startswith("$")
    ]


def _model(run: Run) -> list[tuple[str, str]]:
    if run.settings is None:
        return []
    content = run.settings.model_dump(exclude={"training", "sha256", "version", "network"})
    network = {f"network: {name}": value for name, value in (run.settings.network or {}).items()}
    training = {
        f"training: {name}": value for name, value in run.settings.training.model_dump().items() if value is not None
    }
    return [(name, str(value)) for name, value in {**content, **network, **training}.items()]


def _without(run: Run) -> list[str]:
    """Say in a sentence what the folder lacks."""
    missing: list[str] = []
    if run.kinds == ("experiments",):
        return missing
    if not run.record:
        missing.append(
            "The folder has no run.json (of an earlier version): command, settings and machine are not known."
        )
    if run.settings is None:
        missing.append("No model.json was found: the settings of the weights are not known.")
    return missing
