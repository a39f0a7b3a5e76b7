"""Describe the machine, and estimate the memory and the time of a training."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import torch

from ..inferers.memory import keep_freed_memory
from ..inferers.overlap_tile import MixedPrecisionInferer
from ..inferers.precision import computes_in_bfloat16, training_layout
from ..io.memory import available_memory
from ..losses import WeightedCrossEntropyLoss
from ..networks.geometry import output_size
from ..networks.unet import RonnebergerUNet

GIB = 2**30
SHARED_MEMORY = Path("/dev/shm")

# Peak of a training step, measured on a CPU in float32 with the paper's network: 0.62 GiB for a tile of 316, and 3.42
# for 956. Weights, gradients, both moments of AdamW and the moving average come on top.
BYTES_A_PIXEL, PAPER_WIDTH = 3700, 64
WEIGHTS_OF_PAPER, COPIES = 31_030_658, 5
LIBRARIES = int(0.9 * GIB)  # a process with torch and MONAI
BYTES_A_CACHED_PIXEL = 4 + 4 + 4 + 4  # image, label, weight, and a part of the validation's more


@dataclass(frozen=True)
class Machine:
    """The machine of a training.

    Args:
        device: "cuda" or "cpu", as `configs/train.yaml` chooses.
        processor: name of the GPU, or the vector instructions of the CPU.
        cores: that this process may use.
        memory: bytes of RAM that this process may take in all.
        gpu_memory: bytes of the GPU. 0: no GPU.
        bfloat16: whether convolutions compute in bfloat16.
    """

    device: str
    processor: str
    cores: int
    memory: int
    gpu_memory: int = 0
    bfloat16: bool = False

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine.

        Example:
            >>> Machine.here().device in ("cpu", "cuda")
            True
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        gpu = device.type == "cuda"
        affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
        return cls(
            device=device.type,
            processor=torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability(),
            cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
            memory=available_memory(),
            gpu_memory=torch.cuda.get_device_properties(0).total_memory if gpu else 0,
            bfloat16=computes_in_bfloat16(device),
        )

    @property
    def words(self) -> str:
        """Describe in words: "CPU, 2 cores, AVX512 and bfloat16"."""
        kind = f"{self.processor}, {self.gpu_memory / GIB:.0f} GiB" if self.gpu_memory else f"CPU, {self.processor}"
        return f"{kind}, {self.cores} core{'s' if self.cores > 1 else ''}{', bfloat16' if self.bfloat16 else ''}"


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


def free_space(folder: Path) -> int:
    """Read the free bytes of the disk of a folder, which need not exist yet.

    Example:
        >>> free_space(Path("not/yet/there")) > 0
        True
    """
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def writable(folder: Path) -> bool:
    """Whether files may be written into a folder. A folder without any right to write is read-only, also for root.

    Example:
        >>> from pathlib import Path
        >>> writable(Path("."))
        True
    """
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def shared_memory() -> int | None:
    """Read the free bytes of the shared memory, in which worker processes pass tiles. None: not on this system.

    Example:
        >>> shared_memory() is None or shared_memory() >= 0
        True
    """
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def has_mps() -> bool:
    """Whether torch may use the GPU of an Apple machine.

    Example:
        >>> has_mps() in (True, False)
        True
    """
    return bool(torch.backends.mps.is_available())


def total_memory() -> int:
    """Read the bytes of RAM.

    Example:
        >>> total_memory() > 0
        True
    """
    return int(psutil.virtual_memory().total)
