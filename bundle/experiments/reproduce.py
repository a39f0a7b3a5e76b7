"""`python -m bundle reproduce`: train and measure an experiment of the paper or an ablation, and write the results.

Finished steps are recorded in a file. After an interruption a run continues with the next step.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from bundle.datasets.fetch import DATA_SETS
from bundle.experiments.experiments import ABLATIONS, EXPERIMENTS, Experiment
from bundle.experiments.provenance import MACHINE
from bundle.experiments.report import RESULT, write_table
from bundle.experiments.variants import variants
from bundle.running.errors import UsageError, check_whole
from bundle.running.overrides import check_overrides
from bundle.running.run import ROOT, run
from scripts.handlers.history import read_history
from scripts.io.files import replacing, sha256_of, write_json

CONFIG = "train.yaml"  # the merged configuration in the results folder
REPORTS = {"classes": "metrics.json", "em": "em_metrics.json", "objects": "object_metrics.json"}
# keys without influence on results: an experiment may continue with other values
ELSEWHERE = (
    *("bundle_root", "dataset_dir", "output_dir", "model_dir", "evaluation_dir", "ckpt_path"),
    *("device", "num_workers", "resume"),
)


class StepRecord:
    """Record finished steps, with the time, versions and hardware of every go, in a file.

    Args:
        path: JSON file, {step: {"done": bool, "goes": [{"started", "seconds", "versions", "hardware"}]}}.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def has(self, step: str) -> bool:
        """Whether a step is finished."""
        return bool(self.content.get(step, {}).get("done"))

    def done(self, step: str) -> None:
        """Record a step as finished."""
        self.content.setdefault(step, {"goes": []})["done"] = True
        write_json(self.path, self.content)

    @contextmanager
    def running(self, step: str) -> Iterator[None]:
        """Time a go at a step, also if interrupted; `seconds` stays null if the process is killed."""
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        go: dict[str, Any] = {"started": started, "seconds": None, **{key: make() for key, make in MACHINE.items()}}
        self.content.setdefault(step, {"done": False, "goes": []})["goes"].append(go)
        write_json(self.path, self.content)
        begun = time.monotonic()
        try:
            yield
        finally:
            go["seconds"] = round(time.monotonic() - begun)
            write_json(self.path, self.content)


def reproduce(
    experiment: str,
    quick: bool = False,
    ablation: str | list[str] | None = None,
    dataset_dir: str | None = None,
    results_dir: str = "results",
    max_epochs: int | None = None,
    fold: int | str | None = None,
    seed: int | list[int] = 0,
    features: int | None = None,
) -> None:
    """Train and measure one of the paper's three experiments.

    Makes RESULTS_DIR/EXPERIMENT with the merged configuration, split, weights, curves, panels, all metrics and
    results.json (seed, versions, hardware, times, checksum of the weights). Makes RESULTS_DIR/table.md, a comparison
    of all results in RESULTS_DIR with the paper and the best of the challenge's board. After an interruption the same
    command continues.

    Examples:
        python -m bundle fetch isbi2012
        python -m bundle reproduce em
        python -m bundle reproduce hela --features 16 --ablation all --seed 0,1,2
        python -m bundle reproduce u373 --quick

    Args:
        experiment: em (ISBI 2012), u373 (PhC-C2DH-U373) or hela (DIC-C2DH-HeLa), with data from python -m bundle fetch.
        quick: a small network and few epochs: a test of this installation in minutes; the figures mean nothing.
        ablation: no_weight_map, no_elastic or padded; several: a,b; every ablation: all. Ablations train after the
            experiment itself, for as many epochs.
        dataset_dir: folder of the data. Default: the folder in the configuration.
        results_dir: where to write.
        max_epochs: number of epochs. Compare only results with equal numbers: use a RESULTS_DIR for each number.
        fold: em only: held out block of 5 slices, 0 to 4; all: every block in turn. Default: the last block.
        seed: random seed of weights, tiles and order. Several (0,1,2) train in turn, for the spread between repeats.
        features: channels of the network's first level, doubled at each lower level. Default: 64 as in the paper. 16
            trains about ten times as fast, for comparisons of variants.
    """
    if experiment not in EXPERIMENTS:
        raise UsageError(f"unknown experiment '{experiment}'; there are {', '.join(EXPERIMENTS)}")
    chosen = EXPERIMENTS[experiment]
    asked = variants(experiment, quick, ablation, fold, seed, features)
    if max_epochs is not None:
        check_whole("max_epochs", max_epochs)
    data = Path(str(dataset_dir or DATA_SETS[chosen.data].folder)).expanduser()
    if not data.is_dir():
        raise UsageError(f"no data in {data}; run python -m bundle fetch {chosen.data}, or set --dataset_dir")
    given: dict[str, Any] = {"max_epochs": chosen.max_epochs, "val_interval": chosen.val_interval}
    given |= chosen.quick if quick else {}
    given |= {} if max_epochs is None else {"max_epochs": max_epochs}
    given["dataset_dir"] = str(data.resolve())
    root = Path(str(results_dir)).expanduser().resolve()
    for variant in asked:
        facts = {**asdict(variant), "command": variant.command(max_epochs)}
        reproduce_one(chosen, root / variant.folder, {**given, **variant.overrides}, facts)
    write_table(root)


def reproduce_one(experiment: Experiment, folder: Path, given: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Train, evaluate and write all files into `folder`, with results.json. Finished steps are not repeated.

    Args:
        experiment, folder: configurations and evaluations, and the folder.
        given: overrides of the configuration, with `dataset_dir` and `max_epochs`.
        facts: the fields of a `Variant` and `command`, for results.json.

    Raises:
        UsageError: `folder` was begun with another configuration.
        RunError: training or evaluation failed.
    """
    overlays = (*experiment.configs, *ABLATIONS.get(facts["ablation"] or "", ()))
    files = [str(ROOT / "configs" / name) for name in ("train.yaml", *overlays)]
    given = {**given, "output_dir": str(folder / "train"), "model_dir": str(folder / "models")}
    _keep_config(files, given, folder / CONFIG, begun=(folder / CONFIG).is_file())
    record = StepRecord(folder / "progress.json")
    epochs, history = int(given["max_epochs"]), folder / "train" / "history.csv"
    weights, state = folder / "models" / "model.pt", folder / "models" / "training_state.pt"
    if not record.has("training"):
        if not (_is_trained(history, epochs) and state.is_file()):
            print(f"training {folder.name}: {experiment.title}, {epochs} epochs", flush=True)
            with record.running("training"):
                _run("training", files, {**given, "resume": state.is_file()})
        record.done("training")
    evaluations = dict(experiment.evaluations)
    if facts["ablation"] == "padded":  # no strides: the output of a padded network is as large as its input
        evaluations = {name: how for name, how in evaluations.items() if not name.startswith("tiles")}
    for name, evaluation in evaluations.items():
        place = folder / "evaluation" / name
        configs = [*files, *(str(ROOT / "configs" / file) for file in ("evaluate.yaml", *evaluation.configs))]
        changes = {**given, **evaluation.overrides, "evaluation_dir": str(place), "ckpt_path": str(weights)}
        _keep_config(configs, changes, place / "config.yaml", begun=record.has(name))
        if not record.has(name):
            print(f"measuring {folder.name}: {name}", flush=True)
            with record.running(name):
                _run("evaluating", configs, changes)
            record.done(name)
    rows = read_history(history)
    goes = record.content["training"]["goes"]
    pictures = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    result = {
        **facts,
        "title": experiment.title,
        "protocol": experiment.protocol,
        "split": json.loads((folder / "train" / "split.json").read_text(encoding="utf-8")),
        "config": CONFIG,
        "epochs": int(rows[-1]["epoch"] or 0),
        "iterations": int(rows[-1]["iteration"] or 0),
        "iteration_seconds": round(sum(row["seconds"] or 0.0 for row in rows)),  # without validation
        "steps": record.content,
        **{key: goes[-1][key] if goes else make() for key, make in MACHINE.items()},
        "weights": {"file": "models/model.pt", "sha256": sha256_of(weights), "bytes": weights.stat().st_size},
        "evaluations": {name: _metrics(folder / "evaluation" / name) for name in evaluations},
        "figures": [name for name in pictures if "/.tmp-" not in name],
    }
    write_json(folder / RESULT, result)
    print(f"{folder / RESULT}: written", flush=True)


def _run(run_id: str, files: list[str], changes: Mapping[str, Any]) -> None:
    run(run_id, config_file=files, **changes)
    gc.collect()  # frees the network and worker processes despite circular references


def _keep_config(files: list[str], changes: Mapping[str, Any], path: Path, begun: bool) -> None:
    """Write the merged configuration. If `begun`, compare with the file instead; UsageError if they differ."""
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update(check_overrides(parser.get(), changes))
    config = parser.get()
    if begun:
        earlier = ConfigParser.load_config_file(str(path))
        changed = [
            f"{key}: {earlier.get(key)!r} there, {config.get(key)!r} now"
            for key in {**earlier, **config}
            if key not in ELSEWHERE and earlier.get(key) != config.get(key)
        ]
        if changed:
            raise UsageError(
                f"{path.parent} was begun with another configuration ({', '.join(changed[:5])}); "
                "give another --results_dir, or remove the folder to begin anew"
            )
        return
    with replacing(path) as temporary:
        ConfigParser.export_config_file(config, str(temporary), fmt="yaml", sort_keys=False)


def _metrics(folder: Path) -> dict[str, Any]:
    """Read the reports of an evaluation, without the curves, which have files of their own."""
    found = {}
    for name, file in REPORTS.items():
        if (folder / file).is_file():
            content = json.loads((folder / file).read_text(encoding="utf-8"))
            found[name] = {key: value for key, value in content.items() if key != "curves"}
    return found


def _is_trained(history: Path, epochs: int) -> bool:
    """Whether the history of a training holds the last epoch with its validation."""
    rows = read_history(history) if history.is_file() else []
    last = rows[-1] if rows else {}
    validated = any(name.startswith("val_") and value is not None for name, value in last.items())
    return bool((last.get("epoch") or 0) >= epochs and last["iteration"] and validated)
