"""A small data set, shared trainings, and the bundle's workflows without new processes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.synthetic_em import synthetic_section

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"

# a network of a few thousand parameters on tiles of 188 -> 4 pixels: all parts run, without learning
SMALL = {"network_def#features": [2, 4, 8, 16, 32], "input_size": 188, "num_workers": 0, "device": "cpu"}


def write_pairs(folder: Path, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Path:
    """Save images and labels as PNG in the folder layout."""
    for k, pair in enumerate(pairs):
        for kind, pixels in zip(("images", "labels"), pair, strict=True):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{k:02d}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory) -> Path:
    """Four synthetic sections of 96 x 80 pixels with instance labels (uint16), in the folder layout."""
    rng = np.random.default_rng(0)
    return write_pairs(tmp_path_factory.mktemp("tiny"), (synthetic_section(rng, (96, 80)) for _ in range(4)))


def settings(dataset: Path, folder: Path, **more: object) -> dict[str, Any]:
    """Get the overrides of a training of two epochs."""
    paths = {"dataset_dir": str(dataset), "output_dir": str(folder / "out"), "model_dir": str(folder / "models")}
    return {**SMALL, **paths, "label_kind": "instances", "max_epochs": 2, "val_interval": 1, **more}


def words(overrides: dict[str, Any]) -> list[str]:
    """Write overrides as options of a command."""
    return [f"--{key}={value}" for key, value in overrides.items()]


def tracking(**more: object) -> list[str]:
    """Get the options for MLflow, if installed."""
    return ["--tracking", "mlflow", *words(more)] if importlib.util.find_spec("mlflow") else []


@pytest.fixture(scope="session")
def trained(tiny_dataset, tmp_path_factory) -> Path:
    """A folder with a training of two epochs by `python -m bundle run`, tracked by MLflow if installed."""
    folder = tmp_path_factory.mktemp("trained")
    command = ["run", "training", "--config_file", "configs/train.yaml"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main([*command, *tracking(), *words(settings(tiny_dataset, folder))]) == 0
    return folder


@pytest.fixture
def run_bundle(monkeypatch):
    """Run an ID of configurations as `monai.bundle run` does, from the bundle's root. Returns the workflow."""
    monkeypatch.chdir(ROOT)

    def run(*names: str, run_id: str = "run", kind: str | None = None, **overrides: Any) -> ConfigWorkflow:
        workflow = ConfigWorkflow(
            config_file=[str(CONFIGS / name) for name in names],
            meta_file=str(CONFIGS / "metadata.json"),
            logging_file=str(CONFIGS / "logging.conf"),
            run_id=run_id,
            workflow_type=kind,
            **overrides,
        )
        workflow.initialize()
        if run_id:
            workflow.run()
        workflow.finalize()
        return workflow

    return run
