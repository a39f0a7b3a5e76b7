"""Shared fixtures. Tests on real data are skipped if the data are missing."""

from __future__ import annotations

import logging
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import monai.bundle  # noqa: F401  # its loggers keep the stdout of this import; that of a test is closed
import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests. Skip tests marked gpu if torch finds no CUDA GPU."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # a long file at the end would leave the other process idle
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, and torch finds none here"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets: $ORIGINAL_UNET_DATA, else `../shared/data` next to the checkout, else skip."""
    candidates = [os.environ.get("ORIGINAL_UNET_DATA"), ROOT.parent / "shared" / "data"]
    for candidate in candidates:
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    pytest.skip("real data not found: set ORIGINAL_UNET_DATA to a folder that holds isbi2012/train/images, ...")


@pytest.fixture(scope="session")
def smoothed_planes(data_root: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predictions and ground truth of two real planes. Predictions are exact means over 5 x 5 pixels."""
    planes = []
    for name in ("00.png", "01.png"):
        train = data_root / "isbi2012" / "train"
        image, label = (np.asarray(Image.open(train / kind / name), int) for kind in ("images", "labels"))
        total = sum(image[y : y + 256, x : x + 256] for y in range(5) for x in range(5))
        planes.append((total / (25 * 255), label[:256, :256] > 0))
    return planes


@pytest.fixture(scope="session")
def bundle_root() -> Path:
    """The repository root, a MONAI bundle directory."""
    return ROOT


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(autouse=True)
def no_messages_of_earlier_runs() -> Iterator[None]:
    """Take the console of a run away after each test: its messages would appear in the output of later tests."""
    yield
    root = logging.getLogger()
    for handler in [one for one in root.handlers if type(one).__module__.startswith("scripts.")]:
        root.removeHandler(handler)
