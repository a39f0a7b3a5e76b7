"""Compare ways to train: quality on held-out images against seconds of training on the same machine.

    python -m benchmarks.recipes nuclei --ways fast,laptop --seeds 0,1 --minutes 15 --data data --out recipes
    python -m benchmarks.recipes nuclei --ways laptop --seeds 0,1 --steps 3000 --data data --out recipes

The data have three parts. One part trains. The second chooses the weights, and the objects are fitted to it. The third
is only measured. All ways and seeds have the same parts, and the same time or steps. `--out` receives `table.md`,
`curves.png`, and a folder for each training. Finished trainings are left out, interrupted ones begin again: repeat the
command.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, product
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.figure import Figure

from benchmarks.tasks import PARTS, TASKS, VIEWS, DataSet, Task, figures, write_parts
from bundle.experiments.experiments import network_of
from bundle.experiments.provenance import hardware
from bundle.running.run import ROOT, run
from scripts.handlers.history import read_history
from scripts.io.files import replacing, sha256_of, write_json

DIGITS = 4


@dataclass(frozen=True)
class Way:
    """Overlays and settings of a training."""

    overlays: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


WAYS = {
    "paper": Way(settings={"tiles_per_epoch": 100}),
    "adam": Way(("variant_adam",), {"tiles_per_epoch": 100}),
    "fast": Way(("variant_fast",)),
    "fast, half width": Way(("variant_fast",), network_of(32)),
    "laptop": Way(("variant_fast", "variant_laptop")),
    "laptop, half width": Way(("variant_fast", "variant_laptop"), network_of(32)),
    "laptop, class balance": Way(("variant_fast", "variant_laptop"), {"class_balance": "per_image"}),
    "laptop, zoom": Way(("variant_fast", "variant_laptop"), {"scale": 0.1}),
    "laptop, zoom, no class balance": Way(("variant_fast", "variant_laptop"), {"scale": 0.1, "class_balance": None}),
    "laptop, percentile": Way(("variant_fast", "variant_laptop"), {"intensity": "percentile"}),
    "laptop, gap of 2": Way(("variant_fast", "variant_laptop"), {"separation_gap": 2}),
    "laptop, w0 of 30": Way(("variant_fast", "variant_laptop"), {"w0": 30.0}),
    "laptop, exact weight maps": Way(("variant_fast", "variant_laptop", "variant_weights_after_warp")),
    "laptop, double learning rate": Way(("variant_fast", "variant_laptop"), {"learning_rate": 8e-4}),
}


def train_and_measure(
    task: DataSet,
    way: Way,
    seed: int,
    minutes: float | None,
    dataset: Path,
    parts: Sequence[Path | Mapping[str, Any]],
    out: Path,
    views: Sequence[int] = VIEWS,
) -> dict[str, Any]:
    """Train, measure, and write `result.json`. A finished training is read.

    Args:
        task: data set and figures.
        way: of the training.
        seed: of the training.
        minutes: of the training. None: as long as the way says.
        dataset: folder of the data.
        parts: split files of the training and of the measurement; or settings that choose the images.
        out: folder of the training.
        views: numbers of views of the measurements.

    Returns:
        "of": way, seed, minutes and parts; "hardware"; "steps"; "curve": [seconds, metric] of each validation; "views":
        figures for each number of views.

    Raises:
        RunError: the training or an evaluation failed.
        ValueError: the finished training had other parts, settings or minutes.
    """
    result_file = out / "result.json"
    named = [part if isinstance(part, Mapping) else sha256_of(part) for part in parts]
    training, measurement = (part if isinstance(part, Mapping) else {"split_file": str(part)} for part in parts)
    same: dict[str, Any] = {"minutes": minutes, "parts": named, "way": asdict(way), "seed": seed}
    if "finetune" in way.settings:
        same["way"]["settings"] = {**way.settings, "finetune": sha256_of(way.settings["finetune"])}
    same = json.loads(json.dumps(same))
    if result_file.is_file():
        known: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        if known["of"] != same:
            raise ValueError(f"{result_file} is of {known['of']}, now {same}. Give another --out, or delete {out}")
        return known
    configs = [_config(name) for name in ("train", task.config, *way.overlays)]
    places = {"dataset_dir": str(dataset), "output_dir": str(out), "model_dir": str(out)}
    given = {**places, **way.settings, **training, "patience": 0, "seed": seed}
    run("training", config_file=configs, max_minutes=minutes, **given)
    measured = {}
    for count in views:
        folder = out / f"views{count}"
        measuring = {**measurement, "ckpt_path": str(out / "model.pt"), "evaluation_dir": str(folder)}
        more = {"orientations": count, "save_panels": False, "warping_error": False}
        evaluation = [*configs, str(ROOT / "configs" / "evaluate.yaml")]
        run("evaluating", config_file=evaluation, **{**given, **measuring, **more})
        measured[str(count)] = figures(folder, task.metrics)
    history = read_history(out / "history.csv")
    seconds = accumulate(float(row["seconds"] or 0) for row in history)
    curve = [
        [spent, row[task.metric]]
        for spent, row in zip(seconds, history, strict=True)
        if row.get(task.metric) is not None
    ]
    result = {"of": same, "hardware": hardware(), "steps": history[-1]["iteration"], "curve": curve, "views": measured}
    write_json(result_file, result)
    return result


def _config(name: str) -> str:
    """Return the file of a configuration: a name in `configs`, or a path that ends in .yaml."""
    return name if name.endswith(".yaml") else str(ROOT / "configs" / f"{name}.yaml")


def table(task: DataSet, results: Mapping[str, Sequence[Mapping[str, Any]]], minutes: float | None) -> str:
    """Write the figures of all ways as a table in Markdown: the mean over seeds, and the range.

    Args:
        task: with the names of the figures.
        results: way -> results of `train_and_measure`, one for each seed. All have the same views.
        minutes: of each training. None: unlimited; the steps are in the table.

    Example:
        >>> task = DataSet("x", "y", "z", {"SEG": ()})
        >>> results = {"fast": [{"steps": 100, "views": {"1": {"SEG": 0.7}, "8": {"SEG": 0.8}}}]}
        >>> table(task, results, 15).splitlines()[-1]
        '| fast | 1 | 100 | 0.7000 | 0.8000 |'
    """
    views = list(next(iter(results.values()))[0]["views"])
    columns = [f"{name}, {count} view{'s' * (count != '1')}" for count, name in product(views, task.metrics)]
    lines = [f"{f'{minutes:g} minutes each' if minutes else 'Measured'}, on images that neither trained nor chose.", ""]
    lines += [f"| way | seeds | steps | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    for way, runs in results.items():
        cells = [str(len(runs)), f"{mean(one['steps'] for one in runs):.0f}"]
        for count, name in product(views, task.metrics):
            cells.append(_spread([one["views"][count][name] for one in runs]))
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    text = f"{mean(known):.{DIGITS}f}"
    return text if len(known) == 1 else f"{text} ({min(known):.{DIGITS}f} to {max(known):.{DIGITS}f})"


def curves(task: Task, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw the validation score of every training against its seconds, in one colour for each way."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (way, runs) in enumerate(results.items()):
        for one in runs:
            if one["curve"]:
                axes.plot(*zip(*one["curve"], strict=True), f"C{number}o-", label=way if one is runs[0] else None)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel(f"{task.metric.removeprefix('val_')}, images that choose the weights")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _of_length(steps: int) -> dict[str, int]:
    """Return the settings of a training of so many steps, with up to ten validations.

    Raises:
        ValueError: above 100 the number is no multiple of 100, or it is below 1.
    """
    if steps < 1 or (steps > 100 and steps % 100):
        raise ValueError(f"--steps {steps}: expected 1 to 100, or a multiple of 100")
    tiles = min(steps, 100)
    epochs = steps // tiles
    return {"tiles_per_epoch": tiles, "max_epochs": epochs, "val_interval": -(-epochs // 10)}


def main() -> None:
    """Train all ways with all seeds, and write table and curves after each training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--ways", default="fast,laptop", help=f"names, with commas or semicolons: {'; '.join(WAYS)}")
    parser.add_argument("--seeds", default="0,1")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=15)
    length.add_argument("--steps", type=int, default=None, help="instead of minutes; for machines with other work")
    parser.add_argument("--parts", type=int, default=PARTS, help="seed of the parts, for other images in each")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    ways = [name.strip() for name in given.ways.split(";" if ";" in given.ways or given.ways in WAYS else ",")]
    unknown = [name for name in ways if name not in WAYS]
    if unknown:
        parser.error(f"--ways {', '.join(unknown)}: expected {'; '.join(WAYS)}. With commas in a name, separate by ;")
    if not given.minutes > 0:
        parser.error(f"--minutes {given.minutes}: expected a number above 0")
    if len(set(ways)) < len(ways):
        parser.error(f"--ways {', '.join(ways)}: each once")
    seeds = [int(seed) for seed in given.seeds.split(",")]
    if given.parts != PARTS and TASKS[given.task].neighbours:
        parser.error(f"--parts: the parts of {given.task} are blocks of slices, without a seed")
    minutes = given.minutes if given.steps is None else None
    try:
        compare(TASKS[given.task], ways, seeds, minutes, given.data, given.out, given.steps, given.parts)
    except ValueError as error:
        parser.error(str(error))


def compare(
    task: Task,
    ways: Sequence[str],
    seeds: Sequence[int],
    minutes: float | None,
    data: Path,
    out: Path,
    steps: int | None = None,
    parts_seed: int = PARTS,
) -> dict[str, list[dict[str, Any]]]:
    """Train and measure; write `table.md` and `curves.png` after each training. Seeds take turns, ways within them."""
    more = {} if steps is None else _of_length(steps)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    dataset = (data / task.folder).resolve()
    with TemporaryDirectory() as place:
        for new in write_parts(task, dataset, Path(place), parts_seed):
            known = out / new.name
            if known.is_file() and known.read_bytes() != new.read_bytes():
                raise ValueError(f"{known} has other parts, of another task or --parts: give another --out")
    parts = write_parts(task, dataset, out, parts_seed)
    results: dict[str, list[dict[str, Any]]] = {}
    for seed, name in product(seeds, ways):
        folder = out / f"{name.replace(', ', '-').replace(' ', '_')}-seed{seed}"
        way = replace(WAYS[name], settings={**WAYS[name].settings, **more})
        found = train_and_measure(task, way, seed, minutes, dataset, parts, folder)
        results.setdefault(name, []).append(found)
        with replacing(out / "table.md") as file:
            file.write_text(table(task, results, minutes), encoding="utf-8")
        with replacing(out / "curves.png") as file:
            curves(task, results).savefig(file, dpi=120, format="png")
        print(f"{name}, seed {seed}: {found['views']}", flush=True)
    return results


if __name__ == "__main__":
    main()
