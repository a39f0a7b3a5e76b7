"""Shared fixtures: real data where it is present, and nothing pretended where it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets: $ORIGINAL_UNET_DATA, else `../shared/data` beside the checkout; else skip."""
    candidates = [os.environ.get("ORIGINAL_UNET_DATA"), ROOT.parent / "shared" / "data"]
    for candidate in candidates:
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    pytest.skip("real data not found: set ORIGINAL_UNET_DATA to a folder that holds isbi2012/train/images, ...")


@pytest.fixture(scope="session")
def bundle_root() -> Path:
    """The repository root, which is itself a MONAI bundle directory."""
    return ROOT
