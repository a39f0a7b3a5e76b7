"""Small data sets with known facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = 96


def disks(radius: int, step: int, size: int = SIZE, numbered: bool = True) -> np.ndarray:
    """Disks in rows and columns, `step` pixels apart."""
    y, x = np.mgrid[:size, :size]
    label = np.zeros((size, size), np.uint16)
    for number, (row, column) in enumerate(
        [(r, c) for r in range(step // 2, size - radius, step) for c in range(step // 2, size - radius, step)], start=1
    ):
        label[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = number if numbered else 255
    return label


def picture(label: np.ndarray, seed: int, bright: float = 150.0) -> np.ndarray:
    """A dark image with brighter objects."""
    noise = np.random.default_rng(seed).normal(0, 5, label.shape)
    return np.clip(30 + bright * (label > 0) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write images and labels as PNG into images/ and labels/ of a folder, and return the folder."""

    def written(
        labels: Sequence[np.ndarray], images: Sequence[np.ndarray] | None = None, names: Sequence[str] | None = None
    ) -> Path:
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
        for k, label in enumerate(labels):
            name = f"{names[k] if names else k}.png"
            Image.fromarray(label.astype(np.uint8)).save(tmp_path / "data" / "labels" / name)
            image = picture(label, k) if images is None else images[k]
            Image.fromarray(image).save(tmp_path / "data" / "images" / name)
        return tmp_path / "data"

    return written
