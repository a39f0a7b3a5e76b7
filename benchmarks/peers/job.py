"""Read the job of a peer, keep the time, and write predictions.

Imports numpy, scikit-image and tifffile alone: the environments of all peers have these packages.
"""

from __future__ import annotations

import json
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from skimage.io import imread
from skimage.measure import label

Pair = tuple[np.ndarray, np.ndarray]
Predict = Callable[[np.ndarray], np.ndarray]  # grey image (H, W) -> as `Job.write`
MARKS = (1 / 3, 2 / 3, 1.0)  # shares of the time with predictions for the curve


@dataclass
class Job:
    """A training with three parts of the data.

    Attributes:
        task: `em`: predict the probability of cell interior. `nuclei`: predict instances.
        training: files of image and label that train.
        chosen: files of image and label that may choose weights and thresholds.
        curve: images of `chosen` that are predicted during the training, with the clock stopped.
        measured: images to predict at the end.
        minutes: of training.
        seed: of weights and of samples.
        out: folder for `measured/`, `curve/<seconds>/` and `training.json`.
        settings: for the peer alone.
    """

    task: str
    training: list[tuple[str, str]]
    chosen: list[tuple[str, str]]
    curve: list[str]
    measured: list[str]
    minutes: float
    seed: int
    out: str
    settings: dict[str, Any] = field(default_factory=dict)

    def pairs(self, files: Sequence[tuple[str, str]]) -> list[Pair]:
        """Read grey images, float32 (H, W), and labels, int32 (H, W): instances, or 1 for cells of a binary label."""
        found = []
        for image, labels in files:
            values = read_plane(labels).astype(np.int32)
            found.append((read_plane(image).astype(np.float32), (values > 0) * 1 if self.task == "em" else values))
        return found

    def write(self, folder: str, predict: Predict, images: Sequence[str]) -> None:
        """Predict images, and write `folder/<name>.tif`: float32 probabilities (em) or uint16 instances (nuclei)."""
        place = Path(self.out) / folder
        place.mkdir(parents=True, exist_ok=True)
        for image in images:
            kind = np.float32 if self.task == "em" else np.uint16
            tifffile.imwrite(
                place / f"{Path(image).stem}.tif", predict(read_plane(image).astype(np.float32)).astype(kind)
            )


class Clock:
    """Seconds of computing of a training, without the predictions for the curve.

    Seconds of the processor count, not of the wall clock: other load on the machine takes no time from a program. Every
    program computes in one process with one thread.

    Args:
        job: with the minutes. The clock starts at the first step: reading and preparing the data do not count.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.created = time.process_time()
        self.stopped = 0.0
        self.begun: float | None = None
        self.marks = [60 * job.minutes * mark for mark in MARKS]
        self.steps = 0

    @property
    def spent(self) -> float:
        """Seconds of training so far."""
        return 0.0 if self.begun is None else time.process_time() - self.begun - self.stopped

    @property
    def share(self) -> float:
        """Used share of the time, 0 to 1."""
        return min(1.0, self.spent / (60 * self.job.minutes))

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.share >= 1

    @contextmanager
    def stop(self) -> Iterator[None]:
        """Do not count the seconds of the block."""
        before = time.process_time()
        yield
        self.stopped += time.process_time() - before

    def start(self) -> None:
        """Start at the first step."""
        self.begun = time.process_time()

    def step(self, predict: Predict | None = None) -> bool:
        """Count a step. Predict images for the curve if due.

        Args:
            predict: as in `Job.write`. None: no curve.

        Returns:
            Whether images were predicted.
        """
        self.steps += 1
        if predict is None or not self.marks or self.spent < self.marks[0]:
            return False
        spent = self.spent
        self.marks = [mark for mark in self.marks if mark > spent]
        with self.stop():
            self.job.write(f"curve/{spent:07.1f}", predict, self.job.curve)
        return True

    def finish(self, predict: Predict, packages: Sequence[str], **facts: Any) -> None:
        """Predict the measured images, and write `training.json`.

        Args:
            predict: as in `Job.write`.
            packages: whose versions are listed.
            facts: more about the training.
        """
        seconds = self.spent
        before = time.process_time()
        self.job.write("measured", predict, self.job.measured)
        inference = time.process_time() - before
        prepared = (self.begun or before) - self.created
        numbers = {"seconds": seconds, "prepared_seconds": prepared, "inference_seconds": inference}
        content = {"steps": self.steps, **{key: round(value, 1) for key, value in numbers.items()}, **facts}
        content["versions"] = {"python": platform.python_version(), **{name: _version(name) for name in packages}}
        (Path(self.job.out) / "training.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_job() -> Job:
    """Read the job named on the command line, and seed numpy and random."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    random.seed(job.seed)
    np.random.seed(job.seed)  # noqa: NPY002  # the packages draw from numpy's global state
    return job


def read_plane(file: str) -> np.ndarray:
    """Read a grey image or a label (H, W)."""
    values = np.asarray(imread(file))
    return values if values.ndim == 2 else values[..., :3].mean(axis=-1)


def components(probability: np.ndarray) -> np.ndarray:
    """Number the connected components (4 neighbours) above 0.5, int32 (H, W)."""
    return np.asarray(label(probability > 0.5, connectivity=1), np.int32)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
