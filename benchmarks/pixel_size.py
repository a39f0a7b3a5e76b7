"""Measure what a wrong pixel size costs, and what rescaling gives back, on real EM slices.

The slices are resampled to other pixel sizes and segmented twice: as they are, and with `--pixel_size auto`. The
probabilities are then brought to the size of the ground truth. Run `python -m benchmarks.pixel_size --data DATA`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from skimage.transform import resize

from benchmarks.em_slice import em_slice
from bundle.running.run import ROOT
from scripts.metrics.membranes import thinned_curves
from scripts.segmenter import Segmenter

SLICES = ("20", "21", "22", "23", "24")
TRAINED = 0.004  # um
FACTORS = (1.0, 1.5, 2.0, 1 / 1.5, 0.5)  # pixels of a resampled slice in a pixel of the original


def rows(data: Path, weights: Path) -> Iterator[tuple[float, float, float]]:
    """Measure V_Rand over all slices, for each factor.

    Yields:
        Factor, V_Rand without rescaling, V_Rand with rescaling.
    """
    segmenters = Segmenter(weights), Segmenter(weights, pixel_size="auto")
    slices = [em_slice(data, name) for name in SLICES]
    for factor in FACTORS:
        curves: tuple[list[np.ndarray], ...] = ([], [])
        for image, truth in slices:
            size = tuple(round(n * factor) for n in image.shape)
            resampled = resize(image, size, order=3, anti_aliasing=factor < 1, preserve_range=True)
            pixels = resampled.round().clip(0, 255).astype(np.uint8)
            for segmenter, found in zip(segmenters, curves, strict=True):
                cells = segmenter(pixels, pixel_size=TRAINED / factor).probabilities[1]
                cells = resize(cells, truth.shape, order=1, anti_aliasing=factor > 1)
                found.append(thinned_curves(cells, truth)[0].f)
        without, with_it = (float(np.mean(found, axis=0).max()) for found in curves)
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
