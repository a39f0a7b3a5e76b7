"""Compare planned settings with the hand-made configurations of six public data sets, after equal steps or minutes.

    python -m benchmarks.planning em,nuclei,hela,u373,vnc,oct --epochs 20 --data data --out planning
    python -m benchmarks.planning nuclei --minutes 15 --seeds 0,1 --data data --out planning

Both ways have a quarter of the width, the recipe variant_fast, tiles as the way says, and the same parts: training
images, images for the choice of the weights and of the objects, and measured images. The plan sees no measured image
and starts from no weights. The classes of vnc have the names and the merged values of the hand-made configuration,
since no plan can know them. OUT receives `table.md`, `planning.json`, the plans, and a folder for each training.
Finished trainings are left out, interrupted ones begin again: repeat the command.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.finetuning import SETS as FRAMES_AND_SLICES
from benchmarks.finetuning import Blocks, parts_of
from benchmarks.recipes import Way, train_and_measure
from benchmarks.tasks import TASKS, Task, write_parts
from bundle.experiments.provenance import hardware, versions
from bundle.running.configuration import ROOT, read_file
from scripts.io.files import replacing, write_json
from scripts.machine import Machine
from scripts.planning.listing import find_items
from scripts.planning.measuring import measure
from scripts.planning.overlay import Plan, plan_of

OCT = Blocks(
    "OCT-DME-fluid",
    "variant_oct_fluid",
    "val_mean_dice",
    {  # over all pixels, as in validations. Most images have no fluid: a mean over images rewards empty results
        "mean Dice": ("metrics.json", "pooled", "mean_dice"),
        "mean IoU": ("metrics.json", "pooled", "mean_iou"),
    },
    training=range(55),  # subjects 1 to 5
    choosing=range(55, 66),  # 6
    measured=range(66, 88),  # 7 and 8
    image_dir="images",
)
SETS: dict[str, Task | Blocks] = {**TASKS, **FRAMES_AND_SLICES, "oct": OCT}
HAND_MADE, PLANNED = "hand-made", "planned"
VIEWS = (1,)
NAMED = ("label_kind", "label_values", "class_names")  # for classes: the user's part of a plan
SAME_LABELS = {"oct": {"label_kind": "binary"}}  # of both ways in the measurement


@dataclass(frozen=True)
class Length:
    """Length of the trainings.

    Args:
        epochs: of 100 steps, or None.
        minutes: or None.
    """

    epochs: int | None = None
    minutes: float | None = None

    @property
    def words(self) -> str:
        """Length for the table."""
        return f"{self.minutes:g} minutes" if self.epochs is None else f"{100 * self.epochs} steps"


def parts(task: Task | Blocks, dataset: Path, out: Path) -> list[Any]:
    """Write or name the images of the training and those of the measurement, for `train_and_measure`."""
    out.mkdir(parents=True, exist_ok=True)
    if isinstance(task, Task):
        return list(write_parts(task, dataset, out))
    return list(parts_of(task, len(task.training), dataset, out))


def without_measured(
    task: Task | Blocks, items: Sequence[dict[str, Any]], measured: Path | Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Leave the measured images out.

    Args:
        task: with the numbers of the measured images.
        items: all.
        measured: split file that names the measured images as validation, or settings.

    Example:
        >>> items = [{"image": f"d/{k}.png"} for k in range(88)]
        >>> len(without_measured(OCT, items, {}))
        66
    """
    if isinstance(task, Blocks):
        return [item for number, item in enumerate(items) if number not in task.measured]
    held = json.loads(Path(str(measured)).read_text(encoding="utf-8"))["validation"]
    return [item for item in items if not str(item["image"]).endswith(tuple(f"/{name}" for name in held))]


def planned(name: str, dataset: Path, out: Path) -> Plan:
    """Plan a data set without its measured images, for a CPU, and write `plan.yaml`.

    Raises:
        ValueError: OUT has another plan, of earlier trainings.
    """
    task, file = SETS[name], out / "plan.yaml"
    listing = find_items(dataset)
    seen = replace(listing, items=without_measured(task, listing.items, parts(task, dataset, out)[1]))
    given: dict[str, Any] = {}
    if name == "vnc":
        hand_made = read_file("--config_file", str(ROOT / "configs" / f"{task.config}.yaml"))
        given = {key: hand_made[key] for key in NAMED}
    machine = replace(Machine.here(), device="cpu", gpu_memory=0)
    plan = plan_of(dataset, measure(seen.items).facts, seen, machine, given, file)
    if plan.values["finetune"] is not None:
        raise ValueError(f"{name}: the plan starts from {plan.values['finetune']}. Name the folder as the weights do")
    if file.is_file() and file.read_text(encoding="utf-8") != plan.text:
        raise ValueError(f"{file} is another plan than now. Give another --out, or delete {out}")
    with replacing(file) as path:
        path.write_text(plan.text, encoding="utf-8")
    return plan


def compare(name: str, length: Length, seed: int, data: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Train and measure both ways.

    Args:
        name: key of `SETS`.
        length: of the trainings.
        seed: of the trainings.
        data: folder with the folders of the data sets.
        out: folder for the results.

    Returns:
        way -> result of `train_and_measure`.
    """
    task, folder = SETS[name], out / name
    dataset = (data / task.folder).resolve()
    planned(name, dataset, folder)
    split = parts(task, dataset, folder)
    if name in SAME_LABELS:
        split[1] = {**_settings(split[1]), **SAME_LABELS[name]}
    settings = {} if length.epochs is None else {"max_epochs": length.epochs}
    ways = {
        HAND_MADE: (task, Way(("variant_fast", "variant_laptop"), settings)),
        PLANNED: (replace(task, config=str(folder / "plan.yaml")), Way(("variant_fast",), settings)),
    }
    return {
        way: train_and_measure(one, how, seed, length.minutes, dataset, split, folder / way / f"seed{seed}", VIEWS)
        for way, (one, how) in ways.items()
    }


def _settings(part: Path | Mapping[str, Any]) -> dict[str, Any]:
    return dict(part) if isinstance(part, Mapping) else {"split_file": str(part)}


def table(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], length: Length) -> str:
    """Write the figures of both ways as a table in Markdown: means over seeds.

    Args:
        found: set -> way -> results of `train_and_measure`.
        length: of the trainings.

    Example:
        >>> run = {"views": {"1": {"SEG": 0.5}}}
        >>> table({"hela": {"hand-made": [run], "planned": [run]}}, Length(epochs=2)).splitlines()[-1]
        '| hela | SEG | .500 | .500 | 1 |'
    """
    lines = [f"{length.words}, a quarter of the width, on images that neither trained nor chose.", ""]
    lines += [f"| data | figure | {HAND_MADE} | {PLANNED} | seeds |", "|---|---|---|---|---|"]
    for name, ways in found.items():
        for figure in ways[PLANNED][0]["views"]["1"]:
            values = [[run["views"]["1"][figure] for run in ways[way]] for way in (HAND_MADE, PLANNED)]
            shown = [f"{mean(one):.3f}".removeprefix("0") if None not in one else "" for one in values]
            lines.append(f"| {name} | {figure} | {shown[0]} | {shown[1]} | {len(values[0])} |")
    return "\n".join(lines)


def record(
    found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], plans: Mapping[str, str], length: Length
) -> dict[str, Any]:
    """Put together the content of `planning.json`, without paths."""
    kept = {
        name: {
            way: [{"seed": run["of"]["seed"], "steps": run["steps"], "figures": run["views"]["1"]} for run in runs]
            for way, runs in ways.items()
        }
        for name, ways in found.items()
    }
    lines = {name: [line for line in text.splitlines() if "  # " in line] for name, text in plans.items()}
    sets = {name: {"plan": lines[name], "runs": runs} for name, runs in kept.items()}
    return {"length": length.words, "sets": sets, "versions": versions(), "hardware": hardware()}


def main() -> None:
    """Train and measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", help=f"of {','.join(SETS)}")
    parser.add_argument("--seeds", default="0")
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument("--epochs", type=int, help="of 100 steps")
    limit.add_argument("--minutes", type=float)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    names = given.sets.split(",")
    if not set(names) <= set(SETS):
        parser.error(f"expected names of {','.join(SETS)}, got {given.sets}")
    length, out = Length(given.epochs, given.minutes), given.out.resolve()
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed, name in product((int(seed) for seed in given.seeds.split(",")), names):
        for way, result in compare(name, length, seed, given.data, out).items():
            found.setdefault(name, {}).setdefault(way, []).append(result)
        plans = {one: (out / one / "plan.yaml").read_text(encoding="utf-8") for one in found}
        write_json(out / "planning.json", record(found, plans, length))
        with replacing(out / "table.md") as file:
            file.write_text(table(found, length) + "\n", encoding="utf-8")
        print(table(found, length), flush=True)


if __name__ == "__main__":
    main()
