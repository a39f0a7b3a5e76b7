"""Forward passes and training steps on a GPU: precision, layout, CUDA graphs, `torch.compile`.

Each way is a function without arguments. It queues its work and does not wait for the GPU.
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
    """Settings of a network's run.

    Attributes:
        batch: tiles in a batch.
        precision: "bfloat16" by autocast, "TF32" (float32 with TF32 products) or "float32" without TF32.
        channels_last: layout of weights and tiles; False: NCHW.
        search: cuDNN tries its algorithms and uses the fastest (`cudnn.benchmark`).
        deterministic: cuDNN uses only deterministic algorithms, as with `set_determinism` of train.yaml.
        graph: replay a CUDA graph of the pass, or of the whole training step.
        compiled: mode of `torch.compile`; None: eager.
        half_weights: inference with bfloat16 weights instead of autocast.
        fused: as `half_weights`, with bias and ReLU inside cuDNN's convolution.
        optimizer: "SGD" as in train.yaml, or "AdamW" (fused).

    Example:
        >>> Choice(graph=True).name
        'channels-last, CUDA graph'
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
        """Name in the tables."""
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
        """dtype of the matrix products for the limit."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def amp_dtype(self) -> str:
        """Name of the precision for the bundle's inferers."""
        return self.precision if self.precision in AMP_DTYPES else "float32"


@contextmanager
def backend_flags(tf32: bool = True, search: bool = False, deterministic: bool = False) -> Iterator[None]:
    """Set torch's flags for cuBLAS and cuDNN inside a `with` block.

    Args:
        tf32: allow float32 convolutions and matrix products to round their factors to TF32.
        search: `torch.backends.cudnn.benchmark`.
        deterministic: `torch.backends.cudnn.deterministic`.

    Example:
        >>> with backend_flags(search=True):
        ...     torch.backends.cudnn.benchmark
        True
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    wanted = (tf32, tf32, search, deterministic)

    def put(flags: tuple[bool, bool, bool, bool]) -> None:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = flags

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer torch warns that the first two get other names
        before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
        put(wanted)
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            put(before)


def forward_pass(setup: Setup, choice: Choice, size: int) -> Way:
    """Make a forward pass without gradients, on tiles that are on the device.

    Args:
        setup: device and network.
        choice: settings of the run.
        size: side of the tiles in pixels.

    Returns:
        Function that returns the scores.
    """
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
            torch.compiler.cudagraph_mark_step_begin()  # allows to overwrite the scores of the previous pass
        with torch.no_grad(), autocast(setup.device, amp_dtype):
            return net(x)

    return captured(run, setup.device) if choice.graph else run


def training_step(setup: Setup, choice: Choice, size: int) -> Way:
    """Make a training step (forward, loss, backward, clipping, optimiser), on tiles that are on the device.

    Args:
        setup: device and network.
        choice: settings of the run.
        size: side of the tiles in pixels.

    Returns:
        Function that returns the loss.
    """
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
    """Capture work as a CUDA graph.

    Args:
        run: the work. Its tensors must keep their memory.
        device: a GPU.

    Returns:
        Function that replays the graph. Each call returns the same tensor, with new values.
    """
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a capturable optimiser warns before the capture
        for _ in range(3):  # choose algorithms and make the optimiser's buffers before the capture
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        result = run()
    return partial(_replay, graph, result, run)


def _replay(graph: torch.cuda.CUDAGraph, result: torch.Tensor, captured: Callable) -> torch.Tensor:
    """Replay a graph. `captured` keeps the weights and tiles alive, since the graph reads their memory."""
    graph.replay()
    return result


class FusedConvolution(nn.Module):
    """An unpadded convolution with bias and ReLU, as a single operation of cuDNN."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, K, H - 2, W - 2), not negative."""
        weight, bias = self.convolution.weight, self.convolution.bias
        return torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (0, 0), (1, 1), 1)


def fuse_relu(net: nn.Module) -> None:
    """Fuse each convolution of a network with its ReLU, in place."""
    for block in [module for module in net.modules() if isinstance(module, nn.Sequential)]:
        for index in range(len(block) - 1):
            convolution = block[index]
            if isinstance(convolution, nn.Conv2d) and isinstance(block[index + 1], nn.ReLU):
                block[index], block[index + 1] = FusedConvolution(convolution), nn.Identity()


@cache
def tile_operations(setup: Setup, size: int, training: bool) -> float:
    """Count the floating point operations of a pass or a step for one tile, on torch's meta device.

    Args:
        setup: network.
        size: side of the tile in pixels.
        training: count loss and backward pass, too.
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
