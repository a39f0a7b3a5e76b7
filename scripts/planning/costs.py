"""Estimate the memory of a training, and measure the time of a step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch

from ..inferers.memory import keep_freed_memory
from ..inferers.overlap_tile import MixedPrecisionInferer
from ..inferers.precision import training_layout
from ..losses import WeightedCrossEntropyLoss
from ..machine import GIB
from ..networks.geometry import output_size
from ..networks.unet import RonnebergerUNet

# Peak of a training step, measured on a CPU in float32 with the paper's network: 0.62 GiB for a tile of 316, and 3.42
# for 956. Weights, gradients, both moments of AdamW and the moving average come on top.
BYTES_A_PIXEL, PAPER_WIDTH = 3700, 64
WEIGHTS_OF_PAPER, COPIES = 31_030_658, 5
LIBRARIES = int(0.9 * GIB)  # a process with torch and MONAI
BYTES_A_CACHED_PIXEL = 4 + 4 + 4 + 4  # image, label, weight, and a part of the validation's more


def step_memory(features: Sequence[int], tile: int, batch: int = 1) -> int:
    """Estimate the bytes of a training step of `variant_fast`, with the weights and without libraries and images.

    Args:
        features: channels of the levels.
        tile: side of the input tiles in pixels.
        batch: tiles of a step.

    Example:
        >>> round(step_memory([64, 128, 256, 512, 1024], 572) / 2**30, 1)
        1.7
    """
    width = features[0] / PAPER_WIDTH
    return int(4 * COPIES * WEIGHTS_OF_PAPER * width**2 + BYTES_A_PIXEL * tile**2 * batch * width)


def images_memory(sizes: Sequence[tuple[int, int]], channels: int = 1) -> int:
    """Estimate the bytes of the images, labels and weight maps that a training keeps in memory.

    Args:
        sizes: rows and columns of each image.
        channels: of the images.

    Example:
        >>> images_memory([(512, 512)] * 4) / 2**20
        16.0
    """
    return sum(rows * columns for rows, columns in sizes) * (BYTES_A_CACHED_PIXEL + 4 * (channels - 1))


def step_seconds(features: Sequence[int], tile: int, channels: int = 1, repeats: int = 3) -> float:
    """Measure the seconds of a training step on this machine: median, after a first step.

    Args:
        features: channels of the levels.
        tile: side of the input tiles in pixels.
        channels: of the images.
        repeats: number of measured steps.

    Example:
        >>> step_seconds([2, 4, 8, 16, 32], 188, repeats=1) > 0
        True
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = RonnebergerUNet(in_channels=channels, features=features)
    network.to(device, memory_format=training_layout(device))  # type: ignore[call-overload]  # torch's stub lacks this
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    loss, inferer, side = WeightedCrossEntropyLoss(), MixedPrecisionInferer(), output_size(tile)
    image = torch.randn(1, channels, tile, tile, device=device)
    target = torch.ones(1, 2, side, side, device=device)
    keep_freed_memory(True)
    seconds = []
    try:
        for _ in range(1 + repeats):
            started = time.perf_counter()
            optimiser.zero_grad(set_to_none=True)
            loss(inferer(image, network), target).backward()
            optimiser.step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
    finally:
        keep_freed_memory(False)
    return median(seconds[1:])
