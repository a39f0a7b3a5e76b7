"""Peak memory of the paper's network on a CPU: of a training step by tile size and batch, of inference by memory limit.

    python -m benchmarks.memory [--tables counted steps inference pixels] [--precisions float32 bfloat16]

- counted: bytes of all tensors that exist at once (`benchmarks.live_bytes`). The same on every machine, in seconds.
- steps: measured. A training step of MONAI's trainer with the parts of configs/train.yaml.
- inference: measured. An image, by `memory_limit`.
- pixels: measured. Bytes for each input pixel of a forward pass.

Each measurement is a new process: how far the peak of resident memory (VmHWM, Linux) rises above the memory with the
network. Gradients and momentum count, since the measured step is not the first. Steps above `--most` are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch
from monai.engines import SupervisedTrainer
from torch import nn

from benchmarks.live_bytes import SMALLEST, live_bytes_of_step, recompute_stages
from benchmarks.measure import PAPER
from scripts.inferers.memory import KeepFreedMemory
from scripts.inferers.overlap_tile import MixedPrecisionInferer, OverlapTileInferer
from scripts.inferers.precision import training_layout
from scripts.losses import WeightedCrossEntropyLoss
from scripts.networks.geometry import output_size
from scripts.networks.unet import RonnebergerUNet

PRECISIONS = (None, "bfloat16")
TABLES = ("counted", "steps", "inference", "pixels")
Result = TypeVar("Result")


def train(network: nn.Module, batches: list[dict[str, torch.Tensor]], amp_dtype: str | None) -> None:
    """Train one step for each batch, with the parts of configs/train.yaml."""
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        network=network,
        loss_function=WeightedCrossEntropyLoss(),
        optimizer=torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.99),
        inferer=MixedPrecisionInferer(amp_dtype),
        train_handlers=[KeepFreedMemory()],
    )
    trainer.logger.disabled = True
    trainer.run()


def made_batch(size: int, batch: int) -> dict[str, torch.Tensor]:
    """Make a batch of a training: images, and labels with class and weight stacked.

    Example:
        >>> made_batch(188, 2)["label"].shape
        torch.Size([2, 2, 4, 4])
    """
    output = output_size(size)
    target = torch.stack([torch.randint(2, (batch, output, output)).float(), 1 + torch.rand(batch, output, output)], 1)
    return {"image": torch.randn(batch, 1, size, size), "label": target}


def step_peak(
    size: int,
    batch: int,
    amp_dtype: str | None,
    recompute: bool = False,
    features: tuple[int, ...] = PAPER,
) -> int:
    """Measure the bytes of training steps at their peak, without network and batch, in this process.

    Args:
        size: side of the tiles in pixels.
        batch: tiles of a step.
        amp_dtype: see `MixedPrecisionInferer`.
        recompute: use activation checkpointing.
        features: features of the network.
    """
    torch.manual_seed(0)
    network = RonnebergerUNet(features=features)
    if recompute:
        recompute_stages(network)
    network.to(memory_format=training_layout(torch.device("cpu")))  # type: ignore[call-overload]  # stub lacks this form
    batches = [made_batch(SMALLEST, 1), made_batch(size, batch)]
    return growth(lambda: train(network, batches, amp_dtype))


def inference_peak(image_size: int, memory_limit: int, amp_dtype: str | None) -> int:
    """Measure the bytes of segmenting an image at its peak, without network and image, in this process."""
    network = RonnebergerUNet().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.randn(1, 1, image_size, image_size)
    inferer = OverlapTileInferer(memory_limit=memory_limit, amp_dtype=amp_dtype)
    with torch.inference_mode():
        return growth(lambda: inferer(image, network))


def forward_peak(size: int, amp_dtype: str | None, padding: str = "valid", channels_last: bool = True) -> int:
    """Measure the bytes of a forward pass at its peak, without network and tile, in this process.

    `scripts.inferers.memory.BYTES_PER_PIXEL` estimates these bytes.
    """
    warm_up = SMALLEST if padding == "valid" else 192
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = RonnebergerUNet(padding=padding).eval().to(memory_format=layout)  # type: ignore[call-overload]
    tile = torch.randn(1, 1, size, size)
    inferer = MixedPrecisionInferer(amp_dtype, channels_last)
    with torch.inference_mode():
        inferer(tile[..., :warm_up, :warm_up], network)
        return growth(lambda: inferer(tile, network))


def growth(action: Callable[[], object]) -> int:
    """Measure how far the peak of this process' resident memory rises above its present memory, in bytes."""
    before = _status("VmRSS")
    action()
    return _status("VmHWM") - before


def in_fresh_process(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a new process, to measure the memory peak of the function alone."""
    context = get_context("forkserver")  # starts fast: the server has imported MONAI alone
    context.set_forkserver_preload(["monai.engines"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def table_of_steps(
    sizes: list[int], batches: list[int], most: int, counted: bool, precisions: Sequence[str | None] = PRECISIONS
) -> None:
    """Print GiB for every tile size, precision and batch; with activation checkpointing for the smallest batch.

    Args:
        sizes: sides of the tiles in pixels.
        batches: tiles of a step.
        most: bytes; larger steps are left out.
        counted: count tensors instead of measuring.
        precisions: None is float32. Without bfloat16 instructions a bfloat16 step takes minutes, and other memory.
    """
    ways = [(precision, False, batch) for precision in precisions for batch in batches]
    ways += [(precision, True, min(batches)) for precision in precisions]
    names = [f"{p or 'float32'}{', recomputed' if recompute else ''}, batch {batch}" for p, recompute, batch in ways]
    print(f"| tile | {' | '.join(names)} |")
    print(f"|---:|{'---:|' * len(ways)}")
    pixel_bytes: dict[str | None, float] = {}  # of the last and largest step of the precision
    for size in sorted(sizes):
        cells = []
        for precision, recompute, batch in ways:
            if not recompute and pixel_bytes.get(precision, 0) * batch * size**2 > most:
                cells.append(f"above {most / 2**30:.0f}")
                continue
            step = (size, batch, precision, recompute)
            peak = live_bytes_of_step(*step) if counted else in_fresh_process(step_peak, *step)
            if not recompute:
                pixel_bytes[precision] = peak / (batch * size**2)
            cells.append(f"{peak / 2**30:.2f}")
        print(f"| {size} | {' | '.join(cells)} |", flush=True)


def table_of_inference(image_size: int, limits: list[int]) -> None:
    """Print MiB at the peak for every `memory_limit`, with the output."""
    print(f"| memory_limit, MiB | {image_size} x {image_size}, float32 | bfloat16 |")
    print("|---:|---:|---:|")
    for limit in limits:
        peaks = [in_fresh_process(inference_peak, image_size, limit * 2**20, precision) for precision in PRECISIONS]
        print(f"| {limit} | {' | '.join(f'{peak / 2**20:.0f}' for peak in peaks)} |", flush=True)


def table_of_pixels(sizes: list[int]) -> None:
    """Print bytes for each input pixel of a forward pass. `BYTES_PER_PIXEL` in `scripts` must not be smaller."""
    print("| tile | precision | unpadded | unpadded, NCHW | padded | padded, NCHW |")
    print("|---:|---|---:|---:|---:|---:|")
    for size in sizes:
        for precision in PRECISIONS:
            peaks = [
                # a padded network needs a multiple of 16
                in_fresh_process(forward_peak, length, precision, padding, channels_last) / length**2
                for padding, length in (("valid", size), ("same", -(-size // 16) * 16))
                for channels_last in (True, False)
            ]
            row = " | ".join(f"{peak:.0f}" for peak in peaks)
            print(f"| {size} | {precision or 'float32'} | {row} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=["counted"])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[316, 444, 572, 700, 956], help="sides of tiles, for steps"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=("float32", "bfloat16"))
    parser.add_argument("--most", type=float, default=20.0, help="GiB; larger steps are left out")
    parser.add_argument("--image_size", type=int, default=1024, help="side of the image, for inference")
    parser.add_argument("--limits", type=int, nargs="+", default=[512, 1024, 3072], help="memory_limit, MiB")
    parser.add_argument(
        "--tile_sizes", type=int, nargs="+", default=[380, 572, 1004], help="sides of tiles, for pixels"
    )
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    precisions = [None if name == "float32" else name for name in arguments.precisions]
    for name in {"counted", "steps"}.intersection(arguments.tables):
        most = int(arguments.most * 2**30)
        table_of_steps(arguments.sizes, arguments.batches, most, name == "counted", precisions)
    if "inference" in arguments.tables:
        table_of_inference(arguments.image_size, arguments.limits)
    if "pixels" in arguments.tables:
        table_of_pixels(arguments.tile_sizes)


if __name__ == "__main__":
    main()
