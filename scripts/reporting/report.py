"""Write the report of a run: one HTML page for a training, an evaluation or a segmented folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..io.names import shown
from ..metrics.mistakes import DEFINITIONS
from .cases import Cases, Track, make_cases
from .commands import near, next_commands, weights_name
from .curves import threshold_charts, training_charts
from .gather import NoRunError, Run, images_of, read_run
from .page import own_version, render, write_page
from .page_file import PAGE, check_page
from .summary import duration, summary_figures
from .table import image_table
from .thresholds import threshold_curve
from .verdict import FEW, FLAT, GAIN, LOSS, MANY, POOR, judge, words

MOST_BYTES = 17_000_000  # of all pictures; the page stays below 20 MB
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
    **{name: f"{text}." for name, text in DEFINITIONS.items()},
    "uncertainty": "1 - F1 of the objects of a threshold 0.2 below and 0.2 above the one in use, mean over the IoU .5 "
    "to .9: the score of rank. 0: the same objects.",
}
RULES = (
    f"Still improving: the best score is in the last tenth of the validations, and {GAIN} above the best of the first "
    "two thirds.",
    f"The score fell: the best score is in the first two thirds, and the last is {LOSS} below.",
    f"Hardly found: the best score is below {POOR}, or the Dice of a class in the last validation.",
    f"Uncertain: fewer than {FEW} images are measured, or validate.",
    f"Objects: more than {100 * MANY:.0f} missed, false, merged or split ones per 100 objects of the truth are a "
    "warning.",
    f"Threshold: another one is named if its score is {2 * GAIN} higher. It hardly matters where less than {FLAT} of "
    "the best score is lost.",
    "Interval: the images are drawn anew with replacement 2,000 times; 95 % of the means lie inside.",
)


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
    check_page(path)  # before the pictures, which take minutes
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
    curve = threshold_curve(run, cases.measured.values())
    remarks = [] if run.kinds == ("experiments",) else judge(run, cases, curve)
    table = image_table(run, cases)
    curves, thresholds = training_charts(run), threshold_charts(run, curve)
    content: dict[str, Any] = {
        "figures": summary_figures(run),
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
        "commands": next_commands(run, program),
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
        version=own_version(),
        title=f"{name}: {' and '.join(run.kinds)}",
        kind=" and ".join(run.kinds),
        heading=shown(name),
        subtitle=_subtitle(run),
        contents=[(id, text) for id, (text, there) in sections.items() if there],
        **content,
    )


def _subtitle(run: Run) -> str:
    parts = []
    data = run.record.get("data") or (run.settings.training.dataset if run.settings else None)
    if data:
        parts.append(f"Data set {shown(Path(str(data)).name)}")
    if run.weights is not None and "training" not in run.kinds:
        parts.append(f"weights {shown(near(weights_name(run.weights)))}")
    started = str(run.record.get("started") or "")
    if started:
        parts.append(f"started {started[:16].replace('T', ' ')} UTC")
    seconds = run.record.get("seconds")
    if isinstance(seconds, (int, float)):
        parts.append(f"took {duration(seconds)}")
    text = ", ".join(parts)
    return f"{text}." if text else ""


def _pictures_text(run: Run, cases: Cases) -> str:
    count, available = len(cases.cases), cases.available
    if not count:
        return ""
    measured = bool(run.table) or any(case.measured.scores for case in cases.cases)
    text = f"{_images(count)} of {available}" if count < available else f"All images: {count}"
    if count < available:
        text += ", half of them the worst of all, the others" if measured else ","
        text += " drawn at random (--images shows more)"
    text += ". The worst come first." if measured else ". Uncertain images come first."
    if cases.segmented_here:
        text += f" Segmented for this page: {_images(cases.segmented_here)}, in {duration(cases.seconds)}."
    return text


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _used_measures(run: Run, cases: Cases) -> set[str]:
    names = {column for row in run.table.values() for column, value in row.items() if value is not None}
    names |= {name for row in run.history for name, value in row.items() if value is not None}
    names |= {name for each in cases.measured.values() for name in each.scores}
    used = {words(name) for name in names}
    if any(each.mistakes is not None for each in cases.measured.values()):
        used |= set(DEFINITIONS)
    if any(each.uncertainty is not None for each in cases.measured.values()):
        used.add("uncertainty")
    return used | ({"mean Dice"} if any(name.startswith("val_dice") for name in names) else set())


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
        reason = "not found now, or a program" if run.is_in_place else "not looked for, since the folder was moved"
        facts += [("weights", f"{Path(str(record['weights'])).name}, {reason}")]
    return [(name, value) for name, value in facts if value]


def _settings(run: Run) -> list[tuple[str, str]]:
    """List the settings of the run: keys that users set. Components and parts of components are left out."""
    settings = run.record.get("settings", {})
    return [
        (name, near(str(value)))
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
