"""The EM slice that the benchmarks work on: a real one where there is data, else a made one of the same size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.io import imread

from bundle.datasets.synthetic_em import synthetic_section

SIDE = 512  # px, that of the ISBI 2012 slices


def em_slice(folder: Path | None = None, name: str = "00") -> tuple[np.ndarray, np.ndarray]:
    """A picture and the mask of its cells.

    Args:
        folder: of the ISBI 2012 data, holding train/images and train/labels; None: a made section.
        name: of the two files, without .png.

    Returns:
        uint8 (512, 512) grey values, bool (512, 512) True = cell.

    Raises:
        FileNotFoundError: the folder does not hold the slice.
    """
    if folder is None:
        image, labels = synthetic_section(np.random.default_rng(0), (SIDE, SIDE))
    else:
        image, labels = (imread(folder / "train" / kind / f"{name}.png") for kind in ("images", "labels"))
    return image, labels > 0


def proposal_of(image: np.ndarray) -> np.ndarray:
    """A probability map of cells (H, W), as good as blurred grey values make it: every threshold meets work to do."""
    return gaussian_filter(image / 255, 1.5)
