"""A network and an image, on a CPU and on a GPU: most tests run on both, so that their own mistakes show on a CPU."""

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
TILE = 236  # 52 pixels of output, so that an image of 96 x 80 takes 3 x 2 tiles


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def float32_is_float32() -> Iterator[None]:
    """No TF32 but where a test asks for it."""
    with backend_flags(tf32=False):
        yield


def features_for(device: torch.device) -> tuple[int, ...]:
    """The paper's on a GPU; narrower ones on a CPU, which is then fast enough."""
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
        network.scores.bias[1] -= shift  # so that both classes are frequent and the argmax says something
        scores[:, 1] -= shift
    return network, scores


def reference(device: torch.device) -> tuple[RonnebergerUNet, torch.Tensor]:
    """A network on `device`, and its scores (1, 2, 96, 80) for `image` from a CPU in float32, tile by tile."""
    network, scores = _reference(features_for(device))
    return copy.deepcopy(network).to(device), scores.clone()


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference as a share of the expected norm, wherever both lie."""
    return relative_error(got.cpu(), expected.cpu())
