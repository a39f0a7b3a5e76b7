"""Measure what fine-tuning gains: quality against the number of training images, from weights and from scratch.

    python -m benchmarks.finetuning hela --from nuclei_small --images 3,10,all --epochs 12 --data data --out curves

All trainings of a data set have the same recipe, network, choosing and measured images. The length is `--epochs` of 100
steps, the same time on a quiet machine, or `--minutes`, the same time while nothing else runs. OUT receives `table.md`,
`finetuning.png` and `finetuning.json`, with all data sets that OUT has trainings of, and a folder for each training:
OUT/hela/10/finetuned/seed0. Finished trainings are left out, interrupted ones begin again: repeat the command.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.recipes import Way, table, train_and_measure
from benchmarks.tasks import HELA, U373, DataSet, save_parts
from bundle.experiments.provenance import hardware, versions
from scripts.data.datalist import find_pairs
from scripts.io.files import replacing, write_json
from scripts.published import find_weights
from scripts.settings import read_settings

CHOOSING = 3  # images at most: with few training images, nobody has many others
RECIPE = ("variant_fast", "variant_laptop")
LOW_RATE = {"learning_rate": 1.2e-4}
VIEWS = (1,)
WAYS = {
    "scratch": "from scratch",
    "finetuned": "fine-tuned",
    "frozen": "fine-tuned, contracting path frozen",
    "low_rate": "fine-tuned, low learning rate",
    "frozen_low_rate": "low learning rate, contracting path frozen",
}
VNC_METRICS = {
    "mean Dice": ("metrics.json", "mean", "mean_dice"),
    **{
        name: ("metrics.json", "mean", f"dice_{name}")
        for name in ("membrane", "intracellular", "mitochondria", "synapse", "glia")
    },
    "pixel error": ("metrics.json", "mean", "pixel_error"),
}


@dataclass(frozen=True)
class Blocks(DataSet):
    """A data set of frames or slices, in blocks: neighbours resemble each other.

    Attributes:
        training, choosing, measured: numbers of the images of each part.
        image_dir: folder of the images. None: a cell tracking set, where the numbers are frames.
    """

    training: range
    choosing: range
    measured: range
    image_dir: str | None = None


SETS = {
    "hela": Blocks(**vars(HELA), training=range(56), choosing=range(62, 72), measured=range(74, 84)),
    "u373": Blocks(**vars(U373), training=range(76), choosing=range(84, 98), measured=range(101, 115)),
    "vnc": Blocks(
        "drosophila-vnc",
        "data_multiclass",
        "val_mean_dice",
        VNC_METRICS,
        range(10),
        range(10, 12),
        range(12, 15),
        image_dir="raw",
    ),
}


def ways(weights: Path, epochs: int | None = None) -> dict[str, Way]:
    """List the ways to train, all with the network of the weights.

    | way | starts from | learning rate |
    |---|---|---|
    | scratch | random weights | of the recipe |
    | finetuned | the weights | of the recipe |
    | frozen | the weights, with frozen contracting path | of the recipe |
    | low_rate, frozen_low_rate | the same two | 0.3 of the recipe's |

    Args:
        weights: file with its settings beside.
        epochs: of 100 steps. None: until the time is over.

    Raises:
        ValueError: the weights have no settings.
    """
    settings = read_settings(weights)
    if settings is None or settings.network is None:
        raise ValueError(f"{weights} has no settings that name its network. Give weights with their .json file")
    network = {f"network_def#{name}": value for name, value in settings.network.items()}
    length = {} if epochs is None else {"max_epochs": epochs}
    start = {**length, "finetune": str(weights.resolve())}
    frozen = {**start, "freeze_contracting": True}
    return {
        "scratch": Way(RECIPE, {**length, **network}),
        "finetuned": Way(RECIPE, start),
        "frozen": Way(RECIPE, frozen),
        "low_rate": Way(RECIPE, {**start, **LOW_RATE}),
        "frozen_low_rate": Way(RECIPE, {**frozen, **LOW_RATE}),
    }


def spread(block: Sequence[int], number: int) -> list[int]:
    """Choose numbers evenly, with both ends. All, if there are not more.

    Example:
        >>> spread(range(56), 3)
        [0, 28, 55]
    """
    if number >= len(block):
        return list(block)
    return [block[k] for k in np.linspace(0, len(block) - 1, number).round().astype(int)]


def parts_of(task: Blocks, images: int, dataset: Path, out: Path) -> list[dict[str, str]]:
    """Choose the images of the training, and those of the measurement.

    Args:
        task: data set with its blocks.
        images: number of training images.
        dataset: folder of the data.
        out: folder for the split files of sets that are read by them.

    Returns:
        settings for both.
    """
    training, choosing = spread(task.training, images), spread(task.choosing, CHOOSING)
    if task.image_dir is not None:
        items = find_pairs(str(dataset), task.image_dir)
        out.mkdir(parents=True, exist_ok=True)
        files = save_parts(items, (training, choosing, task.measured), out, {"how": "benchmarks.finetuning"})
        return [{"split_file": str(file)} for file in files]
    texts = [", ".join(map(str, part)) for part in (training, choosing, task.measured)]
    return [{"training_frames#frames": texts[0], "validation_frames#frames": held} for held in texts[1:]]


def finished(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Read all finished trainings of a folder: data set -> runs.

    A run is the result of `train_and_measure` with "images", "way" and "seed". Sorted by these.

    Raises:
        ValueError: the trainings of a data set had different times.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in out.glob("*/*/*/seed*/result.json"):
        name, images, way, seed = file.parent.relative_to(out).parts
        result = json.loads(file.read_text(encoding="utf-8"))
        found[name].append({"images": int(images), "way": way, "seed": int(seed.removeprefix("seed")), **result})
    for name, runs in found.items():
        runs.sort(key=lambda run: (run["images"], list(WAYS).index(run["way"]), run["seed"]))
        lengths = {length_of(run) for run in runs}
        if len(lengths) > 1:
            raise ValueError(f"{out / name} has trainings of {' and of '.join(lengths)}. Give another --out")
    return dict(sorted(found.items()))


def length_of(run: Mapping[str, Any]) -> str:
    """Write the length of a training.

    Example:
        >>> length_of({"of": {"minutes": None, "way": {"settings": {"max_epochs": 12}}}})
        '12 epochs of 100 steps'
    """
    minutes = run["of"]["minutes"]
    return _length(minutes, None if minutes is not None else run["of"]["way"]["settings"]["max_epochs"])


def _length(minutes: float | None, epochs: int | None) -> str:
    return f"{epochs} epochs of 100 steps" if minutes is None else f"{minutes:g} minutes"


def grouped(runs: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], list[Mapping[str, Any]]]:
    """Put the seeds of a number of images and a way together."""
    groups: dict[tuple[int, str], list[Mapping[str, Any]]] = defaultdict(list)
    for run in runs:
        groups[run["images"], run["way"]].append(run)
    return dict(groups)


def tables(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Write the table of each data set in Markdown.

    Args:
        found: result of `finished`.
    """
    sections = []
    for name, runs in found.items():
        rows = {f"{images} images, {WAYS[way]}": group for (images, way), group in grouped(runs).items()}
        sections.append(f"## {name}\n\n{table(SETS[name], rows, runs[0]['of']['minutes'])}")
    return "\n".join(sections)


def learning_curves(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw a panel for each data set: score against number of training images, a line for each way.

    A point is the mean over seeds, a bar their range.

    Args:
        found: result of `finished`.
    """
    figure = Figure(figsize=(1 + 4 * len(found), 4.5), layout="constrained")
    lines_of_all: dict[str, Any] = {}  # label -> line, for one legend
    for axes, (name, runs) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        measure = next(iter(SETS[name].metrics))
        lines: dict[str, list[tuple[int, list[float]]]] = defaultdict(list)
        for (images, way), group in grouped(runs).items():
            lines[way].append((images, [run["views"]["1"][measure] for run in group]))
        for way, points in lines.items():
            middle = np.array([mean(values) for _, values in points])
            ends = np.array([[min(values), max(values)] for _, values in points]).T
            x = [images for images, _ in points]
            axes.errorbar(
                x, middle, abs(ends - middle), fmt="o-", capsize=3, label=WAYS[way], color=f"C{list(WAYS).index(way)}"
            )
        ticks = sorted({run["images"] for run in runs})
        axes.set(title=f"{SETS[name].folder}, {length_of(runs[0])}", xscale="log", ylabel=measure)
        axes.set_ylim(0, 1)
        axes.set_xlabel("training images")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        for label, line in zip(*reversed(axes.get_legend_handles_labels()), strict=True):
            lines_of_all.setdefault(label, line)
    figure.legend(lines_of_all.values(), lines_of_all, loc="outside lower center", ncols=2)
    return figure


def record(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Put together the content of `finetuning.json`, without paths.

    Args:
        found: result of `finished`.
    """
    kept = ("images", "way", "seed", "steps", "curve")
    return {
        name: {
            "length": length_of(runs[0]),
            "blocks": {part: _ends(getattr(SETS[name], part)) for part in ("training", "choosing", "measured")},
            "choosing images": len(spread(SETS[name].choosing, CHOOSING)),
            "weights": sorted({run["of"]["way"]["settings"].get("finetune", "") for run in runs} - {""}),
            "runs": [{key: run[key] for key in kept} | {"figures": run["views"]["1"]} for run in runs],
        }
        for name, runs in found.items()
    }


def _ends(block: range) -> str:
    return f"{block[0]}-{block[-1]}"


def write(out: Path) -> None:
    """Write `table.md`, `finetuning.png` and `finetuning.json` of all finished trainings."""
    found = finished(out)
    with replacing(out / "table.md") as file:
        file.write_text(tables(found), encoding="utf-8")
    with replacing(out / "finetuning.png") as file:
        learning_curves(found).savefig(file, dpi=120, format="png")
    write_json(out / "finetuning.json", {"sets": record(found), "versions": versions(), "hardware": hardware()})


def compare(
    name: str,
    weights: Path,
    images: Sequence[int],
    chosen: Sequence[str],
    seeds: Sequence[int],
    epochs: int | None,
    minutes: float | None,
    data: Path,
    out: Path,
) -> None:
    """Train and measure; write table, figure and record after each training.

    Args:
        name: key of `SETS`.
        weights: file to start from.
        images: numbers of training images.
        chosen: names of `ways`.
        seeds: of the trainings. They take turns, numbers of images within them, ways within those.
        epochs: of each training, or None.
        minutes: of each training, or None.
        data: folder with the folder of the data set.
        out: folder for the results.

    Raises:
        ValueError: the weights have no settings, or OUT has finished trainings of other settings or times.
    """
    task, out = SETS[name], out.resolve()
    asked = _length(minutes, epochs)
    other = {length_of(run) for run in finished(out).get(name, [])} - {asked}
    if other:
        raise ValueError(f"{out / name} has trainings of {' and of '.join(other)}, now {asked}. Give another --out")
    dataset, known = (data / task.folder).resolve(), ways(weights, epochs)
    for seed, number, way in product(seeds, images, chosen):
        number = min(number, len(task.training))
        folder = out / name / str(number)
        parts = parts_of(task, number, dataset, folder)
        run = train_and_measure(task, known[way], seed, minutes, dataset, parts, folder / way / f"seed{seed}", VIEWS)
        write(out)
        print(f"{name}, {number} images, {way}, seed {seed}: {run['views']['1']}", flush=True)


def main() -> None:
    """Train and measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--from", dest="weights", required=True, help="weights: a file, or a published name")
    parser.add_argument("--images", default="3,10,all", help="numbers of training images")
    parser.add_argument("--ways", default="scratch,finetuned", help=f"of {','.join(WAYS)}")
    parser.add_argument("--seeds", default="0")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--epochs", type=int, help="of 100 steps")
    length.add_argument("--minutes", type=float)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    chosen = given.ways.split(",")
    if not set(chosen) <= set(WAYS):
        parser.error(f"--ways {given.ways}: expected names of {','.join(WAYS)}")
    images = [len(SETS[given.set].training) if text == "all" else int(text) for text in given.images.split(",")]
    seeds = [int(seed) for seed in given.seeds.split(",")]
    weights = Path(find_weights(given.weights))
    compare(given.set, weights, images, chosen, seeds, given.epochs, given.minutes, given.data, given.out)


if __name__ == "__main__":
    main()
