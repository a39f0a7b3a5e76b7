"""Forward passes and training steps on a GPU in several ways: precision, layout, CUDA graphs, `torch.compile`.

Every way is a function without arguments that queues its work and does not wait for the GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Setup, Way
from benchmarks.step import LEARNING_RATE, MOMENTUM, Step, layout_name, network, operations_of, tile
from scripts.inferers.precision import AMP_DTYPES, autocast
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.unet import RonnebergerUNet


@dataclass(frozen=True)
class Choice:
    """How a network runs.

    Attributes:
        batch: tiles at once.
        precision: "bfloat16" by autocast, "TF32" (float32 with TF32 products) or "float32" without TF32.
        channels_last: layout of weights and tiles; else NCHW.
        search: cuDNN tries its algorithms and takes the fastest (`cudnn.benchmark`).
        deterministic: cuDNN takes only deterministic algorithms, as `set_determinism` of train.yaml asks for.
        graph: replay a CUDA graph of the pass, or of the whole training step.
        compiled: mode of `torch.compile`; None: eager.
        half_weights: inference with weights in bfloat16 in place of autocast.
        fused: as `half_weights`, with bias and ReLU inside cuDNN's convolution.
        optimizer: "SGD" as in train.yaml, or "AdamW": fused.
    """

    batch: int = 8
    precision: str = "bfloat16"
    channels_last: bool = True
    search: bool = False
    deterministic: bool = False
    graph: bool = False
    compiled: str | None = None
    half_weights: bool = False
    fused: bool = False
    optimizer: str = "SGD"

    @property
    def name(self) -> str:
        """As tables call it."""
        said = {
            "cudnn.benchmark": self.search,
            "cudnn.deterministic": self.deterministic,
            "weights in bfloat16": self.half_weights,
            "bias and ReLU in the convolution": self.fused,
            "fused AdamW": self.optimizer == "AdamW",
            "CUDA graph": self.graph,
            f"torch.compile, mode {self.compiled}": self.compiled,
        }
        return ", ".join([layout_name(self.channels_last), *(words for words, used in said.items() if used)])

    @property
    def matrix_dtype(self) -> torch.dtype:
        """Of the matrix products that are the limit."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def amp_dtype(self) -> str:
        """The name that the bundle's inferers know."""
        return self.precision if self.precision in AMP_DTYPES else "float32"


@contextmanager
def backend_flags(tf32: bool = True, search: bool = False, deterministic: bool = False) -> Iterator[None]:
    """Set torch's flags for cuBLAS and cuDNN, and put them back afterwards.

    Args:
        tf32: whether products of float32 may round their factors to TF32, in convolutions and matrix products alike.
        search: `torch.backends.cudnn.benchmark`.
        deterministic: `torch.backends.cudnn.deterministic`.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    wanted = (tf32, tf32, search, deterministic)

    def put(flags: tuple[bool, bool, bool, bool]) -> None:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = flags

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer torch announces other names for the first two
        before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
        put(wanted)
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            put(before)


def forward_pass(setup: Setup, choice: Choice, size: int) -> Way:
    """A forward pass without gradients over tiles of `size` that are on the device already; gives the scores."""
    net: Any = network(setup, choice.channels_last).eval()
    x = tile(size, setup.device, choice.batch)[0]
    if choice.half_weights or choice.fused:
        net, x = net.to(torch.bfloat16), x.to(torch.bfloat16)
    if choice.channels_last:
        x = x.to(memory_format=torch.channels_last)
    if choice.fused:
        fuse_relu(net)
    if choice.compiled:
        net = torch.compile(net, mode=choice.compiled, dynamic=False)
    amp_dtype = None if choice.half_weights or choice.fused else AMP_DTYPES[choice.amp_dtype]

    def run() -> torch.Tensor:
        if choice.compiled:
            torch.compiler.cudagraph_mark_step_begin()  # the scores of the pass before may be overwritten
        with torch.no_grad(), autocast(setup.device, amp_dtype):
            return net(x)

    return captured(run, setup.device) if choice.graph else run


def training_step(setup: Setup, choice: Choice, size: int) -> Way:
    """Forward, loss, backward, clipping and optimiser on tiles of `size` that are on the device; gives the loss."""
    net: Any = network(setup, choice.channels_last)
    parameters = list(net.parameters())
    optimizer: torch.optim.Optimizer
    if choice.optimizer == "AdamW":
        cuda = setup.device.type == "cuda"
        optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=cuda or None, capturable=choice.graph)
    else:
        optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)
    if choice.compiled:
        net = torch.compile(net, mode=choice.compiled, dynamic=False)
    step = Step(
        net, *tile(size, setup.device, choice.batch), choice.amp_dtype, optimizer, channels_last=choice.channels_last
    )
    return captured(step.queue, setup.device) if choice.graph else step.queue


def captured(run: Callable[[], torch.Tensor], device: torch.device) -> Way:
    """Capture work as a CUDA graph and replay it; every replay gives the same tensor, with new values.

    Args:
        run: the work, on tensors that stay where they are.
        device: a GPU.
    """
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an optimiser that can be captured asks why it is not
        for _ in range(3):  # algorithms are chosen and the optimiser's buffers made before the capture
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        result = run()
    return partial(_replay, graph, result, run)


def _replay(graph: torch.cuda.CUDAGraph, result: torch.Tensor, captured: Callable) -> torch.Tensor:
    """Replay a graph; `captured` is only held, since the graph reads the memory of its weights and tiles."""
    graph.replay()
    return result


class FusedConvolution(nn.Module):
    """An unpadded convolution with its bias and the ReLU after it, as one operation of cuDNN."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, K, H - 2, W - 2), none below 0."""
        weight, bias = self.convolution.weight, self.convolution.bias
        return torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (0, 0), (1, 1), 1)


def fuse_relu(net: nn.Module) -> None:
    """Replace each pair of convolution and ReLU inside a network, in place."""
    for block in [module for module in net.modules() if isinstance(module, nn.Sequential)]:
        for index in range(len(block) - 1):
            convolution = block[index]
            if isinstance(convolution, nn.Conv2d) and isinstance(block[index + 1], nn.ReLU):
                block[index], block[index + 1] = FusedConvolution(convolution), nn.Identity()


@cache
def tile_operations(setup: Setup, size: int, training: bool) -> float:
    """Floating point operations of one tile's pass or step, counted where nothing is computed.

    Args:
        setup: which network.
        size: of the tile.
        training: with loss and backward pass.
    """
    with torch.device("meta"):
        net, x, target = (
            RonnebergerUNet(features=setup.features),
            torch.empty(1, 1, size, size),
            torch.empty(1, 2, size - 184, size - 184),
        )
    if training:
        return operations_of(lambda: WeightedCrossEntropyLoss()(net(x), target).backward())
    with torch.no_grad():
        return operations_of(partial(net.eval(), x))
