"""An EM slice for the benchmarks: real with data, else synthetic with the same size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.io import imread

from bundle.datasets.synthetic_em import synthetic_section

SIDE = 512  # pixels, as the ISBI 2012 slices


def em_slice(folder: Path | None = None, name: str = "00") -> tuple[np.ndarray, np.ndarray]:
    """Read an image and the mask of its cells, or make both.

    Args:
        folder: ISBI 2012 data with train/images and train/labels; None: a synthetic section.
        name: name of the two files, without .png.

    Returns:
        uint8 (512, 512) grey values, bool (512, 512) True = cell.

    Raises:
        FileNotFoundError: the folder has no such slice.

    Example:
        >>> image, mask = em_slice()
        >>> image.shape, image.dtype.name, mask.dtype.name
        ((512, 512), 'uint8', 'bool')
    """
    if folder is None:
        image, labels = synthetic_section(np.random.default_rng(0), (SIDE, SIDE))
    else:
        image, labels = (imread(folder / "train" / kind / f"{name}.png") for kind in ("images", "labels"))
    return image, labels > 0


def proposal_of(image: np.ndarray) -> np.ndarray:
    """Blur grey values to a probability map of cells with errors at every threshold.

    Args:
        image: uint8 (H, W).

    Returns:
        float64 (H, W), 0 to 1.

    Example:
        >>> float(proposal_of(np.full((4, 4), 255, np.uint8)).max())
        1.0
    """
    return gaussian_filter(image / 255, 1.5)
