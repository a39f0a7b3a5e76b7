"""`python -m bundle bench`: measure speeds, and compare them with a baseline and the machine's limit."""

from __future__ import annotations

import importlib
import json
import os
import tempfile
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import psutil
import torch

from bundle.experiments.provenance import MACHINE
from bundle.running.errors import RunError, UsageError, check_whole, did_you_mean
from bundle.running.terminal import show
from scripts.io.files import replacing, write_json

BENCHMARKS = {  # module in benchmarks/ with a function `rows`: the measured work
    "weight_map": "the weight map of Eq. 2",
    "augmentation": "a training tile with its elastic deformation",
    "step": "the training step alone, and its share of the machine's rate",
    "training": "training from images to steps",
    "inference": "images of several sizes, and their share of the machine's rate; eight orientations",
    "folder": "a folder of images: read, segment, write",
    "start": "from the command line to the first iteration and the first prediction",
    "metrics": "the challenge's measures",
    "waiting": "the time a training at full speed waits for tiles",
    "gpu": "a GPU beside its own rate and another GPU's published figures; nothing without a GPU",
}
JSON, TABLE = "bench.json", "bench.md"


def bench(
    *names: str,
    repeats: int = 5,
    quick: bool = False,
    data: str = "data",
    device: str | None = None,
    threads: int | None = None,
    seconds: float | None = None,
    output: str = "output/bench",
) -> None:
    """Measure speeds as ratios; write JSON and a Markdown table.

    Every row compares our seconds with those of a baseline and with the machine's limit. The three take turns in the
    same run. All benchmarks take half an hour to over an hour on two cores. The benchmarks waiting and gpu need a
    GPU, except with --quick. Close other programs first.

    Examples:
        python -m bundle bench
        python -m bundle bench step inference --repeats 3
        python -m bundle bench --quick

    Args:
        names: by default all benchmarks: weight_map, augmentation, step, training, inference, folder, start, metrics,
            waiting, gpu.
        repeats: number of rounds. The table shows median, least and largest.
        quick: small networks and images, one round, in a minute: a test of the benchmarks; the times mean nothing.
        data: folder with isbi2012, as made by python -m bundle fetch. If missing, synthetic sections are used.
        device: device of the networks, e.g. cuda:0. Default: a GPU if present.
        threads: number of torch's threads. Default: torch's own choice.
        seconds: time limit of the benchmark gpu. Later rows are left out and named. Default: no limit.
        output: folder for bench.json and bench.md. The files keep their rows of all other benchmarks.
    """
    for name in names:
        if name not in BENCHMARKS:
            hint = did_you_mean(get_close_matches(str(name), BENCHMARKS, n=1)) or f"; there are {', '.join(BENCHMARKS)}"
            raise UsageError(f"no benchmark '{name}'{hint}")
    check_whole("repeats", repeats)
    where = _device(device)
    if threads is not None:
        check_whole("threads", threads)
        torch.set_num_threads(threads)
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise UsageError(f"--seconds is {seconds!r}, expected a number above 0")
    from benchmarks.measure import Setup  # here, since benchmarks import this package

    folder = Path(str(output))
    folder.mkdir(parents=True, exist_ok=True)
    content = _new_content(folder / JSON, quick, where)
    if content["load"] > 0.5:
        show(f"other programs are running (load {content['load']}): times will be too long, ratios uncertain")
    isbi2012 = Path(str(data)) / "isbi2012"
    with tempfile.TemporaryDirectory() as scratch:
        setup = Setup(
            repeats=1 if quick else repeats,
            device=where,
            data=isbi2012 if isbi2012.is_dir() else None,
            scratch=Path(scratch),
            quick=quick,
            seconds=seconds,
        )
        if setup.data is None:
            show(f"no {isbi2012}: synthetic sections are used in place of real slices")
        for name in BENCHMARKS:
            if names and name not in names:
                continue
            show(f": {BENCHMARKS[name]}", heading=name)
            rows = content["rows"][name] = []
            for row in importlib.import_module(f"benchmarks.{name}").rows(setup):
                rows.append(row.as_json())
                show("  " + _line(rows[-1]))
                _write(folder, content)
            _write(folder, content)
    show(f"\n{folder / TABLE}: the table; {folder / JSON}: every round")


def _device(name: str | None) -> torch.device:
    """Return the given device, or the default of the configurations."""
    try:
        device = torch.device(name or ("cuda:0" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # an unknown name; torch without CUDA; no GPU of this number
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device


def _new_content(path: Path, quick: bool, device: torch.device) -> dict[str, Any]:
    """Describe this run, with the rows of an earlier result. Times of different machines are not mixed."""
    head = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "quick": quick,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "load": round(psutil.getloadavg()[0] / (os.cpu_count() or 1), 2),
        **{key: make() for key, make in MACHINE.items()},
    }
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for key in ("hardware", "device", "threads", "quick"):
        if earlier and earlier.get(key) != head[key]:
            raise RunError(f"{path} holds times with {key} {earlier.get(key)}, now {head[key]}; give another --output")
    return head | {"rows": earlier.get("rows", {})}


def _write(folder: Path, content: dict[str, Any]) -> None:
    write_json(folder / JSON, content)
    with replacing(folder / TABLE) as temporary:
        temporary.write_text(f"{table(content)}\n## Details\n\n{details(content)}", encoding="utf-8")


def table(content: dict[str, Any]) -> str:
    """Render the content of bench.json as Markdown: the machine, and for each row its time, baseline and goal.

    Example:
        >>> hardware = {"processor": "AMD EPYC", "instructions": "AVX2", "cores": 2, "memory_gib": 8.0}
        >>> content = {"hardware": hardware, "versions": {"torch": "2.13.0", "monai": "1.6.1", "python": "3.11.7"}}
        >>> content |= {"threads": 2, "device": "cpu", "started": "2026-11-20T10:00:00", "quick": False, "rows": {}}
        >>> print(table(content).splitlines()[0])
        AMD EPYC with AVX2, 2 cores, 8.0 GiB. 2 threads, device cpu. torch 2.13.0, MONAI 1.6.1, Python 3.11.7. ...
    """
    hardware, versions = content["hardware"], content["versions"]
    parts = [f"{hardware['processor']} with {hardware['instructions']}", f"{hardware['cores']} cores"]
    parts += [f"{hardware['memory_gib']} GiB", *([hardware["gpu"]] if "gpu" in hardware else [])]
    machine = (
        f"{', '.join(parts)}. {content['threads']} threads, device {content['device']}. torch {versions['torch']}, "
        f"MONAI {versions['monai']}, Python {versions['python']}. Measured on {content['started'][:10]}."
    )
    warning = ["**Quick: small networks and images, nothing measured.**", ""] if content["quick"] else []
    lines = [_cells("work", "ours", "baseline", "ratio", "goal"), "|---|---|---|---|---|"]
    lines += [_table_line(row) for row in _rows(content)]
    return "\n".join([*warning, machine, "", *lines]) + "\n"


def details(content: dict[str, Any]) -> str:
    """Render the rest of a result as Markdown: for each row our settings, the spread of the ratio, the limit, notes."""
    head = ("work", "ours", "baseline", "spread of the ratio", "limit", "share of the limit", "notes")
    lines = [_cells(*head), "|---|---|---|---|---|---|---|"]
    for row in _rows(content):
        ours, baseline = row["ours"]["name"], row["baseline"]["name"] if row["baseline"] else ""
        spread, share = _spread(row["times_as_fast"]), _percent(row["share_of_limit"])
        lines.append(_cells(row["what"], ours, baseline, spread, _timed(row["limit"]), share, row["note"]))
    return "\n".join(lines) + "\n"


def _rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of a result, in the order of the table."""
    return [row for name in BENCHMARKS for row in content["rows"].get(name, [])]


def _table_line(row: dict[str, Any]) -> str:
    ours, share = row["ours"], row["share_of_limit"]
    goals = ", ".join(row["goals"])
    ratios = [f"{_number(row['times_as_fast']['median'])} x"] if row["times_as_fast"] else []
    if share and (not ratios or "of the limit" in goals):
        ratios.append(f"{share['median']:.0%} of the limit")
    return _cells(
        row["what"],
        f"**{_seconds(ours['median_seconds'])}**" if ours["seconds"] else ours["name"],
        _timed(row["baseline"]),
        ", ".join(ratios),
        {True: f"{goals}: reached", False: f"{goals}: **missed**", None: ""}[row["reached"]],
    )


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _line(row: dict[str, Any]) -> str:
    """Write a row for the terminal."""
    ours = row["ours"]
    parts = [f"{row['what']}: {_seconds(ours['median_seconds']) if ours['seconds'] else ours['name']}"]
    if ratio := row["times_as_fast"]:
        parts.append(f"{_number(ratio['median'])} x ({_spread(ratio)}) as fast as {row['baseline']['name']}")
    if row["share_of_limit"]:
        parts.append(f"{_percent(row['share_of_limit'])} of the limit ({row['limit']['name']})")
    if row["reached"] is not None:
        parts.append(f"goal {', '.join(row['goals'])}: {'reached' if row['reached'] else 'not reached'}")
    return "; ".join([*parts, *([row["note"]] if row["note"] else [])])


def _timed(work: dict[str, Any] | None) -> str:
    return f"{_seconds(work['median_seconds'])}, {work['name']}" if work else ""


def _seconds(value: float) -> str:
    return f"{_number(value)} s" if value >= 1 else f"{_number(1e3 * value)} ms"


def _number(value: float) -> str:
    """Three significant digits, without an exponent up to 999,999."""
    return f"{float(f'{value:.3g}'):g}"


def _spread(ratio: dict[str, float] | None) -> str:
    return "" if ratio is None else f"{_number(ratio['low'])} .. {_number(ratio['high'])}"


def _percent(ratio: dict[str, float] | None) -> str:
    return "" if ratio is None else f"{ratio['median']:.0%} ({ratio['low']:.0%} .. {ratio['high']:.0%})"
