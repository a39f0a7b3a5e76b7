"""Count the bytes of all existing tensors: the same on every machine, also for networks of full size.

A process takes more, for buffers and layouts of libraries: see `benchmarks.memory`.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from benchmarks.measure import PAPER
from scripts.inferers.overlap_tile import MixedPrecisionInferer
from scripts.networks.geometry import output_size
from scripts.networks.unet import RonnebergerUNet

SMALLEST = 188  # pixels, smallest tile of the paper's network


class LiveBytes(TorchDispatchMode):
    """Count the bytes of tensors made inside a `with` block, until they are deleted.

    Attributes:
        live: bytes now.
        peak: largest number of bytes so far.

    Example:
        >>> with LiveBytes() as counter:
        ...     a = torch.ones(1000)
        ...     del a
        >>> counter.live, counter.peak
        (0, 4000)
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}  # a view's, or changed in place
        for storage in _storages(out):
            key = storage._cdata
            if key not in self._known and key not in given:
                self.live += storage.nbytes()
                self._known[key] = weakref.finalize(storage, self._freed, key, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _freed(self, key: int, size: int) -> None:
        del self._known[key]
        self.live -= size


class Recomputed(nn.Module):
    """A stage with activation checkpointing: the backward pass repeats the forward pass."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Compute the stage."""
        return checkpoint(self.stage, *inputs, use_reentrant=False)


def recompute_stages(network: RonnebergerUNet) -> RonnebergerUNet:
    """Wrap every stage in `Recomputed`, in place."""
    network.contracting = nn.ModuleList(map(Recomputed, network.contracting))
    network.expansive = nn.ModuleList(map(Recomputed, network.expansive))
    return network


def live_bytes_of_step(
    size: int,
    batch: int,
    amp_dtype: str | None,
    recompute: bool = False,
    features: tuple[int, ...] = PAPER,
    fake: bool = True,
) -> int:
    """Count the bytes of a training step at its peak, without weights and batch.

    The step is the second one, so gradients and momentum count. The loss, a few bytes for each pixel, is left out.

    Args:
        size: side of the tiles in pixels.
        batch: tiles of a step.
        amp_dtype: see `MixedPrecisionInferer`.
        recompute: use activation checkpointing.
        features: features of the network.
        fake: use tensors without values, and compute nothing.

    Example:
        >>> round(live_bytes_of_step(572, 1, None) / 2**30, 1)  # GiB
        1.0
    """
    with FakeTensorMode() if fake else nullcontext():
        network = RonnebergerUNet(features=features)
        if recompute:
            recompute_stages(network)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.99)
        inferer, counter = MixedPrecisionInferer(amp_dtype), LiveBytes()
        for length, count in ((SMALLEST, 1), (size, batch)):
            image = torch.randn(count, 1, length, length)
            gradient = torch.randn(count, 2, output_size(length), output_size(length))
            counter.peak = counter.live
            with counter:
                optimizer.zero_grad(set_to_none=False)  # as in MONAI's trainer
                scores = inferer(image, network)
                scores.backward(gradient)
                del scores
                optimizer.step()
    return counter.peak


def live_bytes_of_pass(size: int, amp_dtype: str | None, padding: str = "valid") -> int:
    """Count the bytes of a pass without gradients at its peak, without weights and tile. Nothing is computed.

    Args:
        size: side of the tile in pixels.
        amp_dtype: see `MixedPrecisionInferer`.
        padding: "valid" or "same".
    """
    with FakeTensorMode(), torch.no_grad():
        network, tile, counter = RonnebergerUNet(padding=padding).eval(), torch.randn(1, 1, size, size), LiveBytes()
        with counter:
            MixedPrecisionInferer(amp_dtype)(tile, network)
    return counter.peak


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
