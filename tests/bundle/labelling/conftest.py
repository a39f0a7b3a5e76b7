"""Weights of a small network for the tests of `python -m bundle label`."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.handlers.checkpoints import save_weights
from scripts.networks.unet import RonnebergerUNet
from tests.bundle.labelling import FEATURES


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    save_weights(RonnebergerUNet(features=FEATURES), path)
    return path
