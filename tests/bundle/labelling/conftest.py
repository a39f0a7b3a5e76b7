"""Weights of a small network for the tests of `python -m bundle label`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.networks.unet import RonnebergerUNet
from tests.bundle.labelling import FEATURES


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    torch.save(RonnebergerUNet(features=FEATURES).state_dict(), path)
    return path
