"""The training step alone, on one prepared tile: forward, loss, backward, clipping and optimiser.

Ours: the parts and settings of `configs/train.yaml`. Baseline: the same network in float32 and NCHW, with torch's own
cross-entropy and SGD. Limit: products of large matrices with as many operations, in the same precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from unittest.mock import patch

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Goal, Row, Setup, Times, Way, matrix_products, take_turns
from scripts.inferers.memory import keep_freed_memory
from scripts.inferers.overlap_tile import MixedPrecisionInferer
from scripts.inferers.precision import computes_in_bfloat16, trains_in_channels_last
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.unet import RonnebergerUNet

LEARNING_RATE, MOMENTUM, MAX_NORM = 1e-6, 0.99, 5.0  # low rate: many steps on one tile change little


def rows(setup: Setup) -> Iterator[Row]:
    """Measure the step in float32 and, with bfloat16 instructions, in bfloat16."""
    size = 252 if setup.quick else 572
    x, target = tile(size, setup.device)
    plain = PlainStep(network(setup, channels_last=False), x, target)
    native = computes_in_bfloat16(setup.device)
    last = trains_in_channels_last(setup.device)
    for amp_dtype in ("bfloat16", "float32") if native else ("float32",):
        ours = Step(network(setup, last), x, target, amp_dtype)
        products = matrix_products(setup, amp_dtype)
        ways: dict[str, Way] = {"ours": ours, "plain": plain, "products": products}
        before: dict[str, Way] = {"ours": ours.warm_up, "plain": partial(keep_freed_memory, False)}
        times = take_turns(ways, setup.repeats, before=before)
        keep_freed_memory(False)
        operations = operations_of(ours)
        limit = products.limit(times["products"], operations)
        yield Row(
            f"training step, a tile of {size}, {amp_dtype}",
            Times(f"{layout_name(last)}, {amp_dtype}", times["ours"]),
            Times("float32, NCHW, eager", times["plain"]),
            limit,
            (Goal("times", 2.5), Goal("share", 0.85)) if amp_dtype == "bfloat16" else (Goal("share", 0.85),),
            f"{operations / 1e12:.3g} TFLOP",
        )


def network(setup: Setup, channels_last: bool) -> RonnebergerUNet:
    """Make the network, with the same weights in each call."""
    torch.manual_seed(0)
    net = RonnebergerUNet(features=setup.features).to(setup.device)
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    return net


def layout_name(channels_last: bool) -> str:
    """Name of a memory layout in the tables.

    Example:
        >>> layout_name(False)
        'NCHW'
    """
    return "channels-last" if channels_last else "NCHW"


def tile(size: int, device: torch.device, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Make tiles of random values, the same in each call.

    Args:
        size: side of the tiles in pixels.
        device: device of the tiles.
        batch: number of tiles.

    Returns:
        float32 images (batch, 1, size, size), and targets (batch, 2, size - 184, size - 184): class and weight stacked.

    Example:
        >>> image, target = tile(188, torch.device("cpu"))
        >>> image.shape, target.shape
        (torch.Size([1, 1, 188, 188]), torch.Size([1, 2, 4, 4]))
    """
    torch.manual_seed(1)
    shape = (batch, 1, size - 184, size - 184)
    target = torch.cat([torch.randint(0, 2, shape).float(), 1 + torch.rand(shape)], dim=1)
    return torch.randn(batch, 1, size, size).to(device), target.to(device)


def center_slice(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Crop a skip (B, C, H, W) to the centre `size` by a slice, as most implementations do."""
    for axis, wanted in enumerate(size, start=2):
        x = x.narrow(axis, (x.shape[axis] - wanted) // 2, wanted)
    return x


class PlainStep:
    """A training step as in torch's tutorials, with skips cropped by slices."""

    def __init__(self, network: RonnebergerUNet, x: torch.Tensor, target: torch.Tensor) -> None:
        self.network, self.x, self.target = network, x, target
        self.optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def __call__(self) -> float:
        """Train one step, and return the loss."""
        self.optimizer.zero_grad()
        with patch("scripts.networks.unet.center_crop", center_slice):
            scores = self.network(self.x)
        energy = F.cross_entropy(scores, self.target[:, 0].long(), reduction="none")
        loss = (energy * self.target[:, 1]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        self.optimizer.step()
        return loss.item()


class Step:
    """A training step with the parts of `configs/train.yaml`.

    Args:
        network: network to train.
        x: images (B, 1, H, W).
        target: class and weight stacked, as `tile` makes them.
        amp_dtype: precision of the forward pass.
        optimizer: optimiser of the network's parameters; None: SGD as in the configuration.
        channels_last: layout of the images; None: the choice of the configuration on this device.
    """

    def __init__(
        self,
        network: RonnebergerUNet,
        x: torch.Tensor,
        target: torch.Tensor,
        amp_dtype: str,
        optimizer: torch.optim.Optimizer | None = None,
        channels_last: bool | None = None,
    ) -> None:
        self.network, self.x, self.target = network, x, target
        self.inferer, self.loss = MixedPrecisionInferer(amp_dtype, channels_last), WeightedCrossEntropyLoss()
        self.optimizer = optimizer or torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def __call__(self) -> float:
        """Train one step, and return the loss."""
        return float(self.queue().item())

    def queue(self) -> torch.Tensor:
        """Queue one step, without waiting for the GPU, and return the loss."""
        self.optimizer.zero_grad(set_to_none=False)  # as MONAI's trainer does
        loss = self.loss(self.inferer(self.x, self.network), self.target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        self.optimizer.step()
        return loss.detach()

    def warm_up(self) -> None:
        """Run one step with freed memory kept, as in a training."""
        keep_freed_memory(True)
        self()


def operations_of(run: Way) -> int:
    """Count floating point operations of one call: convolutions and matrix products alone, as torch counts.

    Example:
        >>> operations_of(lambda: torch.mm(torch.ones(2, 3), torch.ones(3, 4)))
        48
    """
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
