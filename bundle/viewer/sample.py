"""Sample data for the viewer."""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage.draw import ellipse
from skimage.filters import gaussian

PLANES, SIZE, NUCLEI = 6, 256, 45
RADII = (6, 13)  # pixels


def nuclei() -> list[tuple[np.ndarray, dict[str, Any], str]]:
    """Draw six images of nuclei in fluorescence and their labels, as layers of the viewer.

    The images are computed, for a first look at the widgets. Results on them say nothing about quality.

    Returns:
        image uint8 (6, 256, 256) and labels int32 (6, 256, 256), each with its name.

    Example:
        >>> image, labels = (data for data, _, _ in nuclei())
        >>> image.shape, image.dtype, int(labels.max())
        ((6, 256, 256), dtype('uint8'), 45)
    """
    planes = [_plane(np.random.default_rng(seed)) for seed in range(PLANES)]
    images, labels = (np.stack(part) for part in zip(*planes, strict=True))
    return [(images, {"name": "nuclei"}, "image"), (labels, {"name": "nuclei labels"}, "labels")]


def _plane(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image uint8 (H, W) and its labels int32 (H, W). Nuclei touch and overlap a little."""
    light, labels = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE), np.int32)
    for number in range(1, NUCLEI + 1):
        (row, column), (height, width) = rng.uniform(0, SIZE, 2), rng.uniform(*RADII, 2)
        rows, columns = ellipse(row, column, height, width, labels.shape, rng.uniform(0, np.pi))
        if np.count_nonzero(labels[rows, columns]) > 0.1 * len(rows):
            continue  # nuclei side by side, hardly one above the other
        light[rows, columns] = rng.uniform(40, 140)
        labels[rows, columns] = number
    texture = 1 + 0.5 * gaussian(rng.normal(size=labels.shape), 2)
    blurred = gaussian(light * texture, 1) + 12
    return np.clip(rng.poisson(blurred), 0, 255).astype(np.uint8), labels
