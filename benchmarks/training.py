"""Training from images to steps, in tiles/s: data, weight map, augmentation, step.

Ours: the complete workflow of `configs/train.yaml`, with the processes of the data loader, figures and logs.

Baseline: a training loop as in write-ups of the paper, in float32. For each sample, the loop mirrors the image, then
cuts, rotates and deforms a tile by Simard's recipe, and adds noise. A distance map for each cell gives the weight map.
Limit: the step alone, on a prepared tile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from skimage.io import imread

from benchmarks.augmentation import blur_by_axes, blur_by_kernel, scipy_simard, scipy_turned
from benchmarks.measure import Goal, Row, Setup, Times, Way, take_turns
from benchmarks.step import PlainStep, Step, network, tile
from benchmarks.weight_map import copied
from bundle.datasets.sample import sample
from bundle.running.run import ROOT
from scripts.inferers.memory import keep_freed_memory
from scripts.inferers.precision import computes_in_bfloat16, trains_in_channels_last

SETTLING = 3  # iterations until the queue of the data loader is steady


def rows(setup: Setup) -> Iterator[Row]:
    """Measure a tile from files to step, against two write-up loops."""
    data = training_data(setup)
    size = 252 if setup.quick else 572
    native = "bfloat16" if computes_in_bfloat16(setup.device) else "float32"
    x, target = tile(size, setup.device)
    step = Step(network(setup, trains_in_channels_last(setup.device)), x, target, native)
    loops: dict[str, Way] = {
        "a write-up's loop: everything for each sample, float32": WriteUpLoop(setup, data, size, blur_by_kernel),
        "the same, Simard's blur along each axis": WriteUpLoop(setup, data, size, blur_by_axes),
    }
    keep_freed_memory(True)
    alone = take_turns({"step": step}, setup.repeats, warm_up=2)["step"]
    keep_freed_memory(False)
    theirs = take_turns(loops, setup.repeats)
    ours, waits = workflow_times(setup, data, size)
    waiting = sum(waits) / sum(ours)
    for name, seconds in theirs.items():
        yield Row(
            f"training, a tile of {size} from image to step",
            Times(f"the workflow of train.yaml, {native}", ours),
            Times(name, seconds),
            Times("the step alone", alone),
            (Goal("times", 3.5 if setup.device.type == "cpu" else 50), Goal("waiting", 0.05)),
            f"{1 / median(ours):.3g} tiles/s; waits for data {waiting:.1%} of its time",
            {"waiting": waiting},
        )


def training_data(setup: Setup) -> Path:
    """Folder with images/ and labels/: real slices, or synthetic ones without data."""
    if setup.data is not None and not setup.quick:
        return setup.data / "train"
    folder = setup.scratch / "sample"
    if not folder.is_dir():
        with redirect_stdout(StringIO()):
            sample(str(folder))
    return folder / "train"


def workflow_times(setup: Setup, data: Path, size: int) -> tuple[list[float], list[float]]:
    """Measure iterations of `configs/train.yaml`.

    Args:
        setup: device, network, number of iterations (2 x repeats + 1).
        data: folder with images/ and labels/.
        size: side of the tiles in pixels.

    Returns:
        Seconds of every iteration, and the part of these seconds in which the trainer waits for data.
    """
    changes = {"dataset_dir": str(data), "input_size": size, "network_def#features": list(setup.features)}
    epochs = {"max_epochs": 10, "val_interval": 10}  # more than measured
    return iteration_times(setup, ["train.yaml"], {**changes, **epochs}, SETTLING, 2 * setup.repeats + 1)


def iteration_times(
    setup: Setup,
    configs: Sequence[str],
    changes: dict[str, Any],
    settling: int,
    counted: int,
    prepared: bool = False,
) -> tuple[list[float], list[float]]:
    """Train by a configuration, and measure the iterations.

    Args:
        setup: device, and folder for results.
        configs: names in `configs/`.
        changes: values of keys. The epochs must have `settling` + `counted` iterations.
        settling: iterations before, not measured.
        counted: iterations to measure.
        prepared: train on one prepared batch.

    Returns:
        Seconds of every iteration, and the part of these seconds in which the trainer waits for data. The GPU finishes
        all work before the first and after the last of the measured iterations.
    """
    places: dict[str, Any] = {
        "bundle_root": str(ROOT),
        "output_dir": str(setup.scratch / "train"),
        "model_dir": str(setup.scratch / "models"),
        "device": setup.device,
    }
    files = [str(ROOT / "configs" / name) for name in configs]
    meta = str(ROOT / "configs" / "metadata.json")
    workflow = ConfigWorkflow(files, meta, logging_file=False, workflow_type="train", **places, **changes)
    workflow.initialize()
    trainer = workflow.trainer
    if prepared:
        trainer.data_loader = [next(iter(trainer.data_loader))] * (settling + counted)
    asked: list[float] = []
    got: list[float] = []
    ends: list[float] = []

    def ended(engine: Engine) -> None:
        number = len(ends) + 1
        if setup.device.type == "cuda" and number in (settling, settling + counted):
            torch.cuda.synchronize(setup.device)
        ends.append(time.perf_counter())
        if number == settling + counted:
            engine.terminate(skip_completed=True)

    trainer.add_event_handler(Events.GET_BATCH_STARTED, lambda: asked.append(time.perf_counter()))
    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, lambda: got.append(time.perf_counter()))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, ended)
    try:
        trainer.run()
    finally:
        workflow.finalize()
    measured = slice(settling, settling + counted)
    spent = [after - before for before, after in pairwise(ends)][settling - 1 :]
    return spent, [after - before for before, after in zip(asked[measured], got[measured], strict=True)]


class WriteUpLoop:
    """Make a sample, and train one step on the sample.

    Args:
        setup: network and device.
        data: folder with images/ and labels/; 0 in a label is the background.
        size: side of the tiles in pixels.
        blur: blur of Simard's noise.
    """

    def __init__(self, setup: Setup, data: Path, size: int, blur: Callable[[np.ndarray], np.ndarray]) -> None:
        names = sorted(path.name for path in (data / "images").iterdir())[:4]
        self.images = [_normalised(imread(data / "images" / name)) for name in names]
        self.masks = [imread(data / "labels" / name) > 0 for name in names]
        self.size, self.output, self.device = size, size - 184, setup.device
        self.random = np.random.RandomState(0)
        self.blur = blur
        x, target = tile(size, setup.device)
        self.step = PlainStep(network(setup, channels_last=False), x, target)

    def __call__(self) -> float:
        """Train on one sample, and return the loss."""
        image, mask, weight = self.sample()
        target = np.stack([mask, weight])[None].astype(np.float32)
        self.step.x = torch.from_numpy(image[None, None].astype(np.float32)).to(self.device)
        self.step.target = torch.from_numpy(target).to(self.device)
        return self.step()

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Deformed tile (size, size), and label and weight map of the centre (size - 184, size - 184)."""
        number = int(self.random.randint(len(self.images)))
        image, mask = self.images[number], self.masks[number]
        margin = (self.size - self.output) // 2
        room = [max(0, n - self.output) for n in image.shape]
        top, left = (int(self.random.randint(n + 1)) for n in room)
        cut = slice(top, top + self.size), slice(left, left + self.size)
        padding = [(margin, margin + max(0, self.output - n)) for n in image.shape]
        tile, label = (np.pad(plane, padding, mode="reflect")[cut] for plane in (image, mask))
        turned = scipy_turned([tile, label.astype(np.uint8)], self.random)
        tile, label = scipy_simard(turned, self.random, self.blur)
        tile = tile + self.random.normal(0, 0.1, tile.shape)
        inner = slice(margin, margin + self.output)
        label = label[inner, inner] > 0
        return tile, label, copied(label)


def _normalised(image: np.ndarray) -> np.ndarray:
    grey = image.astype(np.float32)
    return (grey - grey.mean()) / grey.std()
