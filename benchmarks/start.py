"""Seconds from a command line to the first call of the network, beside those of `import torch, monai` alone.

    python -m benchmarks.start TRAINING_SET IMAGES [--repeats 3]

TRAINING_SET holds images/ and labels/. Every round runs the import, a training and a segmentation in turn, each in a
process of its own, so that a load from elsewhere meets them alike. A small network by default: what is measured is
what comes before it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from scripts.networks import RonnebergerUNet

ROOT = Path(__file__).resolve().parents[1]
SMALL = (8, 16, 32, 64, 128)
CLOCK = "BENCHMARK_START_CLOCK"  # names the file in which a process says when it got there
IMPORT = f"import torch, monai, os, pathlib, time; pathlib.Path(os.environ['{CLOCK}']).write_text(str(time.time()))"


class FirstCall(RonnebergerUNet):
    """The network of a run that ends where the network would begin: its first call notes the time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Note the time and end the process, without a result."""
        now = time.time()
        Path(os.environ[CLOCK]).write_text(str(now))
        os._exit(0)


def import_seconds() -> float:
    """`python -c "import torch, monai"`, to the end of the import."""
    return _seconds_until_noted([sys.executable, "-c", IMPORT])


def training_seconds(dataset_dir: str | Path, features: Sequence[int] = SMALL, **settings: object) -> float:
    """`python -m monai.bundle run training --config_file configs/train.yaml`, to the first iteration's forward pass.

    Args:
        dataset_dir: images/ and labels/.
        features: of the network.
        settings: further keys of the configuration.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = {"dataset_dir": Path(dataset_dir).resolve(), "output_dir": f"{folder}/out", "model_dir": folder}
        return _bundle_seconds(
            ["run", "training", "--config_file", "configs/train.yaml"], features, {**out, **settings}
        )


def prediction_seconds(images: str | Path, features: Sequence[int] = SMALL, **settings: object) -> float:
    """`python -m monai.bundle run --config_file configs/inference.yaml`, to the first image's call of the network.

    Args:
        images: a folder.
        features: of the network, whose weights are random here.
        settings: further keys of the configuration.
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
    """Seconds from the start of a process to what it notes; errors end with what it said."""
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+", encoding="utf-8") as log:
        clock = Path(folder) / "clock"
        # into a file: workers that outlive the process for a moment would hold a pipe open
        begun = time.time()
        subprocess.run(command, cwd=ROOT, env={**os.environ, CLOCK: str(clock)}, stdout=log, stderr=log, check=False)
        if not clock.is_file():
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)} did not get to the network:\n{log.read()[-2000:]}")
        return float(clock.read_text()) - begun


def main() -> None:
    """Print the median seconds, and what is added to the import."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--repeats", type=int, default=3, help="rounds after one that fills the caches")
    parser.add_argument("--features", type=int, nargs="+", default=SMALL)
    a = parser.parse_args()
    rounds = [
        (import_seconds(), training_seconds(a.dataset_dir, a.features), prediction_seconds(a.images, a.features))
        for _ in range(a.repeats + 1)
    ][1:]
    alone, training, prediction = zip(*rounds, strict=True)
    print(f"import torch, monai            {median(alone):6.2f} s")
    for name, times in (("first training iteration", training), ("first prediction", prediction)):
        added = median(t - t0 for t, t0 in zip(times, alone, strict=True))
        print(f"{name:30} {median(times):6.2f} s, {added:+.2f} s")


if __name__ == "__main__":
    main()
