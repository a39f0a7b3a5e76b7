"""A GPU's training and inference in tiles by the second, beside NVIDIA's published figures for the same task.

Baseline: NVIDIA's UNet_Medical, 572 -> 388 on one A100 (https://github.com/NVIDIA/DeepLearningExamples, TensorFlow2
Segmentation UNet_Medical, "Performance"): its figures, not its program. Limit: products of large matrices with as many
operations, in the same precision on this GPU. Without a GPU there are no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.inference import networks
from benchmarks.measure import Goal, MatrixProducts, Row, Setup, Times, Way, take_turns
from benchmarks.step import Step, network, operations_of, tile
from scripts.precision import amp_dtype_of, autocast

A100_TRAINING = {(1, "float32"): 29.6, (8, "float32"): 46.3, (1, "bfloat16"): 62.5, (8, "bfloat16"): 119.0}  # tiles/s
A100_INFERENCE = {(1, "float32"): None, (16, "float32"): None, (1, "bfloat16"): 283.0, (16, "bfloat16"): 424.0}
SIZE = 572


def rows(setup: Setup) -> Iterator[Row]:
    """Training at batch 1 and 8, inference at 1 and 16, in TF32 and bfloat16."""
    if setup.device.type == "cuda":
        yield from training(setup)
        yield from inference(setup)


def training(setup: Setup) -> Iterator[Row]:
    """Steps on tiles that are on the GPU already."""

    def make(batch: int, amp_dtype: str) -> Way:
        return Step(network(setup, channels_last=True), *tile(SIZE, setup.device, batch), amp_dtype)

    yield from _rows(setup, "training step", A100_TRAINING, make, 0.40)


def inference(setup: Setup) -> Iterator[Row]:
    """Forward passes over tiles that are on the GPU already."""

    def make(batch: int, amp_dtype: str) -> Way:
        net, _ = networks(setup)
        x = tile(SIZE, setup.device, batch)[0].to(memory_format=torch.channels_last)

        def run() -> None:
            with torch.inference_mode(), autocast(setup.device, amp_dtype_of(amp_dtype, setup.device)):
                net(x)

        return run

    yield from _rows(setup, "forward pass", A100_INFERENCE, make, 0.50)


def _rows(
    setup: Setup,
    work: str,
    published: dict[tuple[int, str], float | None] | dict[tuple[int, str], float],
    make: Callable[[int, str], Way],
    share: float,
) -> Iterator[Row]:
    for (batch, amp_dtype), rate in published.items():
        run = make(batch, amp_dtype)
        products = MatrixProducts(getattr(torch, amp_dtype), setup.device, 256 if setup.quick else 8192)
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")  # TF32 for the limit, as convolutions have it
        try:
            times = take_turns({"ours": run, "products": products}, 4 * setup.repeats, warm_up=5)
        finally:
            torch.set_float32_matmul_precision(before)
        name = "TF32" if amp_dtype == "float32" else amp_dtype
        ours = [second / batch for second in times["ours"]]
        yield Row(
            f"{work}, a tile of {SIZE}, {batch} at once, {name}",
            Times("channels-last, eager", ours),
            None if rate is None else Times("NVIDIA's UNet_Medical on an A100, as published", [1 / rate] * len(ours)),
            products.limit(times["products"], operations_of(partial(run)) / batch),
            (*(() if rate is None else (Goal("times", 1.0),)), Goal("share", share)),
            f"{1 / sorted(ours)[len(ours) // 2]:.4g} tiles/s",
        )
