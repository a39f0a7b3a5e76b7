"""Seconds of one image with the paper's network and with exported files, and the differences of the scores.

    python -m benchmarks.exports [--size 512] [--repeats 5] [--formats onnx torchscript pt2]

ONNX runs in float32 and in int8, by onnxruntime and, if installed, by OpenVINO. bfloat16 runs only on processors with
bfloat16 instructions. Baseline: the network in float32, channels-last, with the same overlap-tile inferer.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.measure import PAPER, take_turns
from bundle.publishing.exporters import FORMATS, tile_sizes
from bundle.publishing.quantizing import write_int8
from scripts.inferers.exported import ExportedNetwork
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.inferers.precision import computes_in_bfloat16
from scripts.networks.unet import RonnebergerUNet

FREE = tuple(name for name, kind in FORMATS.items() if kind.tile_size is None)
Segment = Callable[[torch.Tensor], torch.Tensor]


def methods(
    network: RonnebergerUNet, folder: Path, formats: tuple[str, ...] = FREE, device: str = "cpu"
) -> dict[str, Segment]:
    """Export a network, and list the ways to segment an image (1, C, H, W). The first way is the baseline.

    Args:
        network: in eval mode, on the CPU.
        folder: receives the exported files.
        formats: formats to export.
        device: device of all ways.

    Returns:
        name -> function that maps an image to scores (1, K, H, W).
    """
    in_bfloat16 = computes_in_bfloat16(torch.device(device))  # without instructions, an image can take minutes
    info = {"depth": network.depth, "padding": network.padding, "retain_dim": network.retain_dim}
    exported = {}
    for name in formats:
        path = folder / f"{name}{FORMATS[name].suffix}"
        FORMATS[name].write(network, path, info)
        exported[f"{name}, float32"] = ExportedNetwork(path, device)
    if "onnx" in formats:
        least, step = tile_sizes(network)
        int8 = folder / "int8.onnx"
        write_int8(network, int8, info, [torch.randn(1, network.in_channels, least + 8 * step, least + 8 * step)])
        exported["onnx, int8"] = ExportedNetwork(int8, device)
        if device == "cpu" and importlib.util.find_spec("openvino") is not None:
            single = folder / "onnx.onnx"
            exported["openvino, float32"] = ExportedNetwork(single, onnx_engine="openvino")
            exported["openvino, int8"] = ExportedNetwork(int8, onnx_engine="openvino")
            if in_bfloat16:
                rounded = ExportedNetwork(single, onnx_engine="openvino", amp_dtype="bfloat16")
                exported["openvino, bfloat16"] = rounded
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    ways: dict[str, Segment] = {"network, float32": partial(OverlapTileInferer(), network=network)}
    if in_bfloat16:
        ways["network, bfloat16"] = partial(OverlapTileInferer(amp_dtype="bfloat16"), network=network)
    return ways | {name: partial(OverlapTileInferer(), network=runs) for name, runs in exported.items()}


def main() -> None:
    """Print a table: median seconds, ratio to the baseline, largest difference of a score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="height and width of the image")
    parser.add_argument("--repeats", type=int, default=5, help="rounds after one to warm up")
    parser.add_argument("--formats", nargs="*", default=FREE, choices=FREE)
    parser.add_argument("--features", type=int, nargs="+", default=PAPER)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    network = RonnebergerUNet(features=arguments.features).eval()
    image = torch.randn(1, 1, arguments.size, arguments.size).to(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        ways = methods(network, Path(folder), tuple(arguments.formats), arguments.device)
    with torch.inference_mode():  # not around the exports: torch's exporter to ONNX fails there
        scores = {name: run(image) for name, run in ways.items()}
        times = take_turns({name: partial(run, image) for name, run in ways.items()}, arguments.repeats, warm_up=0)

    baseline = next(iter(ways))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{arguments.size} x {arguments.size}, features {tuple(arguments.features)}, {arguments.device}, "
        f"{torch.get_num_threads()} threads{load}, median of {arguments.repeats}; largest score "
        f"{float(scores[baseline].abs().max()):.2f}"
    )
    print(f"{'way':24} {'seconds':>8} {'ratio':>6} {'difference':>11}")
    for name, seconds in times.items():
        ratio = median(plain / spent for plain, spent in zip(times[baseline], seconds, strict=True))
        difference = float((scores[name] - scores[baseline]).abs().max())
        print(f"{name:24} {median(seconds):8.2f} {ratio:6.2f} {difference:11.1e}")


if __name__ == "__main__":
    main()
