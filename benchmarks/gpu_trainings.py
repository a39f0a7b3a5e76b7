"""Train, measure and pack one data set on a GPU: weights in pieces, history, metrics, panels.

    python -m benchmarks.gpu_trainings em --minutes 5 --data data --out round/em

The minutes include loading libraries, caching images, measuring and packing. The remaining time trains (`max_minutes`).

| name | training images | images that choose weights and objects | measured images |
|---|---|---|---|
| em, em_small | slices 00-19 | slices 20-24 | slices 20-24 |
| em_all | slices 00-24 | slices 00-24, weights only | none |
| nuclei, nuclei_small | 80 % | 10 % | 10 % |
| hela, u373 | frames of `training_frames` | frames of `validation_frames` | the same frames |

`em_small` and `nuclei_small` have half the width and half the minutes. `em_all` trains weights for use with the recipe
of `em`, and no figure is claimed. The threshold is not fitted, since no other images remain. Take the fitted threshold
from `em.json` of the training `em`: `--set threshold 0.7`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from benchmarks.tasks import (
    CELL_METRICS,
    EM,
    HELA,
    TASKS,
    U373,
    VIEWS,
    DataSet,
    Task,
    course,
    figures,
    protocol,
    write_parts,
)
from bundle.datasets.sample import sample
from bundle.experiments.experiments import network_of
from bundle.experiments.provenance import hardware, versions
from bundle.running.configuration import ROOT, merge_files
from bundle.running.errors import RunError, UsageError
from bundle.running.overrides import check_overrides
from bundle.running.run import run
from scripts.inferers.precision import can_compile
from scripts.io.files import write_json
from scripts.settings import ModelSettings, read_settings, write_weights

RECIPE = "variant_fast"
PIECE = 14_900_000  # bytes; small enough for mail and other transfers from a computing centre
RESERVED, MOST_RESERVED = 0.4, 75.0  # share of the time, and largest number of seconds, without training


@dataclass(frozen=True)
class Training:
    """A data set and the settings of its training.

    Attributes:
        data: data set. The third part of a `Task` is measured. Of other data sets, the validation images are measured.
        share: share of the minutes of all measured trainings.
        settings: overrides of the configuration.
        all_images: whether all images train and choose the weights, usually the last. No image is measured.
    """

    data: DataSet
    share: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    all_images: bool = False


EM_SETTINGS = {"scale": 0.1}
NUCLEI_SETTINGS = {"batch_size": 16}  # tiles of 380 pixels
TRAININGS = {
    "em": Training(EM, 0.3, EM_SETTINGS),
    "em_small": Training(EM, 0.15, {**EM_SETTINGS, **network_of(32)}),
    "em_all": Training(EM, 0.3, EM_SETTINGS, all_images=True),
    "nuclei": Training(TASKS["nuclei"], 0.26, NUCLEI_SETTINGS),
    "nuclei_small": Training(TASKS["nuclei"], 0.13, {**NUCLEI_SETTINGS, **network_of(32)}),
    "hela": Training(HELA, 0.08),
    "u373": Training(U373, 0.08),
}
MEASURED = [name for name, training in TRAININGS.items() if not training.all_images]
ON_A_GPU = {"batch_size": 8, "tiles_per_epoch": 400}
ON_A_CPU = {"input_size": 188, "tiles_per_epoch": 8, **network_of(4)}  # shows that everything runs, measures nothing


def train_and_measure(name: str, minutes: float, data: Path, out: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Train, pack the weights, measure the packed weights on held-out images, if any, and write `result.json`.

    Args:
        name: key of `TRAININGS`.
        minutes: time limit for everything.
        data: folder with the folders of the data sets. Without a GPU, synthetic cells are used instead.
        out: receives all results.
        changes: further overrides of the configuration.

    Returns:
        The content of `result.json`.

    Raises:
        FileNotFoundError: on a GPU, `data` has no folder of this data set.
        RunError: the training failed.
        ValueError: the changes would have trained images measured.
    """
    begun = psutil.Process().create_time()  # includes the import of the libraries
    training = TRAININGS[name]
    seconds_to_train = 60 * minutes - min(RESERVED * 60 * minutes, MOST_RESERVED)
    on_gpu = torch.cuda.is_available()
    dataset, files = data / training.data.folder, ["train", training.data.config, RECIPE]
    given: dict[str, Any] = {**(ON_A_GPU if on_gpu else ON_A_CPU), **(training.settings if on_gpu else {})}
    if on_gpu and not dataset.is_dir():
        raise FileNotFoundError(f"No folder {dataset}. Give --data, the folder with {training.data.folder}.")
    if not on_gpu:
        sample(str(out / "sample"), overwrite=True)
        dataset, files = out / "sample" / "train", ["train", RECIPE]
        given |= {"label_kind": "instances", "key_metric": "seg"}
    given |= {"dataset_dir": str(dataset.resolve()), "output_dir": str(out / "train"), "model_dir": str(out / "models")}
    trained, measured = _parts(training, dataset, out)
    given |= {**trained, **changes}
    if given.get("split_rule") == "all" and not training.all_images:
        raise ValueError(f"{name} with split_rule all would be measured on images that trained. Train em_all")
    configs = [str(ROOT / "configs" / f"{file}.yaml") for file in files]
    weights = out / f"{name}.pt"
    result: dict[str, Any] = {
        "name": name,
        "minutes": minutes,
        "synthetic": not on_gpu,
        "settings": {key: value for key, value in given.items() if not key.endswith("_dir")},
        "versions": versions(),
        "hardware": hardware(),
    }
    compiles = (True, False) if on_gpu and can_compile("cuda") else (False,)
    for compiled in compiles:
        left = max(1.0, seconds_to_train - (time.time() - begun))
        try:
            run("training", config_file=configs, max_minutes=left / 60, compile=compiled, **given)
        except RunError as error:
            if not compiled:
                raise
            result["not compiled"] = str(error)  # a failing compiler must not prevent the training
        else:
            result["compiled"] = compiled
            break
    result |= course(out / "train" / "history.csv")
    result["training_seconds"] = round(time.time() - begun, 1)
    result["weights"] = pack(out / "models" / "model.pt", weights, scored=not training.all_images)
    write_json(out / "result.json", result)
    split = _read(out / "train" / "split.json")
    held = _read(measured["split_file"] if measured else out / "train" / "split.json")["validation"]
    result["protocol"] = protocol(split["training"], split["validation"], [] if training.all_images else held)
    write_json(out / "result.json", result)
    for views in () if training.all_images else VIEWS:
        spent = time.time() - begun
        if views > 1 and spent > 60 * minutes:
            result["left out"] = f"{views} views: {spent:.0f} s were over"
            write_json(out / "result.json", result)
            break
        asked = {"ckpt_path": str(weights), "evaluation_dir": str(out / f"views{views}"), "orientations": views}
        run(
            "evaluating",
            config_file=[*configs, str(ROOT / "configs" / "evaluate.yaml")],
            **{**given, **measured, **asked, "save_panels": views == 1, "warping_error": False},
        )
        metrics = CELL_METRICS if result["synthetic"] else training.data.metrics
        result[f"{views} views"] = figures(out / f"views{views}", metrics)
        result["seconds"] = round(time.time() - begun, 1)
        write_json(out / "result.json", result)
    return result


def _parts(training: Training, dataset: Path, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings for the images of the training, and for the measured images. Empty: the parts of the configuration."""
    if training.all_images:
        return {"split_rule": "all", "fit_objects": False}, {}
    if isinstance(training.data, Task):
        files = write_parts(training.data, dataset, out)
        return {"split_file": str(files[0])}, {"split_file": str(files[1])}
    return {}, {}


def _read(split: str | Path) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = json.loads(Path(split).read_text(encoding="utf-8"))
    return parts


def pack(weights: Path, packed: Path, piece: int = PIECE, scored: bool = True) -> dict[str, Any]:
    """Round weights to bfloat16, and cut the file into pieces with a checksum.

    Args:
        weights: file with a flat state_dict.
        packed: file to write, with its settings. The pieces are `<name>.00`, `<name>.01`, ... in the same folder.
        piece: bytes of the largest piece.
        scored: False: the settings have no score, because the images of the validation have trained the weights.

    Returns:
        "file", "sha256", "bytes", "pieces" (names) and "join" (command that joins the pieces).
    """
    state = torch.load(weights, map_location="cpu", weights_only=True)
    rounded = {key: value.bfloat16() if value.is_floating_point() else value for key, value in state.items()}
    settings = read_settings(weights) or ModelSettings()
    if not scored:
        settings = settings.model_copy(update={"training": settings.training.model_copy(update={"best": None})})
    write_weights(rounded, packed, settings)
    content = packed.read_bytes()
    names = []
    for number, first in enumerate(range(0, len(content), piece)):
        names.append(f"{packed.name}.{number:02d}")
        (packed.parent / names[-1]).write_bytes(content[first : first + piece])
    checksum = hashlib.sha256(content).hexdigest()
    (packed.parent / f"{packed.name}.sha256").write_text(f"{checksum}  {packed.name}\n", encoding="utf-8")
    join = f"cat {packed.name}.?? > {packed.name} && sha256sum -c {packed.name}.sha256"
    return {"file": packed.name, "sha256": checksum, "bytes": len(content), "pieces": names, "join": join}


def told(result: Mapping[str, Any]) -> list[str]:
    """Format the content of `result.json` as lines of a summary."""
    lines = [
        f"{result['steps']} steps in {result['step_seconds']:.0f} s, {result['ms_a_step']:.1f} ms a step; in all "
        f"{result.get('seconds', result['training_seconds']):.0f} s",
        result["protocol"],
    ]
    for views in (f"{count} views" for count in VIEWS if f"{count} views" in result):
        lines += [f"{views}: " + ", ".join(f"{k} {v:.4f}" for k, v in result[views].items() if v is not None)]
    weights = result["weights"]
    packed = f"weights: {len(weights['pieces'])} pieces, sha256 {weights['sha256'][:12]}; {weights['join']}"
    return [*lines, packed, *([result["left out"]] if "left out" in result else [])]


def main() -> None:
    """Run one training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TRAININGS)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="an override")
    arguments = parser.parse_args()
    if not arguments.minutes > 0:
        parser.error(f"--minutes {arguments.minutes}: expected a number above 0")
    try:
        changes = _changes(arguments.name, arguments.set)
        arguments.out.mkdir(parents=True, exist_ok=True)
        train_and_measure(arguments.name, arguments.minutes, arguments.data, arguments.out.resolve(), changes)
    except (UsageError, RunError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _changes(name: str, words: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Read values as YAML, and check all before anything is written."""
    files = [str(ROOT / "configs" / f"{part}.yaml") for part in ("train", TRAININGS[name].data.config, RECIPE)]
    changes = {}
    for key, value in words:
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {key} {value}: not readable as a value of YAML") from error
    check_overrides(merge_files("--config_file", files), changes)
    return changes


if __name__ == "__main__":
    main()
