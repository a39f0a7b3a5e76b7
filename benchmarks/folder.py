"""Seconds for a folder of images, reading and writing included, beside those of the network alone.

    python -m benchmarks.folder IMAGES WEIGHTS [--images 200] [--repeats 1]

The images are repeated to as many as are asked for. Both run in one process with the same network, inferer and images:
the network alone on images in memory, the half of them before and the half after the folder, so that a load from
elsewhere meets both alike.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser
from PIL import Image

from scripts.checkpoints import load_weights
from scripts.datalists import find_images
from scripts.readers import PlaneReader

ROOT = Path(__file__).resolve().parents[1]


class Seconds(NamedTuple):
    """What a folder took."""

    whole: float
    network: float

    @property
    def ratio(self) -> float:
        """How many times the network's own."""
        return self.whole / self.network


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
    """The network alone, as the evaluator calls it, on `count` images."""
    begun = time.perf_counter()
    with torch.no_grad():
        for image in islice(cycle(images), count):
            scores = inferer(image, network)
    if scores.is_cuda:
        torch.cuda.synchronize(scores.device)  # GPU work is queued
    return time.perf_counter() - begun


def main() -> None:
    """Print seconds and ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="images")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=1)
    a = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as scratch:
        fill_folder(a.folder, Path(scratch) / "in", a.images)
        times = folder_seconds(Path(scratch) / "in", Path(scratch) / "out", a.weights, a.repeats)
    whole, network = median(t.whole for t in times), median(t.network for t in times)
    print(f"{a.images} images: {whole:.1f} s, the network alone {network:.1f} s: {median(t.ratio for t in times):.3f}")


if __name__ == "__main__":
    main()
