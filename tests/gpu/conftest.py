"""A network and an image on a CPU and on a GPU. Most tests run on both, to find mistakes in the tests without a GPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch

from benchmarks.gpu_work import backend_flags
from bundle.datasets.synthetic_em import synthetic_section
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet
from tests.same_scores import relative_error

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
TILE = 236  # pixels, with 52 pixels of output: 3 x 2 tiles for an image of 96 x 80


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def float32_is_float32() -> Iterator[None]:
    """Switch TF32 off, except where a test switches TF32 on."""
    with backend_flags(tf32=False):
        yield


def features_for(device: torch.device) -> tuple[int, ...]:
    """Get the features of the paper on a GPU, and fewer on a CPU, for speed."""
    return (64, 128, 256, 512, 1024) if device.type == "cuda" else (8, 16, 32, 64, 128)


@cache
def image() -> torch.Tensor:
    """A synthetic section (1, 1, 96, 80), mean 0 and variance 1."""
    grey, _ = synthetic_section(np.random.default_rng(0), (96, 80))
    x = torch.from_numpy(grey.astype(np.float32))[None, None]
    return (x - x.mean()) / x.std()


@cache
def _reference(features: tuple[int, ...]) -> tuple[RonnebergerUNet, torch.Tensor]:
    torch.manual_seed(0)
    network = RonnebergerUNet(features=features, dropout=0.0).eval()
    with torch.no_grad():
        scores = OverlapTileInferer(tile_size=TILE, channels_last=False)(image(), network)
        shift = (scores[:, 1] - scores[:, 0]).median()
        network.scores.bias[1] -= shift  # makes both classes frequent, for a meaningful argmax
        scores[:, 1] -= shift
    return network, scores


def reference(device: torch.device) -> tuple[RonnebergerUNet, torch.Tensor]:
    """Get a network on `device`, and the scores (1, 2, 96, 80) of `image` on a CPU in float32, tile by tile."""
    network, scores = _reference(features_for(device))
    return copy.deepcopy(network).to(device), scores.clone()


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Get the norm of the difference, divided by the expected norm, on any devices."""
    return relative_error(got.cpu(), expected.cpu())
