"""Measure what a wrong pixel size costs, and what rescaling gives back, on real EM slices.

The slices are resampled to other pixel sizes and segmented twice: as they are, and with `--pixel_size auto`. The
probabilities are then brought to the size of the ground truth. Run `python -m benchmarks.pixel_size --data DATA`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from skimage.transform import resize

from benchmarks.em_slice import em_slice
from bundle.running.run import ROOT
from scripts.handlers.checkpoints import load_weights
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.metrics.membranes import thinned_curves
from scripts.networks.unet import RonnebergerUNet
from scripts.transforms.activations import ProbabilitiesFromScoresd
from scripts.transforms.intensity import NormalizeImaged
from scripts.transforms.pixel_size import MatchPixelSized, RestoreSized

SLICES = ("20", "21", "22", "23", "24")
TRAINED = 0.004  # um
FACTORS = (1.0, 1.5, 2.0, 1 / 1.5, 0.5)  # pixels of a resampled slice in a pixel of the original


def probability(image: np.ndarray, pixel_size: float, network: torch.nn.Module, rescale: bool) -> np.ndarray:
    """Segment an image as configs/inference.yaml does.

    Args:
        image: (H, W).
        pixel_size: of the image in um.
        network: with trained weights.
        rescale: rescale to the pixel size of the training, and the result back.

    Returns:
        float32 (H, W), probability of a cell.

    Example:
        >>> network = RonnebergerUNet(features=(2, 4, 8)).eval()
        >>> probability(np.zeros((31, 45)), 0.006, network, rescale=True).shape
        (31, 45)
    """
    meta = {"spacing": (pixel_size, pixel_size), "unit": "um"}
    item = {"image": MetaTensor(torch.tensor(image, dtype=torch.float32)[None], meta=meta)}
    match = [MatchPixelSized(trained=TRAINED, pixel_size="auto")] if rescale else []
    item = Compose([*match, NormalizeImaged("image")])(item)
    with torch.no_grad():
        item["pred"] = OverlapTileInferer(amp_dtype="auto")(item["image"][None], network)[0]
    restore = Compose([ProbabilitiesFromScoresd("pred"), RestoreSized("pred", "linear")])
    return np.asarray(restore(item)["pred"][1])


def rows(data: Path, weights: Path) -> Iterator[tuple[float, float, float]]:
    """Measure V_Rand over all slices, for each factor.

    Yields:
        Factor, V_Rand without rescaling, V_Rand with rescaling.
    """
    network = RonnebergerUNet()
    load_weights(network, weights)
    network.eval()
    slices = [em_slice(data, name) for name in SLICES]
    for factor in FACTORS:
        curves: dict[bool, list[np.ndarray]] = {False: [], True: []}
        for image, truth in slices:
            size = tuple(round(n * factor) for n in image.shape)
            resampled = resize(image, size, order=3, anti_aliasing=factor < 1, preserve_range=True)
            pixels = resampled.round().clip(0, 255).astype(np.uint8)
            for rescale, found in curves.items():
                cells = probability(pixels, TRAINED / factor, network, rescale)
                cells = resize(cells, truth.shape, order=1, anti_aliasing=factor > 1)
                found.append(thinned_curves(cells, truth)[0].f)
        without, with_it = (float(np.mean(found, axis=0).max()) for found in curves.values())
        yield factor, without, with_it


def main() -> None:
    """Print V_Rand with and without rescaling."""
    parser = argparse.ArgumentParser(description="V_Rand of EM slices with other pixels than in training.")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "isbi2012", help="ISBI 2012 data, with train/")
    parser.add_argument("--weights", type=Path, default=ROOT / "models" / "model.pt")
    arguments = parser.parse_args()
    print("pixel size    as it is    --pixel_size auto")
    for factor, without, with_it in rows(arguments.data, arguments.weights):
        print(f"{1000 * TRAINED / factor:7.2f} nm{without:12.3f}{with_it:21.3f}", flush=True)


if __name__ == "__main__":
    main()
