"""Make the folders of small runs: an evaluation with saved results, a segmentation, a training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from monai.transforms import Compose, ConcatItemsd, EnsureChannelFirstd, LoadImaged
from PIL import Image

from scripts.inferers import OverlapTileInferer
from scripts.io.files import write_csv, write_json
from scripts.io.reader import PlaneReader
from scripts.io.writer import SegmentationStore
from scripts.networks import RonnebergerUNet
from scripts.reporting import TrainingPreview
from scripts.settings import ModelSettings
from scripts.transforms import InstanceLabelsd, Rand2DElasticTiled, WeightMapd

NAMES = ("cell 1.png", "cell 2.png", "=cmd.png", "<script>alert(1)</script>.png".replace("/", "_"))
SIZE = (60, 80)


def discs(count: int) -> np.ndarray:
    """Draw discs of radius 7 in a row, numbered from 1."""
    rows, columns = np.indices(SIZE)
    labels = np.zeros(SIZE, np.uint16)
    for k in range(count):
        labels[(rows - 30) ** 2 + (columns - 12 - 18 * k) ** 2 < 49] = k + 1
    return labels


def made_data(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Write images and labels of 3 discs."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    labels = discs(3)
    for k, name in enumerate(names):
        noise = np.random.default_rng(k).integers(0, 60, SIZE)
        Image.fromarray((100 * (labels > 0) + noise).astype(np.uint8)).save(folder / "images" / name)
        Image.fromarray(labels).save(folder / "labels" / name)
    return folder


def write_settings(folder: Path, **given: object) -> None:
    """Write a `model.json` of weights that are elsewhere."""
    settings = ModelSettings(class_names=["background", "cell"], label_kind="instances", key_metric="instance_f1")
    content = settings.model_copy(update=given).model_dump(mode="json")
    write_json(folder / "model.json", {"format": 1, **content, "sha256": "0" * 64})


def write_run_file(folder: Path, data: Path, workflow: str, names: tuple[str, ...] = NAMES) -> None:
    """Write the record of a run."""
    items = [{"image": f"images/{name}", "label": f"labels/{name}"} for name in names]
    content = {
        "format": 1,
        "workflow": workflow,
        "command": f"python -m bundle {workflow}",
        "folder": str(folder),
        "data": str(data),
        "items": items,
        "weights": None,
        "settings": {"seed": "3", "threshold": "0.5"},
        "versions": {"torch": "2.13.0"},
        "hardware": {"processor": "made up", "cores": 2},
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 7.5,
        "failures": [],
    }
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")


def write_results(folder: Path, data: Path, found: dict[str, np.ndarray]) -> None:
    """Write instances and probabilities."""
    sources = [data / "images" / name for name in found]
    with SegmentationStore(folder, ["instances", "probabilities"], sources=sources) as store:
        for source, labels in zip(sources, found.values(), strict=True):
            cell = np.where(labels > 0, 0.9, 0.1)
            store.add("instances", source, labels)
            store.add("probabilities", source, np.stack([1 - cell, cell]))


def made_evaluation(root: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Write data and an evaluation: all objects found in the first image, one missed in the others."""
    data, folder = made_data(root / "data", names), root / "evaluation"
    folder.mkdir()
    found = {name: discs(3 if k == 0 else 2) for k, name in enumerate(names)}
    write_results(folder, data, found)
    rows = [{"image": name, "f1_0.5": 1.0 if k == 0 else 0.8 - k / 100, "seg": 0.9} for k, name in enumerate(names)]
    write_csv(folder / "objects_per_image.csv", rows)
    write_csv(folder / "metrics_per_image.csv", [{"image": name, "mean_dice": 0.9} for name in names])
    write_json(folder / "metrics.json", {"split": "whole folder", "mean": {"mean_dice": 0.9, "pixel_error": 0.05}})
    levels = [{"threshold": t, "f1": 0.9 - t / 5, "precision": 0.9, "recall": 0.8} for t in (0.5, 0.7, 0.9)]
    write_json(folder / "object_metrics.json", {"seg": 0.9, "det": None, "reference_objects": 12, "instances": levels})
    write_settings(folder)
    write_run_file(folder, data, "evaluation", names)
    return folder


def made_preview(path: Path, data: Path, kind: str = "instances", **tile: object) -> TrainingPreview:
    """Make a preview of data, with the transforms of a training of a small network."""
    keys = ["image", "label"]
    names = ["background", "one", "two", "three"] if kind == "classes" else ["background", "cell"]
    once = [
        LoadImaged("image", reader=PlaneReader()),
        LoadImaged("label", reader=PlaneReader(labels=True), dtype=None),
        EnsureChannelFirstd(keys),
        InstanceLabelsd(kind=kind, out_channels=len(names), reference_key="reference"),
        WeightMapd(class_balance=None),
    ]
    options = {"input_size": 188, "mode": ["bilinear", "nearest", "bilinear"], **tile}
    each = [
        *once,
        Rand2DElasticTiled(["image", "label", "weight"], ["label", "weight"], **options),
        ConcatItemsd(["label", "weight"], "label"),
    ]
    network = RonnebergerUNet(features=(2, 4, 8, 16, 32))
    items = [{"image": str(path), "label": str(data / "labels" / path.name)} for path in sorted(data.glob("images/*"))]
    transforms = Compose(once), Compose(each)
    return TrainingPreview(path, items, *transforms, network, OverlapTileInferer(), 188, names, kind)


def history(scores: list[float]) -> list[dict[str, float]]:
    """Rows of a training with a validation at each epoch."""
    loss = {"lr": 1e-3, "seconds": 2.0, "loss": 0.5}
    return [{"epoch": k, "iteration": 10 * k, **loss, "val_instance_f1": s} for k, s in enumerate(scores, 1)]
