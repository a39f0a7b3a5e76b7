"""`python -m bundle reproduce`: train, measure and write down one of the paper's experiments, or an ablation of it.

Which steps of a long piece of work are done, kept in a file, so that it can go on after any interruption.
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

from bundle.errors import UsageError
from bundle.experiments.experiments import ABLATIONS, EXPERIMENTS, Experiment
from bundle.experiments.provenance import MACHINE, sha256_of
from bundle.experiments.report import RESULT, report
from bundle.experiments.variants import check_count, variants
from bundle.running.overrides import check_overrides
from bundle.running.run import ROOT, run
from scripts.handlers.history import read_history
from scripts.io.files import replacing, write_json


class StepRecord:
    """Which steps are done, how long each took and in how many goes; a file, so that a later call knows.

    Args:
        path: JSON file, {step: {"done": bool, "goes": [{"started", "seconds", "versions", "hardware"}]}}.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def has(self, step: str) -> bool:
        """Whether a step is done."""
        return bool(self.content.get(step, {}).get("done"))

    def done(self, step: str) -> None:
        """Note that a step is done."""
        self.content.setdefault(step, {"goes": []})["done"] = True
        write_json(self.path, self.content)

    @contextmanager
    def running(self, step: str) -> Iterator[None]:
        """Time one go at a step, even when it is interrupted; of one that was killed `seconds` stays null."""
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


CONFIG = "train.yaml"  # the configuration as run, in the results folder
REPORTS = {"classes": "metrics.json", "em": "em_metrics.json", "objects": "object_metrics.json"}
# may differ when an experiment goes on: where things are and what runs them, nothing that changes results
ELSEWHERE = (
    *("bundle_root", "dataset_dir", "output_dir", "model_dir", "evaluation_dir", "ckpt_path"),
    *("device", "num_workers", "resume"),
)


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
    """Train, measure and write down one of the paper's three experiments.

    Makes RESULTS_DIR/EXPERIMENT with the configuration as run, split, weights, curves, panels, every metric and
    results.json (seed, versions, hardware, times, checksum of the weights), and RESULTS_DIR/table.md, which sets paper,
    best of the board and all results there side by side. Interrupted, the same command goes on where it stopped.

    Args:
        experiment: em (ISBI 2012), u373 (PhC-C2DH-U373) or hela (DIC-C2DH-HeLa); data as `python -m bundle fetch` lays
            them.
        quick: a small network and few epochs: shows in minutes that all of it works here; the figures mean nothing.
        ablation: no_weight_map, no_elastic or padded (several: a,b; all of them: all), with the same budget; trained
            after the experiment itself.
        dataset_dir: where the data are, if not where the configuration looks.
        results_dir: where to write.
        max_epochs: another budget. Compare only results of one budget: give each its own RESULTS_DIR.
        fold: em only: which of the 5 blocks of 5 slices is held out, 0 to 4, or all, one after the other; by default
            the last.
        seed: of weights, tiles and order; several (0,1,2) one after the other, for the spread between repeats.
        features: channels of the network's first level, the paper's 64; each level below has twice as many. 16 trains
            about ten times as fast: for comparing variants.
    """
    if experiment not in EXPERIMENTS:
        raise UsageError(f"unknown experiment '{experiment}'; there are {', '.join(EXPERIMENTS)}")
    chosen = EXPERIMENTS[experiment]
    asked = variants(experiment, quick, ablation, fold, seed, features)
    if max_epochs is not None:
        check_count("max_epochs", max_epochs)
    data = Path(str(dataset_dir or chosen.dataset_dir)).expanduser()
    if not data.is_dir():
        raise UsageError(
            f"no data in {data}; get them with: python -m bundle fetch {chosen.data}, or set --dataset_dir to them"
        )
    given: dict[str, Any] = {"max_epochs": chosen.max_epochs, "val_interval": chosen.val_interval}
    given |= chosen.quick if quick else {}
    given |= {} if max_epochs is None else {"max_epochs": max_epochs}
    given |= {"dataset_dir": str(data.resolve())}
    root = Path(str(results_dir)).expanduser().resolve()
    for variant in asked:
        facts = {**asdict(variant), "command": variant.command(max_epochs)}
        reproduce_one(chosen, root / variant.folder, {**given, **variant.overrides}, facts)
    report(str(root))


def reproduce_one(experiment: Experiment, folder: Path, given: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Train, evaluate, write results.json; what is there already is not done again.

    Args:
        experiment: what to do.
        folder: receives everything.
        given: overrides of the configuration; `dataset_dir` and `max_epochs` among them.
        facts: those of a `Variant`, and `command`, as they are to stand in results.json.

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
    names = {name: evaluation for name, evaluation in experiment.evaluations.items() if not _useless(name, facts)}
    for name, evaluation in names.items():
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
        "evaluations": {name: _metrics(folder / "evaluation" / name) for name in names},
        "figures": [name for name in pictures if "/.tmp-" not in name],
    }
    write_json(folder / RESULT, result)
    print(f"{folder / RESULT}: written", flush=True)


def _run(run_id: str, files: list[str], changes: Mapping[str, Any]) -> None:
    run(run_id, config_file=files, **changes)
    gc.collect()  # a workflow's parts refer to each other: its network and worker processes stay until then


def _useless(evaluation: str, facts: Mapping[str, Any]) -> bool:
    """Strides are not an idea of a padded network, whose output is as large as its input."""
    return facts["ablation"] == "padded" and evaluation.startswith("tiles")


def _keep_config(files: list[str], changes: Mapping[str, Any], path: Path, begun: bool) -> None:
    """Write the merged configuration; where something was `begun` with one, refuse to go on with another.

    Raises:
        UsageError: names the keys that differ.
    """
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update(check_overrides(parser.get(), changes))
    config = parser.get()
    if begun:
        earlier = ConfigParser.load_config_file(str(path))
        differing = [
            key for key in {**earlier, **config} if key not in ELSEWHERE and earlier.get(key) != config.get(key)
        ]
        if differing:
            told = ", ".join(f"{key}: {earlier.get(key)!r} there, {config.get(key)!r} now" for key in differing[:5])
            raise UsageError(
                f"{path.parent} was begun with another configuration ({told}); give another --results_dir, or remove "
                "that folder to begin anew"
            )
        return
    with replacing(path) as temporary:
        ConfigParser.export_config_file(config, str(temporary), fmt="yaml", sort_keys=False)


def _metrics(folder: Path) -> dict[str, Any]:
    """What the reports of an evaluation hold, without the curves, which stay in their own files."""
    found = {}
    for name, file in REPORTS.items():
        if (folder / file).is_file():
            content = json.loads((folder / file).read_text(encoding="utf-8"))
            found[name] = {key: value for key, value in content.items() if key != "curves"}
    return found


def _is_trained(history: Path, epochs: int) -> bool:
    """Whether the last epoch is in a training's history, validation and all."""
    rows = read_history(history) if history.is_file() else []
    last = rows[-1] if rows else {}
    validated = any(name.startswith("val_") and value is not None for name, value in last.items())
    return bool((last.get("epoch") or 0) >= epochs and last["iteration"] and validated)
