"""Time from a command line to the first call of the network. Limit: `import torch, monai` alone.

Each command is a new process. The network is small: only the time before the first call is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.measure import Goal, Row, Setup, Times, take_turns
from benchmarks.training import training_data
from bundle.running.run import ROOT
from scripts.networks.unet import RonnebergerUNet
from scripts.settings import ModelSettings

SMALL = (8, 16, 32, 64, 128)
CLOCK = "BENCHMARK_START_CLOCK"  # environment variable: the file for the time of the first call
IMPORT = f"import torch, monai, os, pathlib, time; pathlib.Path(os.environ['{CLOCK}']).write_text(str(time.time()))"


class FirstCall(RonnebergerUNet):
    """Write the time of the first call, and end the process."""

    def __init__(self, settings: ModelSettings, features: Sequence[int], **_: Any) -> None:
        super().__init__(features=features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Write the time and end the process, without a result."""
        now = time.time()
        Path(os.environ[CLOCK]).write_text(str(now))
        os._exit(0)


def rows(setup: Setup) -> Iterator[Row]:
    """Measure the start of a training and the start of an inference."""
    data = training_data(setup)
    images = data / "images"
    times = take_turns(
        {
            "import": import_seconds,
            "training": lambda: training_seconds(data),
            "prediction": lambda: prediction_seconds(images),
        },
        setup.repeats,
        warm_up=0 if setup.quick else 1,
        measures_itself=True,
    )
    for name, work in (
        ("training", f"command line to first iteration, {len(list(images.iterdir()))} images"),
        ("prediction", "command line to first prediction"),
    ):
        yield Row(
            work,
            Times("python -m monai.bundle run", times[name]),
            limit=Times("import torch, monai", times["import"]),
            goals=(Goal("seconds_more", 3),),
            note=f"{median(times[name]) - median(times['import']):.2f} s more",
        )


def import_seconds() -> float:
    """Seconds of `python -c "import torch, monai"`, until the import is complete."""
    return _seconds_until_noted([sys.executable, "-c", IMPORT])


def training_seconds(dataset_dir: str | Path, features: Sequence[int] = SMALL, **settings: object) -> float:
    """Seconds of `monai.bundle run training` with configs/train.yaml, until the first forward pass.

    Args:
        dataset_dir: folder with images/ and labels/.
        features: features of the network.
        settings: further keys of the configuration.

    Raises:
        RuntimeError: the command did not reach the network. The message has the output of the command.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = {"dataset_dir": Path(dataset_dir).resolve(), "output_dir": f"{folder}/out", "model_dir": folder}
        return _bundle_seconds(
            ["run", "training", "--config_file", "configs/train.yaml"], features, {**out, **settings}
        )


def prediction_seconds(images: str | Path, features: Sequence[int] = SMALL, **settings: object) -> float:
    """Seconds of `monai.bundle run` with configs/inference.yaml, until the network is called for the first image.

    Args:
        images: folder of the images.
        features: features of the network, which has random weights.
        settings: further keys of the configuration.

    Raises:
        RuntimeError: the command did not reach the network. The message has the output of the command.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/weights.pt"
        torch.save(RonnebergerUNet(features=features).state_dict(), weights)
        out = {"dataset_dir": Path(images).resolve(), "output_dir": f"{folder}/out", "ckpt_path": weights}
        return _bundle_seconds(["run", "--config_file", "configs/inference.yaml"], features, {**out, **settings})


def _bundle_seconds(command: list[str], features: Sequence[int], settings: dict[str, object]) -> float:
    network = {"network_def#_target_": f"benchmarks.start.{FirstCall.__name__}", "network_def#features": [*features]}
    options = [f"--{key}={value}" for key, value in {**network, **settings}.items()]
    return _seconds_until_noted([sys.executable, "-m", "monai.bundle", *command, *options])


def _seconds_until_noted(command: list[str]) -> float:
    """Seconds from the start of a process to the time in its clock file."""
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+", encoding="utf-8") as log:
        clock = Path(folder) / "clock"
        # into a file: workers that outlive the process for a moment would keep a pipe open
        begun = time.time()
        subprocess.run(command, cwd=ROOT, env={**os.environ, CLOCK: str(clock)}, stdout=log, stderr=log, check=False)
        if not clock.is_file():
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)} did not reach the network:\n{log.read()[-2000:]}")
        return float(clock.read_text()) - begun
