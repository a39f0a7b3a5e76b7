"""Measure published weights on images that neither trained nor chose them, for the model card.

    python -m benchmarks.published nuclei --data data --training output/nuclei --measured output/measured.json

Writes `docs/results/<name>.json`: weights with checksum, training, versions, hardware, figures with 1 and 8 views, and
the worst images. Prints the table of the model card. `--measured` is a split file, as from `benchmarks.recipes`: its
validation images are measured. Panels of all measured images are in `<training>/measured/panels`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu_trainings import course, figures
from benchmarks.recipes import TASKS, VIEWS
from bundle.experiments.provenance import hardware, versions
from bundle.running.run import ROOT, run
from scripts.handlers.history import read_history
from scripts.io.files import sha256_of, write_json
from scripts.published import find_weights
from scripts.settings import read_settings

WORST = 5  # images named


def measure(name: str, weights: Path, data: Path, training: Path, measured: Path) -> dict[str, Any]:
    """Measure weights with 1 and 8 views.

    Args:
        name: key of `benchmarks.recipes.TASKS`.
        weights: the published file.
        data: folder with the folder of the data set.
        training: folder of the training, with `history.csv` and `split.json`.
        measured: split file; its validation images are measured.

    Returns:
        The content of the results file.

    Raises:
        ValueError: a measured image has trained or chosen the weights.
    """
    task = TASKS[name]
    parts: list[dict[str, Any]] = [
        json.loads(file.read_text(encoding="utf-8")) for file in (training / "split.json", measured)
    ]
    used = {*parts[0]["training"], *parts[0]["validation"]}
    common = used.intersection(parts[1]["validation"])
    if common:
        raise ValueError(f"{measured} would measure images that trained or chose the weights: {sorted(common)[:3]}")
    settings = read_settings(weights)
    evaluations = {}
    out = training / "measured"
    for views in VIEWS:
        given: dict[str, Any] = {"ckpt_path": str(weights), "split_file": str(measured)}
        given |= {"dataset_dir": str((data / task.folder).resolve()), "output_dir": str(out)}
        given |= {"evaluation_dir": str(out / f"views{views}"), "orientations": views}
        configs = [str(ROOT / "configs" / f"{part}.yaml") for part in ("train", task.config, "evaluate")]
        run("evaluating", config_file=configs, save_panels=views == 1, warping_error=False, **given)
        evaluations[_views(views)] = figures(out / f"views{views}", task.metrics)
    report = json.loads((out / "views1" / str(next(iter(task.metrics.values()))[0])).read_text(encoding="utf-8"))
    return {
        "protocol": " and ".join(
            [f"{len(parts[0]['training'])} images train", f"{len(parts[0]['validation'])} choose the weights"]
        )
        + f", {len(parts[1]['validation'])} others are measured",
        "measured": parts[1]["validation"],
        "weights": {
            "file": f"models/{weights.name}",
            "sha256": sha256_of(weights),
            "bytes": weights.stat().st_size,
            "settings": None if settings is None else settings.model_dump(exclude={"sha256", "version"}),
        },
        "training": course(training / "history.csv"),
        "validations": [row for row in read_history(training / "history.csv") if row.get(task.metric) is not None],
        "evaluations": evaluations,
        "worst": report.get("worst", [])[:WORST],
        "versions": versions(),
        "hardware": hardware(),
    }


def card(result: Mapping[str, Any]) -> str:
    """Write the table of the model card in Markdown.

    Example:
        >>> card({"evaluations": {"one view": {"SEG": 0.75, "DET": None}}}).splitlines()
        ['| held-out images | SEG |', '|---|---|', '| one view | 0.7500 |']
    """
    names = [name for name, value in next(iter(result["evaluations"].values())).items() if value is not None]
    rows = [f"| held-out images | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for views, found in result["evaluations"].items():
        rows.append(f"| {views} | {' | '.join(f'{found[name]:.4f}' for name in names)} |")
    return "\n".join(rows)


def _views(count: int) -> str:
    return "one view" if count == 1 else f"mean of {count} views"


def main() -> None:
    """Measure, write the results file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("--weights", default=None, help="default: the published weights of this name")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--training", type=Path, required=True)
    parser.add_argument("--measured", type=Path, required=True)
    given = parser.parse_args()
    weights = Path(find_weights(given.weights or given.name)).resolve()
    result = measure(given.name, weights, given.data, given.training.resolve(), given.measured.resolve())
    write_json(ROOT / "docs" / "results" / f"{given.name}.json", result)
    print(card(result))


if __name__ == "__main__":
    main()
