"""A folder of images, with reading and writing, against the network alone.

Both run in one process with the same network, inferer and images. The network alone runs on images in memory: on half
of the images before the folder, on half after the folder. Other load then affects both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser
from PIL import Image

from benchmarks.measure import Goal, Row, Setup, Times, seconds
from benchmarks.training import training_data
from bundle.running.run import ROOT
from scripts.data.datalist import find_images
from scripts.handlers.checkpoints import load_weights
from scripts.inferers.memory import keep_freed_memory
from scripts.io.reader import PlaneReader
from scripts.networks.unet import RonnebergerUNet


class Seconds(NamedTuple):
    """Seconds of the folder, and of the network alone on the same images."""

    whole: float
    network: float


def rows(setup: Setup, count: int = 200) -> Iterator[Row]:
    """Measure a folder of `count` images (quick: 4) with all kinds of results."""
    count = 4 if setup.quick else count
    images, results = setup.scratch / "folder", setup.scratch / "results"
    fill_folder(training_data(setup) / "images", images, count)
    weights = setup.scratch / "folder.pt"
    torch.manual_seed(0)
    torch.save(RonnebergerUNet(features=setup.features).state_dict(), weights)
    trained = ROOT / "models" / "model.pt"
    if not setup.quick and trained.is_file():
        weights = trained  # for a realistic number of objects
    settings: dict[str, Any] = {"network_def#features": list(setup.features), "device": setup.device}
    found = folder_seconds(images, results, weights, **settings)
    written = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    yield Row(
        f"folder of {count} images of 512 x 512: read, segmented, written",
        Times("inference.yaml, all results", [found.whole]),
        limit=Times("the network alone", [found.network]),
        goals=(Goal("share", 1 / 1.1),),
        note=f"{found.whole / count:.3g} s an image; {written / 1e6:.0f} MB written",
    )


def fill_folder(images: str | Path, folder: Path, count: int) -> None:
    """Write `count` PNG files, which repeat the images of a folder.

    Args:
        images: folder of the images.
        folder: folder to write, made if absent.
        count: number of files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reader = PlaneReader()
    planes = [reader.get_data([item["image"]])[0] for item in find_images(images)[:count]]
    for number, plane in enumerate(islice(cycle(planes), count)):
        Image.fromarray(plane).save(folder / f"{number:04d}.png")


def folder_seconds(folder: Path, output_dir: Path, weights: Path, **settings: object) -> Seconds:
    """Segment a folder with configs/inference.yaml and all its outputs.

    Args:
        folder: the images.
        output_dir: folder for the results.
        weights: weights of the network.
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

    half = len(dataset) // 2
    before = _network_seconds(inferer, network, images, half)
    whole = seconds(evaluator.run)
    return Seconds(whole, before + _network_seconds(inferer, network, images, len(dataset) - half))


def _network_seconds(inferer: Any, network: torch.nn.Module, images: Sequence[torch.Tensor], count: int) -> float:
    """The network alone on `count` images. Freed memory is kept, as in a run of the evaluator."""

    @torch.no_grad()
    def run() -> None:
        for image in islice(cycle(images), count):
            inferer(image, network)

    keep_freed_memory(True)
    spent = seconds(run)
    keep_freed_memory(False)
    return spent
