"""The training step alone: forward, loss, backward, clipping and optimiser on one tile that is there already.

Baseline: the same network as torch makes it, float32, NCHW, torch's own weighted cross-entropy and SGD. Ours: the parts
and settings of `configs/train.yaml`. Limit: products of large matrices with as many operations, in the same precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from unittest.mock import patch

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Goal, MatrixProducts, Row, Setup, Times, Way, take_turns
from scripts.inferers.memory import keep_freed_memory
from scripts.inferers.overlap_tile import MixedPrecisionInferer
from scripts.inferers.precision import computes_in_bfloat16, trains_in_channels_last
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.unet import RonnebergerUNet

LEARNING_RATE, MOMENTUM, MAX_NORM = 1e-6, 0.99, 5.0  # so low that many steps on one tile lead nowhere


def rows(setup: Setup) -> Iterator[Row]:
    """In the precision that the configuration chooses here, and in float32."""
    size = 252 if setup.quick else 572
    x, target = tile(size, setup.device)
    plain = PlainStep(network(setup, channels_last=False), x, target)
    native = computes_in_bfloat16(setup.device)
    last = trains_in_channels_last(setup.device)
    for amp_dtype in ("bfloat16", "float32") if native else ("float32",):
        ours = Step(network(setup, last), x, target, amp_dtype)
        products = MatrixProducts(getattr(torch, amp_dtype), setup.device, 256 if setup.quick else 4096)
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
    """The network to train, the same weights each time."""
    torch.manual_seed(0)
    net = RonnebergerUNet(features=setup.features).to(setup.device)
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    return net


def layout_name(channels_last: bool) -> str:
    """As tables call it."""
    return "channels-last" if channels_last else "NCHW"


def tile(size: int, device: torch.device, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (batch, 1, size, size), and targets (batch, 2, size - 184, size - 184): class and weight stacked."""
    torch.manual_seed(1)
    shape = (batch, 1, size - 184, size - 184)
    target = torch.cat([torch.randint(0, 2, shape).float(), 1 + torch.rand(shape)], dim=1)
    return torch.randn(batch, 1, size, size).to(device), target.to(device)


def center_slice(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    """The skip's crop as implementations of the paper have it: a view."""
    for axis, wanted in enumerate(size, start=2):
        x = x.narrow(axis, (x.shape[axis] - wanted) // 2, wanted)
    return x


class PlainStep:
    """A step as torch's tutorials write it, skips cropped by slices."""

    def __init__(self, network: RonnebergerUNet, x: torch.Tensor, target: torch.Tensor) -> None:
        self.network, self.x, self.target = network, x, target
        self.optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def __call__(self) -> float:
        """One step; the loss."""
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
    """A step with the parts of `configs/train.yaml`.

    Args:
        network: to train.
        x: images (B, 1, H, W).
        target: class and weight stacked.
        amp_dtype: of the forward pass.
        optimizer: of the network's parameters; None: SGD as in the configuration.
        channels_last: layout of the images; None: as the configuration chooses on their device.
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
        """One step; the loss."""
        return float(self.queue().item())

    def queue(self) -> torch.Tensor:
        """One step, which a GPU may still be busy with; the loss."""
        self.optimizer.zero_grad(set_to_none=False)  # as MONAI's trainer does
        loss = self.loss(self.inferer(self.x, self.network), self.target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        self.optimizer.step()
        return loss.detach()

    def warm_up(self) -> None:
        """Into the state of a training under way: memory is kept from the step before."""
        keep_freed_memory(True)
        self()


def operations_of(run: Way) -> int:
    """Floating point operations of one call, convolutions and matrix products alone, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
