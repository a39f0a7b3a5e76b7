"""Compare segmentation programs with ours: same images, same computing time on a single core, same measures.

    make peers-env
    python -m benchmarks.peers nuclei --minutes 10 --data data --out peers --python .venv-peers/bin/python

The parts of the data come from `benchmarks.tasks`. One part trains, a second part chooses weights and thresholds, the
third part is only measured. `--out` receives `table.md`, `curves.png`, `results.json`, and a folder for each
training with predictions, reports and `result.json`. Finished trainings are not repeated: after an interruption, give
the command again. Missing programs have a row without figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.peers.job import Job, read_plane
from benchmarks.recipes import WAYS, train_and_measure
from benchmarks.tasks import AP, TASKS, VIEWS, Task, figures, with_ap, write_parts
from bundle.experiments.provenance import hardware, versions
from bundle.running.run import ROOT
from scripts.data.datalist import find_pairs
from scripts.data.splits import split_datalist
from scripts.handlers.em_report import measure_slice, summarise_stack
from scripts.handlers.history import read_history
from scripts.handlers.object_report import measure_frame, summarise_frames
from scripts.io.files import replacing, sha256_of, write_json

CURVE = 5  # images of the curve
F1 = {f"F1 at IoU {iou}": ("object_metrics.json", "instances", k, "f1") for k, iou in ((0, 0.5), (2, 0.7), (4, 0.9))}
METRICS: Mapping[str, Mapping[str, tuple[str | int, ...]]] = {
    "em": TASKS["em"].metrics,
    "nuclei": {**F1, "SEG": ("object_metrics.json", "seg")},
}
CURVES = {"em": "V_Rand", "nuclei": "F1 at IoU 0.5"}
DIGITS = 3


@dataclass(frozen=True)
class Peer:
    """A program or a recipe to compare with.

    Attributes:
        module: in `benchmarks.peers`.
        package: must be installed. None: the recipe runs in our environment.
        tasks: keys of `benchmarks.tasks.TASKS`.
        settings: of the module.
    """

    module: str
    package: str | None
    tasks: Sequence[str] = ("em", "nuclei")
    settings: Mapping[str, Any] = field(default_factory=dict)


PEERS = {
    "MONAI BasicUNet": Peer("basic_unet", None),
    "write-up": Peer("write_up", None),
    "nnU-Net": Peer("nnunet", "nnunetv2", settings={"gpu_memory": 2}),  # batches for 8 GB take minutes on a core
    "StarDist": Peer("star_dist", "stardist", ("nuclei",)),
    "Cellpose": Peer("cell_pose", "cellpose", ("nuclei",)),
}
OURS = ("laptop", "fast, half width")


def job_of(task: str, dataset: Path, parts: tuple[Path, Path], minutes: float, seed: int, out: Path) -> Job:
    """List the files of the three parts for a peer.

    Args:
        task: key of `benchmarks.tasks.TASKS`.
        dataset: folder of the data.
        parts: split files, from `benchmarks.tasks.write_parts`.
        minutes: of training.
        seed: of weights and samples.
        out: folder of the training.
    """
    items = find_pairs(str(dataset))
    training, measured = (split_datalist(items, split_file=part) for part in parts)
    chosen = [(item["image"], item["label"]) for item in training["validation"]]
    step = max(1, len(chosen) // CURVE)
    return Job(
        task=task,
        training=[(item["image"], item["label"]) for item in training["training"]],
        chosen=chosen,
        curve=[image for image, _ in chosen[::step][:CURVE]],
        measured=[item["image"] for item in measured["validation"]],
        minutes=minutes,
        seed=seed,
        out=str(out),
    )


def measure(task: str, predictions: Path, truth: Mapping[str, str], report: Path) -> dict[str, float | None]:
    """Measure predictions as evaluations of this project do.

    Args:
        task: `em`: the predictions are probabilities, float (H, W). `nuclei`: instances, integers (H, W).
        predictions: folder with `<name>.tif`.
        truth: name -> file of the label.
        report: folder for `em_metrics.json` or `object_metrics.json`.

    Returns:
        Figures by the names of the table.

    Raises:
        FileNotFoundError: a prediction is missing.

    Example:
        >>> import tifffile
        >>> tifffile.imwrite("a.tif", np.array([[0, 1, 1, 0]], np.uint16))
        >>> measure("nuclei", Path(), {"a": "a.tif"}, Path("report"))["SEG"]
        1.0
    """
    found = {name: read_plane(str(predictions / f"{name}.tif")) for name in truth}
    labels = {name: read_plane(file).astype(np.int64) for name, file in truth.items()}
    names, summary = list(truth), {}
    if task == "em":
        slices = [measure_slice(np.clip(found[name], 0, 1), labels[name] > 0, warping=False) for name in names]
        summary = {"em_metrics.json": summarise_stack(names, slices, "measured")}
    else:
        frames = [measure_frame(found[name].astype(np.int64), labels[name]) for name in names]
        summary = {"object_metrics.json": summarise_frames(names, frames, "measured")}
    report.mkdir(parents=True, exist_ok=True)
    for file, content in summary.items():
        write_json(report / file, content)
    return with_ap(figures(report, METRICS[task]))


def run_peer(name: str, python: str, job: Job, labels: Mapping[str, str], same: Mapping[str, Any]) -> dict[str, Any]:
    """Train and measure a peer, and write `result.json`. Finished trainings are read.

    Args:
        name: key of `PEERS`.
        python: of the peer's environment.
        job: from `job_of`.
        labels: image -> file of the label, also of measured images. The peer never receives labels of measured images.
        same: facts of a finished training. Different facts raise ValueError.

    Returns:
        "figures", "curve" [seconds, score], "training" (content of `training.json`). If the peer is
        not installed or fails: only "missing", the reason, and no file.
    """
    peer, out = PEERS[name], Path(job.out)
    known = _finished(out, same)
    if known is not None:
        return known
    if peer.package is not None and not installed(python, peer.package):
        return {"missing": f"not installed: {peer.package}"}
    for old in ("curve", "measured"):  # of an interrupted try
        shutil.rmtree(out / old, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "job.json", asdict(job))
    command = [python, "-m", f"benchmarks.peers.{peer.module}", str(out / "job.json")]
    with (out / "log.txt").open("w", encoding="utf-8") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False).returncode
    if code != 0:
        return {"missing": f"failed with code {code}, see {out.name}/log.txt"}
    chosen, measured = ({Path(image).stem: labels[image] for image in part} for part in (job.curve, job.measured))
    curve = []
    for folder in sorted((out / "curve").glob("*")):
        score = measure(job.task, folder, chosen, out / "reports" / folder.name)[CURVES[job.task]]
        curve.append([float(folder.name), score])
    result = {
        "of": same,
        "figures": measure(job.task, out / "measured", measured, out / "reports" / "measured"),
        "curve": curve,
        "training": json.loads((out / "training.json").read_text(encoding="utf-8")),
    }
    write_json(out / "result.json", result)
    return result


def run_ours(
    way: str, task: Task, name: str, seed: int, minutes: float, dataset: Path, parts: tuple[Path, Path], out: Path
) -> dict[str, dict[str, Any]]:
    """Train and measure a way of `benchmarks.recipes`; results as of `run_peer`, for each number of views."""
    task = replace(task, metrics=METRICS[name])
    settings = {**WAYS[way].settings, "num_workers": 0, "time_limit#_target_": "benchmarks.peers.cpu_time.CpuTimeLimit"}
    torch.set_num_threads(1)
    found = train_and_measure(task, replace(WAYS[way], settings=settings), seed, minutes, dataset, parts, out)
    steps = found["steps"]
    validated = [row for row in read_history(out / "history.csv") if row.get(task.metric) is not None]
    share = 60 * minutes / steps  # seconds of computing a step; the history has seconds of the wall clock
    points = [[share * (row["iteration"] or 0), row[task.metric]] for row in validated]
    more = {"curve": points, "training": {"steps": steps, "seconds": 60 * minutes}}
    return {
        f"ours, {way}, {count} view{'s' * (count > 1)}": {"figures": with_ap(found["views"][str(count)]), **more}
        for count in VIEWS
    }


def table(task: str, results: Mapping[str, Mapping[str, Any]], minutes: float) -> str:
    """Write the figures of all programs as a table in Markdown.

    Args:
        task: key of `METRICS`.
        results: name -> result of `run_peer`.
        minutes: of each training.

    Example:
        >>> print(table("em", {"nnU-Net": {"missing": "not installed: nnunetv2"}}, 10).splitlines()[-1])
        | nnU-Net | not installed: nnunetv2 |  |  |  |
    """
    names = [*METRICS[task], *([AP] if task == "nuclei" else [])]
    lines = [
        f"{minutes:g} minutes of computing each, on a single core; measured on images that neither trained nor chose.",
        "",
    ]
    lines += [f"| program | steps | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for program, result in results.items():
        steps = result.get("missing", "")
        values: list[float | None] = [None] * len(names)
        if "missing" not in result:
            steps = str(int(result["training"]["steps"]))
            values = [result["figures"][name] for name in names]
        texts = ["" if value is None else f"{value:.{DIGITS}f}" for value in values]
        lines.append(f"| {program} | {' | '.join([steps, *texts])} |")
    return "\n".join(lines) + "\n"


def curves(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Figure:
    """Draw the score on chosen images against the seconds of training, a line for each program.

    Args:
        runs: task -> name -> result of `run_peer`. Every task has a panel.
    """
    figure = Figure(figsize=(1 + 5.5 * len(runs), 4.5), layout="constrained")
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    colours: dict[str, str] = {}  # of a program in all panels
    for axes, (task, results) in zip(panels, runs.items(), strict=True):
        for program, result in results.items():
            known = [point for point in result.get("curve", []) if point[1] is not None]
            if known and not program.endswith("8 views"):
                colour = colours.setdefault(program, f"C{len(colours)}")
                axes.plot(*zip(*known, strict=True), f"{colour}o-", label=program.removesuffix(", 1 view"))
        axes.set_title(TASKS[task].folder)
        axes.set_xlabel("seconds of computing, single core")
        axes.set_ylabel(f"{CURVES[task]}, images that choose the weights")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    return figure


def installed(python: str, package: str) -> bool:
    """Tell whether the environment of an interpreter has a package."""
    if python == sys.executable:
        return find_spec(package) is not None
    code = f"import sys, importlib.util; sys.exit(importlib.util.find_spec({package!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], check=False).returncode == 0
    except OSError:
        return False


def compare(
    task: str,
    peers: Sequence[str],
    ours: Sequence[str],
    minutes: float,
    seed: int,
    data: Path,
    out: Path,
    python: Mapping[str, str],
    settings: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Train and measure all; write `table.md`, `curves.png` and `results.json` after each training.

    Args:
        task: key of `benchmarks.tasks.TASKS`.
        peers: keys of `PEERS`.
        ours: keys of `benchmarks.recipes.WAYS`.
        minutes: of each training.
        seed: of weights and samples.
        data: folder with the folder of the data set.
        out: folder for all results.
        python: peer, or "" for all others -> interpreter of its environment.
        settings: for all peers, as in `Job`.
    """
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    dataset = (data / TASKS[task].folder).resolve()
    parts = write_parts(TASKS[task], dataset, out)
    labels = {item["image"]: item["label"] for item in find_pairs(str(dataset))}
    every = job_of(task, dataset, parts, minutes, seed, out)
    counts = {part: len(getattr(every, part)) for part in ("training", "chosen", "curve", "measured")}
    results: dict[str, dict[str, Any]] = {}

    def save() -> None:
        with replacing(out / "table.md") as file:
            file.write_text(table(task, results, minutes), encoding="utf-8")
        with replacing(out / "curves.png") as file:
            curves({task: results}).savefig(file, dpi=120, format="png")
        facts = {"task": task, "minutes": minutes, "seed": seed, "images": counts}
        write_json(out / "results.json", {**facts, "programs": results, "versions": versions(), "hardware": hardware()})

    for way in ours:
        place = out / f"ours-{way.replace(', ', '-').replace(' ', '_')}"
        results |= run_ours(way, TASKS[task], task, seed, minutes, dataset, parts, place)
        save()
    for name in peers:
        if task not in PEERS[name].tasks:
            results[name] = {"missing": "finds objects, not membranes"}
            save()
            continue
        job = job_of(task, dataset, parts, minutes, seed, out / PEERS[name].module)
        job.settings = {**PEERS[name].settings, **(settings or {})}
        same = {
            "minutes": minutes,
            "seed": seed,
            "settings": job.settings,
            "parts": [sha256_of(part) for part in parts],
        }
        interpreter = (
            sys.executable if PEERS[name].package is None else python.get(name, python.get("", sys.executable))
        )
        results[name] = run_peer(name, interpreter, job, labels, same)
        save()
        print(f"{name}: {results[name].get('figures', results[name].get('missing'))}", flush=True)
    return results


def _finished(out: Path, same: Mapping[str, Any]) -> dict[str, Any] | None:
    file = out / "result.json"
    if not file.is_file():
        return None
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if known["of"] != same:
        raise ValueError(f"{file} is of {known['of']}, now {same}. Give another --out, or delete {out}")
    return known


def main() -> None:
    """Train all programs that are installed, and write table and curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--peers", default=", ".join(PEERS), help="names with commas (default: %(default)s)")
    parser.add_argument("--ours", default="laptop", help=f"names with semicolons: {'; '.join(OURS)}; none: ''")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--core", type=int, default=None, help="run all trainings on this core (Linux)")
    parser.add_argument(
        "--python", action="append", default=[], metavar="[PEER=]PATH", help="interpreter with all or one of the peers"
    )
    given = parser.parse_args()
    peers = [name.strip() for name in given.peers.split(",") if name.strip()]
    ours = [name.strip() for name in given.ours.split(";") if name.strip()]
    unknown = [name for name in peers if name not in PEERS] + [name for name in ours if name not in WAYS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected --peers of {', '.join(PEERS)}, --ours of {'; '.join(WAYS)}")
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    python = dict(map(_interpreter, given.python))
    compare(given.task, peers, ours, given.minutes, given.seed, given.data, given.out, python)


def _interpreter(text: str) -> tuple[str, str]:
    name, _, path = text.rpartition("=")
    return name, str(Path(path).absolute())


if __name__ == "__main__":
    main()
