"""Measure whether `rank` finds the images worth annotating: against their true errors, and against random choice.

    python -m benchmarks.ranking --data data/DSB2018-fluo --out output/ranking_benchmark

For each seed, a small network trains on 8 random images and scores 100 images that it has not seen. The training then
goes on with 8 more images: the first of the ranking, or 8 random ones, for the same number of steps. Each network is
measured on the same 44 images. Finished trainings and measures are kept in OUT, to go on after an interruption.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr
from skimage.io import imread

from bundle.running.run import ROOT
from bundle.running.workflows import train
from scripts.io.files import write_json
from scripts.metrics.objects import instance_counts, instance_scores_from_counts
from scripts.metrics.stability import object_instability
from scripts.segmenter import Segmenter
from scripts.transforms.objects import instances_from_scores

TEST, VALIDATION, FIRST, POOL, MORE = 44, 4, 8, 100, 8  # images
FIRST_STEPS, MORE_STEPS, EPOCHS = 600, 200, 4
OBJECTS = {"min_area": 15, "gap": 2}  # pixels
NETWORK = {"network_def#features": [8, 16, 32, 64, 128]}  # an eighth of the width
RECIPE = {
    "overlay": "data_nuclei,variant_fast",
    "learning_rate": 1e-3,
    "warmup_iterations": 50,
    "average_momentum": 0.01,
    "max_epochs": EPOCHS,
    "val_interval": EPOCHS,  # once at the end: validation chooses nothing
    "num_workers": 0,
    "fit_objects": False,  # equal settings of the objects for all networks
    "threshold": 0.5,
    "min_area": OBJECTS["min_area"],
    "close_gaps": OBJECTS["gap"],
}


class Data(NamedTuple):
    """Names of the images of each part. No image is in two parts."""

    folder: Path
    test: list[str]
    validation: list[str]
    first: list[str]
    pool: list[str]

    def image(self, name: str) -> np.ndarray:
        """Read an image, (H, W)."""
        pixels = imread(self.folder / "images" / name)
        return pixels if pixels.ndim == 2 else pixels[..., 0]

    def label(self, name: str) -> np.ndarray:
        """Read the object numbers of an image, (H, W)."""
        return imread(next((self.folder / "labels").glob(f"{Path(name).stem}.*")))

    def objects(self, names: Sequence[str]) -> int:
        """Count the annotated objects of images."""
        return sum(len(np.unique(self.label(name))) - 1 for name in names)


def split(folder: Path, seed: int) -> Data:
    """Choose the parts: test and validation are the same for each seed."""
    names = sorted(path.name for path in (folder / "images").iterdir())
    names = [names[k] for k in np.random.default_rng(0).permutation(len(names))]
    rest = names[TEST + VALIDATION :]
    rest = [rest[k] for k in np.random.default_rng(100 + seed).permutation(len(rest))]
    return Data(folder, names[:TEST], names[TEST : TEST + VALIDATION], rest[:FIRST], rest[FIRST : FIRST + POOL])


def fit(data: Data, names: Sequence[str], steps: int, seed: int, out: Path, start: Path | None = None) -> Path:
    """Train on images, from `start` or from new weights. Return the weights of the last step."""
    if not (out / "done").exists():
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "images.json", {"training": list(names), "validation": data.validation})
        keys: dict[str, Any] = {**RECIPE, "tiles_per_epoch": steps // EPOCHS, "seed": seed}
        keys |= NETWORK if start is None else {"finetune": str(start)}
        train(str(data.folder), output=str(out), split_file=str(out / "images.json"), **keys)
        (out / "done").touch()
    return out / "model.pt"


def f1_on_test(data: Data, weights: Path) -> list[float]:
    """Measure F1 of all objects of the test images, or read it: at IoU 0.5, mean of 0.5 to 0.9, mean over images."""
    file = weights.with_name("f1.json")
    if not file.exists():
        segmenter = Segmenter(weights)
        counts = [instance_counts(segmenter(data.image(name)).instances, data.label(name)) for name in data.test]
        pooled = instance_scores_from_counts(np.sum(counts, axis=0))["f1"]
        single = np.mean([instance_scores_from_counts(count)["f1"][0] for count in counts])
        write_json(file, {"f1": float(pooled[0]), "f1_mean_iou": float(pooled.mean()), "f1_per_image": float(single)})
    found = json.loads(file.read_text())
    return [found[name] for name in ("f1", "f1_mean_iou", "f1_per_image")]


def measures(image: np.ndarray, label: np.ndarray, chance: np.ndarray, deviation: np.ndarray) -> dict[str, float]:
    """Measure an image's errors, the score of `rank`, and simpler scores, from the probability of an object."""
    found, mask = instances_from_scores(chance, **OBJECTS), chance > 0.5
    f1 = instance_scores_from_counts(instance_counts(found, label))["f1"]
    entropy = -chance * np.log2(chance.clip(1e-7)) - (1 - chance) * np.log2((1 - chance).clip(1e-7))
    band = (chance > 0.05) & (chance < 0.95)
    overlap = 2 * (mask & (label > 0)).sum() / max(1, mask.sum() + (label > 0).sum())
    return {
        "1 - F1": float(1 - f1[0]),
        "1 - F1, mean of IoU .5 to .9": float(1 - f1.mean()),
        "1 - Dice": float(1 - overlap),
        "rank: objects that change with the threshold": object_instability(chance, **OBJECTS),
        "expected Dice error": float(np.minimum(chance, 1 - chance).sum() / (chance.sum() + mask.sum() + 1)),
        "mean entropy of uncertain pixels": float(entropy[band].mean()) if band.any() else 0.0,
        "mean entropy": float(entropy.mean()),
        "mean deviation over 4 views": float(deviation.mean()),
        "number of objects found": float(found.max()),
        "contrast of the image": float(image.std()),
        "size of the image": float(image.size),
    }


HEAD = (
    "| seed | images added | objects in them | F1 at IoU .5 | F1, mean of IoU .5 to .9 | F1 at .5, mean of images |",
    "|---|---|---|---|---|---|",
)
ERRORS = 3  # the first measures are errors, the others are scores


def pool_measures(data: Data, weights: Path, file: Path) -> dict[str, dict[str, float]]:
    """Measure all images of the pool, or read the measures from the file."""
    if not file.exists():
        single, views, found = Segmenter(weights), Segmenter(weights, orientations=4), {}
        for name in data.pool:
            image = data.image(name)
            deviation = views(image).deviation
            assert deviation is not None  # of several views
            found[name] = measures(image, data.label(name), single(image).probabilities[1], deviation)
        write_json(file, found)
    return dict(json.loads(file.read_text()))


def correlations(tables: Sequence[dict[str, dict[str, float]]]) -> None:
    """Print Spearman's rank correlation of each score with each error, and the mean error of the first 8 images."""
    names = list(next(iter(tables[0].values())))
    errors, scores = names[:ERRORS], names[ERRORS:]
    print(f"| score | {' | '.join(f'correlation with {name}' for name in errors)} | 1 - F1 of the first {MORE} |")
    print("|---" * (ERRORS + 2) + "|")
    columns = [{name: np.array([row[name] for row in table.values()]) for name in names} for table in tables]
    for score in scores:
        cells = [f"{np.mean([spearmanr(c[score], c[error]).statistic for c in columns]):+.2f}" for error in errors]
        first = np.mean([c[errors[0]][np.argsort(-c[score], kind="stable")[:MORE]].mean() for c in columns])
        print(f"| {score} | {' | '.join(cells)} | {first:.2f} |")
    print(f"| none: all {POOL} images | 0 | 0 | 0 | {np.mean([c[errors[0]].mean() for c in columns]):.2f} |")


def _line(seed: int, name: str, objects: int, scores: Sequence[float]) -> str:
    return f"| {seed} | {name} | {objects} | {' | '.join(f'{score:.3f}' for score in scores)} |"


def main() -> None:
    """Print both comparisons, after each finished training."""
    parser = argparse.ArgumentParser(description="Does rank find the images worth annotating?")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "DSB2018-fluo", help="folder of images and labels")
    parser.add_argument("--out", type=Path, default=Path("output/ranking_benchmark"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=2, help="random choices for each seed")
    arguments = parser.parse_args()
    tables, lines = [], []
    for seed in range(arguments.seeds):
        data = split(arguments.data, seed)
        start = fit(data, data.first, FIRST_STEPS, seed, arguments.out / f"first{seed}")
        tables.append(pool_measures(data, start, arguments.out / f"pool{seed}.json"))
        lines.append(_line(seed, "none", 0, f1_on_test(data, start)))
        score = list(next(iter(tables[-1].values())))[ERRORS]
        ranked = sorted(data.pool, key=lambda name: -tables[-1][name][score])[:MORE]
        drawn = np.random.default_rng(1000 + seed)
        chosen = {"ranked": ranked} | {
            f"random{k}": [data.pool[i] for i in drawn.permutation(POOL)[:MORE]] for k in range(arguments.draws)
        }
        for name, more in chosen.items():
            weights = fit(data, [*data.first, *more], MORE_STEPS, seed, arguments.out / f"{name}{seed}", start)
            lines.append(_line(seed, name, data.objects(more), f1_on_test(data, weights)))
            print("\n".join([*HEAD, *lines]))
    correlations(tables)


if __name__ == "__main__":
    main()
