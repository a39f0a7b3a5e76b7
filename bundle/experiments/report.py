"""`python -m bundle report`: a page about a run; the results of `reproduce` beside the paper's and the board's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bundle.experiments.experiments import EXPERIMENTS, PAPER_FEATURES, Experiment, Published
from bundle.running.errors import RunError, UsageError
from bundle.running.reports import write_report
from scripts.io.files import replacing

RESULT, TABLE = "results.json", "table.md"
REPEATS = ("fold", "seed")  # differ between repeats
KEYS = (
    *("experiment", "ablation", "quick", "fold", "seed", "features", "command", "split", "epochs"),
    *("iterations", "iteration_seconds", "hardware", "weights", "evaluations"),
)
HIDDEN = (
    "Paper and board: measured on the challenges' hidden test data. Ours: measured on labelled data held out as "
    "described below, since hidden labels are not public. Ours are optimistic for three reasons: frames of a sequence "
    "and slices of a volume resemble each other; the epoch of the weights was chosen on the measured images; the "
    "thresholds, too, as in the EM challenge. Trained with Adam in place of the paper's SGD with momentum 0.99 "
    "(configs/variant_adam.yaml)."
)
QUICK = "Quick: shows that everything works; the figures mean nothing."
PADDED = (
    "The padded network trains on zero-padded tiles of 384 pixels. It is measured with 112 pixels of mirrored context, "
    "out of reach of the zeros."
)


def report(
    run: str | None = None,
    *,
    table: bool = False,
    open: bool = False,
    output: str | None = None,
    data: str | None = None,
    images: int = 24,
    results_dir: str | None = None,
) -> None:
    """Write a page about a training, an evaluation or a segmented folder.

    Writes RUN/report.html: summary and verdict, curves, pictures with truth, probability, objects and errors, a table
    of all images, settings and machine. A single file without network: works from a mail attachment. Images of a
    training are segmented with the saved weights. A training that still runs, or was interrupted, gives a page, too.
    For a folder of results of python -m bundle reproduce, the page compares with the paper and the board.

    Examples:
        python -m bundle report output/data
        python -m bundle report output/evaluation/test --open
        python -m bundle report --table

    Args:
        run: folder of a training, an evaluation, a segmentation, or of the results of python -m bundle reproduce.
        table: instead of a page, write RESULTS_DIR/table.md: the results of reproduce beside the paper's.
        open: open the page in the browser.
        output: file for the page. Default: RUN/report.html.
        data: folder of the images or of the data set, if they have moved. Default: as recorded in RUN/run.json.
        images: most images with pictures. 0: none.
        results_dir: as --table, for the results in this folder. Default: results.
    """
    if table or results_dir is not None:
        if run is not None:
            raise UsageError(f"--table takes no RUN, got {run}. Give the folder of the results as --results_dir {run}")
        write_table(Path(results_dir or "results").expanduser())
        return
    if run is None:
        raise UsageError("give the folder of a run, such as output/data, or --table for the table of the experiments")
    root = Path(run).expanduser()
    blocks = results_blocks(read_results(root)) if any(root.glob(f"*/{RESULT}")) else []
    write_report(run, open, output, data, images, blocks)


def write_table(root: Path) -> None:
    """Write `table.md` from every `*/results.json` below a folder, and print the table."""
    text = results_table(read_results(root))
    with replacing(root / TABLE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    print(f"{root / TABLE}: written")


def read_results(root: Path) -> list[dict[str, Any]]:
    """Read the results below a folder, experiments in the paper's order, each before its ablations.

    Raises:
        RunError: no results, or a damaged file.

    Example:
        >>> from bundle.running.run import ROOT
        >>> [result["experiment"] for result in read_results(ROOT / "docs" / "results")][:3]
        ['em', 'u373', 'hela']
    """
    found = [_read(path) for path in sorted(root.glob(f"*/{RESULT}"))]
    if not found:
        raise RunError(f"no {RESULT} below {root}; make one with: python -m bundle reproduce em --results_dir {root}")
    return sorted(found, key=_place)


def _place(result: dict[str, Any]) -> tuple[Any, ...]:
    """Sort key of a result: the paper's network first, repeats together."""
    kind = result["quick"], -result["features"], result["ablation"] or ""
    return list(EXPERIMENTS).index(result["experiment"]), *kind, result["fold"] or 0, result["seed"]


def _read(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in KEYS if key not in result]
        if missing or result["experiment"] not in EXPERIMENTS:
            raise ValueError(f"without {', '.join(missing)}" if missing else f"of {result['experiment']}")
    except ValueError as error:
        raise RunError(f"{path} is no result of reproduce ({error}); remove it, or reproduce it anew") from error
    return result


def results_table(results: Sequence[dict[str, Any]]) -> str:
    """Write results as Markdown: by experiment, a comparison with the paper, then all evaluations and ablations.

    Example:
        >>> from bundle.running.run import ROOT
        >>> print(results_table(read_results(ROOT / "docs" / "results")).splitlines()[0])
        # The paper's experiments, reproduced
    """
    written = {"heading": lambda block: f"## {block['text']}", "table": lambda block: _markdown(block["rows"])}
    sections = [written.get(block["kind"], lambda block: block["text"])(block) for block in results_blocks(results)]
    return "\n\n".join(["# The paper's experiments, reproduced", *sections]) + "\n"


def results_blocks(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """List the blocks of the table: `kind` ("heading", "text" or "table") and `text`; tables have `rows`.

    Example:
        >>> [block["kind"] for block in results_blocks([])]
        ['text']
    """
    blocks: list[dict[str, Any]] = [{"kind": "text", "text": HIDDEN}]
    for name, experiment in EXPERIMENTS.items():
        own = [result for result in results if result["experiment"] == name]
        if not own:
            continue
        blocks.append({"kind": "heading", "text": experiment.title})
        blocks.append({"kind": "text", "text": f"{experiment.protocol[0].upper()}{experiment.protocol[1:]}."})
        first = {(*_kind(result), result["fold"]): result for result in reversed(own) if not result["ablation"]}
        for result in (result for result in own if result in first.values()):
            blocks.append({"kind": "text", "text": _made(result)})
            blocks.append({"kind": "table", "text": "Paper, board and ours", "rows": _compared(experiment, result)})
        blocks.append({"kind": "table", "text": "All evaluations", "rows": _all_ways(experiment, own)})
        if any(result["ablation"] == "padded" for result in own):
            blocks.append({"kind": "text", "text": PADDED})
    return blocks


def _compared(experiment: Experiment, result: dict[str, Any]) -> list[list[str]]:
    """Make a table with the columns paper, board and ours."""
    ways = [way for way in result["evaluations"] if not way.startswith("tiles")]
    rows = [["measure", "paper", "board's best", *(f"ours, {way}" for way in ways)]]
    for line in experiment.published:
        ours = [_shown(_value(result["evaluations"][way], line), line.digits) for way in ways]
        rows.append([line.measure, _shown(line.paper, line.digits), _shown(line.board, line.digits), *ours])
    return rows


def _made(result: dict[str, Any]) -> str:
    """Say how a result was made."""
    minutes, machine = result["iteration_seconds"] / 60, result["hardware"]
    held = result["split"]["validation"]
    return (QUICK + " " if result["quick"] else "") + (
        f"{result['features']} features in the first level. Measured: {len(held)} images, {held[0]} to {held[-1]}. "
        f"`{result['command']}`: {result['epochs']} epochs, {result['iterations']} iterations in {minutes:.0f} "
        f"min, validations apart, on {machine.get('gpu', machine['processor'])}, seed {result['seed']}, weights "
        f"sha256 {result['weights']['sha256'][:12]}."
    )


def _all_ways(experiment: Experiment, results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Make a row for every evaluation of every result, then rows for the means of repeats."""
    rows = [["result", "measured", "images", *(line.measure for line in experiment.published), "iterations"]]
    for result in results:
        kind = [*_kind(result), *([f"fold {result['fold']}"] if result["fold"] is not None else [])]
        kind += [f"seed {result['seed']}"] if result["seed"] else []
        for way, metrics in result["evaluations"].items():
            values = [_shown(_value(metrics, line), line.digits) for line in experiment.published]
            rows.append([", ".join(kind), way, _images(metrics), *values, str(result["iterations"])])
    return [*rows, *_means(experiment, results)]


def _kind(result: dict[str, Any]) -> list[str]:
    """Describe ablation, quick and width of a result in words."""
    kind = [(result["ablation"] or "all of it").replace("_", " "), *(["quick"] if result["quick"] else [])]
    return kind + ([f"{result['features']} features"] if result["features"] != PAPER_FEATURES else [])


def _images(metrics: dict[str, Any]) -> str:
    """Count the measured images of an evaluation; images without annotation do not count."""
    counts = [report["images"] for report in metrics.values() if "images" in report]
    return str(counts[0]) if counts else "-"


def _means(experiment: Experiment, results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Write mean and standard deviation of a single run over repeats with other folds or seeds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        own_split = result["fold"] is None  # measures images that a fold measures, too
        groups.setdefault((own_split, *_kind(result), result["iterations"]), []).append(result)
    rows = []
    for (_, *kind, iterations), repeats in groups.items():
        if len(repeats) < 2:
            continue
        varied = " and ".join(f"{name}s" for name in REPEATS if len({result[name] for result in repeats}) > 1)
        for way in repeats[0]["evaluations"]:
            shown = []
            for line in experiment.published:
                values = [_value(result["evaluations"].get(way, {}), line) for result in repeats]
                known = [value for value in values if value is not None]
                whole = len(known) == len(values)
                shown.append(f"{fmean(known):.{line.digits}f} ± {stdev(known):.{line.digits}f}" if whole else "-")
            rows.append([", ".join([*kind, f"mean of {len(repeats)} {varied}"]), way, "", *shown, str(iterations)])
    return rows


def _value(metrics: dict[str, Any], line: Published) -> float | None:
    """Look up our value of a measure; None if the evaluation lacks it."""
    found: Any = metrics
    for key in line.where:
        try:
            found = found[key]
        except (KeyError, IndexError, TypeError):  # TypeError: null
            return None
    return found if isinstance(found, (int, float)) else None


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    aligned = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    lines = [f"| {' | '.join(row)} |" for row in aligned]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
