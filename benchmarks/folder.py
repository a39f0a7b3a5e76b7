"""A folder of images, reading and writing included, beside the network alone.

Both run in one process with the same network, inferer and images: the network alone on images in memory, the half of
them before and the half after the folder, so that a load from elsewhere meets both alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser
from PIL import Image

from benchmarks.measure import Goal, Row, Setup, Times
from benchmarks.training import training_data
from bundle.running.run import ROOT
from scripts.data.datalist import find_images
from scripts.handlers.checkpoints import load_weights
from scripts.inferers.memory import keep_freed_memory
from scripts.io.reader import PlaneReader
from scripts.networks.unet import RonnebergerUNet


class Seconds(NamedTuple):
    """What a folder took."""

    whole: float
    network: float

    @property
    def ratio(self) -> float:
        """How many times the network's own."""
        return self.whole / self.network


def rows(setup: Setup, count: int = 200) -> Iterator[Row]:
    """A folder of so many images with every kind of result, or of 4 where it is quick."""
    count = 4 if setup.quick else count
    images, results = setup.scratch / "folder", setup.scratch / "results"
    fill_folder(training_data(setup) / "images", images, count)
    weights = setup.scratch / "folder.pt"
    torch.manual_seed(0)
    torch.save(RonnebergerUNet(features=setup.features).state_dict(), weights)
    trained = ROOT / "models" / "model.pt"
    if not setup.quick and trained.is_file():
        weights = trained  # whose objects are as many as there are
    settings: dict[str, Any] = {"network_def#features": list(setup.features), "device": setup.device}
    found = folder_seconds(images, results, weights, **settings)
    written = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    yield Row(
        f"folder of {count} images of 512 x 512: read, segmented, written",
        Times("inference.yaml, all results", [seconds.whole for seconds in found]),
        limit=Times("the network alone", [seconds.network for seconds in found]),
        goals=(Goal("share", 1 / 1.1),),
        note=f"{median(seconds.whole for seconds in found) / count:.3g} s an image; {written / 1e6:.0f} MB written",
    )


def fill_folder(images: str | Path, folder: Path, count: int) -> None:
    """Write `count` PNG files, the images of a folder over and over."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = PlaneReader()
    planes = [reader.get_data([item["image"]])[0] for item in find_images(images)[:count]]
    for number, plane in enumerate(islice(cycle(planes), count)):
        Image.fromarray(plane).save(folder / f"{number:04d}.png")


def folder_seconds(
    folder: Path, output_dir: Path, weights: Path, repeats: int = 1, **settings: object
) -> list[Seconds]:
    """Segment a folder with configs/inference.yaml and all its outputs.

    Args:
        folder: the images.
        output_dir: where results go.
        weights: of the network.
        repeats: how often.
        settings: further keys of the configuration.
    """
    parser = ConfigParser()
    parser.read_config(ROOT / "configs" / "inference.yaml")
    paths = {"dataset_dir": str(folder), "output_dir": str(output_dir), "ckpt_path": str(weights)}
    for key, value in {**paths, **settings}.items():
        parser[key] = value
    parser.parse()
    evaluator, dataset, inferer, network, device = (
        parser.get_parsed_content(name) for name in ("evaluator", "dataset", "inferer", "network", "device")
    )
    load_weights(network, weights)
    network.eval()
    images = [dataset[k]["image"][None].to(device) for k in range(min(len(dataset), 8))]
    _network_seconds(inferer, network, images, 2)  # to warm up

    found = []
    for _ in range(repeats):
        half = len(dataset) // 2
        before = _network_seconds(inferer, network, images, half)
        begun = time.perf_counter()
        evaluator.run()
        whole = time.perf_counter() - begun
        found.append(Seconds(whole, before + _network_seconds(inferer, network, images, len(dataset) - half)))
    return found


def _network_seconds(inferer: Any, network: torch.nn.Module, images: Sequence[torch.Tensor], count: int) -> float:
    """The network alone, as the evaluator calls it, on `count` images; freed memory is kept, as in its run."""
    keep_freed_memory(True)
    begun = time.perf_counter()
    with torch.no_grad():
        for image in islice(cycle(images), count):
            scores = inferer(image, network)
    if scores.is_cuda:
        torch.cuda.synchronize(scores.device)  # GPU work is queued
    spent = time.perf_counter() - begun
    keep_freed_memory(False)
    return spent
