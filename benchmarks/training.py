"""Training from images to steps, tiles by the second: data, weight map, augmentation, step.

Baseline: a training loop as write-ups of the paper have it, everything for each sample in turn, in float32: mirror the
image, cut a tile, turn it, deform it by Simard's recipe, add noise, compute the weight map of the moved label by one
distance map for each cell, step. Ours: the workflow of `configs/train.yaml` as a user runs it, its data loader's
processes, figures and logs included. Limit: the step alone on a tile that is there already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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

SETTLING = 3  # iterations until the data loader's queue is as it stays


def rows(setup: Setup) -> Iterator[Row]:
    """One row: a tile from files to step."""
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
    """Folder with images/ and labels/, of real slices or, without them, synthetic ones."""
    if setup.data is not None and not setup.quick:
        return setup.data / "train"
    folder = setup.scratch / "sample"
    if not folder.is_dir():
        with redirect_stdout(StringIO()):
            sample(str(folder))
    return folder / "train"


def workflow_times(setup: Setup, data: Path, size: int) -> tuple[list[float], list[float]]:
    """Seconds from each iteration's end to the next's, and how much of that the trainer waited for data.

    Args:
        setup: for how long, and where.
        data: folder with images/ and labels/.
        size: of the tiles.
    """
    changes: dict[str, Any] = {
        "bundle_root": str(ROOT),
        "dataset_dir": str(data),
        "output_dir": str(setup.scratch / "train"),
        "model_dir": str(setup.scratch / "models"),
        "device": setup.device,
        "input_size": size,
        "max_epochs": 10,  # the trainer is stopped long before
        "val_interval": 10,
        "network_def#features": list(setup.features),
    }
    files = {"config_file": str(ROOT / "configs" / "train.yaml"), "meta_file": str(ROOT / "configs" / "metadata.json")}
    workflow = ConfigWorkflow(**files, logging_file=False, workflow_type="train", **changes)
    workflow.initialize()
    trainer = workflow.trainer
    ends: list[float] = []
    asked: list[float] = []
    got: list[float] = []
    trainer.add_event_handler(Events.GET_BATCH_STARTED, lambda _: asked.append(time.perf_counter()))
    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, lambda _: got.append(time.perf_counter()))

    def ended(engine: Engine) -> None:
        ends.append(time.perf_counter())
        if len(ends) > SETTLING + 2 * setup.repeats:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, ended)
    try:
        trainer.run()
    finally:
        workflow.finalize()
    whole = [after - before for before, after in pairwise(ends)][SETTLING - 1 :]
    waits = [after - before for before, after in zip(asked, got, strict=False)][SETTLING : SETTLING + len(whole)]
    return whole, waits


class WriteUpLoop:
    """One sample after the other, each from its image on.

    Args:
        setup: which network, and where.
        data: folder with images/ and labels/, cell not 0.
        size: of the tiles.
        blur: of Simard's noise.
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
        """One sample and one step; the loss."""
        image, mask, weight = self.sample()
        target = np.stack([mask, weight])[None].astype(np.float32)
        self.step.x = torch.from_numpy(image[None, None].astype(np.float32)).to(self.device)
        self.step.target = torch.from_numpy(target).to(self.device)
        return self.step()

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A moved tile (size, size), and label and weight map of its middle (size - 184, size - 184)."""
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
