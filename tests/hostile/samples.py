"""Make images with bright cells, and their labels, without the program's help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def cells(seed: int, size: int = 96, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs on dark noise.

    Returns:
        image (size, size) uint8; labels (size, size) uint16, 0 = background.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.uint16)
    for number in range(1, count + 1):
        row, column = rng.integers(8, size - 8, 2)
        inside = (rows - row) ** 2 + (columns - column) ** 2 < rng.integers(6, 11) ** 2
        labels[inside & (labels == 0)] = number
    kept = [number for number in range(1, count + 1) if (labels == number).sum() > 40]
    labels = sum((np.where(labels == number, k, 0) for k, number in enumerate(kept, 1)), np.zeros_like(labels))
    image = np.where(labels > 0, 170, 50) + rng.normal(0, 12, labels.shape)
    return image.clip(0, 255).astype(np.uint8), labels.astype(np.uint16)


def write_pairs(folder: Path, count: int = 4, size: int = 96, first: int = 0, binary: bool = False) -> Path:
    """Write `images/` and `labels/` with PNG of equal names."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        image, labels = cells(first + k, size)
        Image.fromarray(image).save(folder / "images" / f"{k:02d}.png")
        Image.fromarray((labels > 0).astype(np.uint8) if binary else labels).save(folder / "labels" / f"{k:02d}.png")
    return folder


def write_images(folder: Path, count: int = 4, size: int = 96, first: int = 100) -> Path:
    """Write a folder of PNG images without labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.fromarray(cells(first + k, size)[0]).save(folder / f"{k:02d}.png")
    return folder
