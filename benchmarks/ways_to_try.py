"""Other ways to do a training step or an image, for `benchmarks.trials` to compare with what is used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks.inference import image, networks, tile_by_tile
from benchmarks.measure import Setup, Way, threads
from benchmarks.step import LEARNING_RATE, MOMENTUM, PlainStep, Step, center_slice, layout_name, network, tile
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.inferers.precision import computes_in_bfloat16, training_layout, trains_in_channels_last

USED = "as used"


class Trial(NamedTuple):
    """One way to do the work.

    Attributes:
        make: prepares it, e.g. builds a network; what comes back does the work.
        kept: whether freed memory is kept meanwhile, as in a run of the configurations.
        tiles: how many of the others' pieces of work it does at once.
    """

    make: Callable[[], Way]
    kept: bool = True
    tiles: int = 1


def step_trials(setup: Setup) -> dict[str, Trial]:
    """Training steps; the first is the one that is used."""
    size = 252 if setup.quick else 572
    x, target = tile(size, setup.device)
    native, other = _precisions(setup.device)
    last = trains_in_channels_last(setup.device)

    def step(amp_dtype: str = native, channels_last: bool = last, batch: int = 1) -> Step:
        inputs = (x, target) if batch == 1 else tile(size, setup.device, batch)
        made = Step(network(setup, channels_last), *inputs, amp_dtype)
        made.inferer.channels_last = channels_last
        return made

    def with_optimizer(**options: bool) -> Step:
        made = step()
        weights = made.network.parameters()
        made.optimizer = torch.optim.SGD(weights, lr=LEARNING_RATE, momentum=MOMENTUM, **options)
        return made

    def compiled(mode: str | None = None) -> Step:
        made = step()
        made.network = torch.compile(made.network, mode=mode)  # type: ignore[assignment]  # as good as one
        return made

    def traced() -> Way:
        made = step()
        inferer, graph = made.inferer, OneDNNGraph(made.network)
        made.inferer = lambda images, _: inferer(images, graph)  # type: ignore[assignment]
        return fused(made)

    def checkpointed() -> Step:
        made = step()
        for stage in (*made.network.contracting, *made.network.expansive):
            stage.forward = partial(checkpoint, stage.forward, use_reentrant=False)
        return made

    def without_dropout() -> Step:
        made = step()
        for module in made.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return made

    def without_loss() -> Step:
        made = step()
        made.loss = lambda scores, _: scores.mean()  # type: ignore[assignment]
        return made

    def in_bfloat16() -> PlainStep:
        tiles = x.to(torch.bfloat16, memory_format=training_layout(setup.device))
        return PlainStep(network(setup, last).to(torch.bfloat16), tiles, target.to(torch.bfloat16))

    return {
        f"{USED}: {native}, {layout_name(last)}, freed memory kept": Trial(step),
        "without dropout, to see its price": Trial(without_dropout),
        "mean of the scores as the loss, to see the price of ours": Trial(without_loss),
        layout_name(not last): Trial(lambda: step(channels_last=not last)),
        other: Trial(lambda: step(other)),
        "float32, NCHW": Trial(lambda: step("float32", channels_last=False)),
        "weights in bfloat16, no autocast": Trial(in_bfloat16),
        "fused optimiser": Trial(lambda: with_optimizer(fused=True)),
        "optimiser weight by weight": Trial(lambda: with_optimizer(foreach=False)),
        "activation checkpointing": Trial(checkpointed),
        "torch.compile": Trial(compiled),
        "torch.compile, max-autotune": Trial(lambda: compiled("max-autotune")),
        "oneDNN graph (torch.jit)": Trial(traced),
        "float32, NCHW, eager, slices, memory given back (the baseline)": Trial(
            lambda: PlainStep(network(setup, channels_last=False), x, target), kept=False
        ),
        "freed memory given back to the system": Trial(step, kept=False),
        "skips cropped by slices": Trial(lambda: sliced(step())),
        "2 tiles a step": Trial(lambda: step(batch=2), tiles=2),
        "4 tiles a step": Trial(lambda: step(batch=4), tiles=4),
        "one thread": Trial(lambda: on_threads(1, step())),
    }


def image_trials(setup: Setup) -> dict[str, Trial]:
    """One image, by tile size, batch, layout, precision and what runs the network; the first is what is used."""
    size = 128 if setup.quick else 512
    x = image(size, setup.device)
    last, plain = networks(setup)
    native, other = _precisions(setup.device)

    def segment(net: Callable[..., torch.Tensor] = last, **options: object) -> Way:
        inferer = OverlapTileInferer(**{"amp_dtype": native, **options})  # type: ignore[arg-type]
        return partial(inferer, x, net)

    def in_bfloat16() -> Way:
        net = networks(setup)[0].to(torch.bfloat16)
        return partial(OverlapTileInferer(), x.to(torch.bfloat16), net)

    return {
        f"{USED}: least work, {native}, channels-last, freed memory kept": Trial(segment),
        "freed memory given back to the system": Trial(segment, kept=False),
        "tiles of 572, four at once": Trial(lambda: segment(tile_size=572, sw_batch_size=4)),
        "tiles of 572, one by one": Trial(lambda: segment(tile_size=572)),
        "tiles of 444, one by one": Trial(lambda: segment(tile_size=444)),
        "NCHW": Trial(lambda: segment(plain, channels_last=False)),
        "channels-last tiles, NCHW weights": Trial(lambda: segment(plain)),
        other: Trial(lambda: segment(amp_dtype=other)),
        "float32, NCHW": Trial(lambda: segment(plain, amp_dtype="float32", channels_last=False)),
        "float16 autocast": Trial(lambda: segment(amp_dtype="float16")),
        "weights in bfloat16, no autocast": Trial(in_bfloat16),
        "torch.compile": Trial(lambda: segment(torch.compile(last))),
        "torch.compile, weights frozen": Trial(lambda: segment(torch.compile(last, options={"freezing": True}))),
        "torch.compile, max-autotune": Trial(lambda: segment(torch.compile(last, mode="max-autotune"))),
        "oneDNN graph (torch.jit)": Trial(lambda: fused(segment(OneDNNGraph(last)))),
        "tiles of 572, one by one, float32, NCHW (the baseline)": Trial(
            lambda: partial(tile_by_tile, x, plain), kept=False
        ),
        "one thread": Trial(lambda: on_threads(1, segment())),
    }


def _precisions(device: torch.device) -> tuple[str, str]:
    """What the configurations choose on a device, and the other one of float32 and bfloat16."""
    return ("bfloat16", "float32") if computes_in_bfloat16(device) else ("float32", "bfloat16")


class OneDNNGraph:
    """A network as torch's TorchScript gives it to oneDNN's graph compiler within `fused`, traced at its first call.

    Args:
        network: on a CPU; weights become constants where no gradient is asked for.
    """

    def __init__(self, network: Callable[..., torch.Tensor]) -> None:
        self.network = network
        self.depth = getattr(network, "depth", 4)  # which the inferer asks for
        self.graph: Callable[..., torch.Tensor] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Scores for a tile of the first one's size."""
        if self.graph is None:
            cached = torch.is_autocast_cache_enabled()
            torch.set_autocast_cache_enabled(False)  # weights converted before would be constants of the graph
            self.graph = torch.jit.trace(self.network, x, check_trace=False)
            torch.set_autocast_cache_enabled(cached)
            if not torch.is_grad_enabled():
                self.graph = torch.jit.freeze(self.graph)
        return self.graph(x)


def fused(run: Way) -> Way:
    """With oneDNN's graph compiler on, and afterwards as before: other scripts of the process may fail with it."""

    def compiled() -> object:
        before = torch.jit.onednn_fusion_enabled()
        torch.jit.enable_onednn_fusion(True)
        try:
            return run()
        finally:
            torch.jit.enable_onednn_fusion(before)

    return compiled


def sliced(step: Way) -> Way:
    """With skips that are cropped by slices, as most implementations do it."""

    def run() -> object:
        with patch("scripts.networks.unet.center_crop", center_slice):
            return step()

    return run


def on_threads(count: int, run: Way) -> Way:
    """With as many threads of torch, others afterwards as before."""

    def limited() -> object:
        with threads(count):
            return run()

    return limited
