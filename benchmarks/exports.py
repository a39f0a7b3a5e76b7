"""Seconds for one image with the paper's network as it is and as exported files, and how far their scores are apart.

    python -m benchmarks.exports [--size 512] [--repeats 5] [--formats onnx torchscript pt2] [--cpu_time]

ONNX is run as it is and in int8, by onnxruntime and, where it is installed, by OpenVINO; bfloat16 only where there are
instructions for it. Baseline: the network itself in float32, channels-last, through the same overlap-tile inferer.
Every round runs all in turn, so that a load from elsewhere meets them alike; a ratio is the median of the rounds' own.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from bundle.publishing.exporters import FORMATS, tile_sizes
from bundle.publishing.quantizing import write_int8
from scripts.inferers.exported import ExportedNetwork
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.inferers.precision import computes_in_bfloat16
from scripts.networks.unet import RonnebergerUNet

FREE = tuple(name for name, kind in FORMATS.items() if kind.tile_size is None)


def methods(
    network: RonnebergerUNet, folder: Path, formats: tuple[str, ...] = FREE, device: str = "cpu"
) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Ways to segment an image (1, C, H, W); the first is the baseline.

    Args:
        network: in eval mode, on the CPU.
        folder: receives the exported files.
        formats: which to export.
        device: where all of them run.
    """
    in_bfloat16 = computes_in_bfloat16(torch.device(device))  # without, an image can take minutes
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
            exported |= {
                "openvino, float32": ExportedNetwork(single, onnx_engine="openvino"),
                "openvino, int8": ExportedNetwork(int8, onnx_engine="openvino"),
            }
            if in_bfloat16:
                rounded = ExportedNetwork(single, onnx_engine="openvino", amp_dtype="bfloat16")
                exported["openvino, bfloat16"] = rounded
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    ways: dict[str, tuple[torch.nn.Module, OverlapTileInferer]] = {
        "network, float32": (network, OverlapTileInferer()),
        **({"network, bfloat16": (network, OverlapTileInferer(amp_dtype="bfloat16"))} if in_bfloat16 else {}),
        **{name: (runs, OverlapTileInferer()) for name, runs in exported.items()},
    }
    return {name: lambda image, way=way: way[1](image, way[0]) for name, way in ways.items()}  # type: ignore[misc]


def main() -> None:
    """Print a table: median seconds, how many times as fast as the baseline, largest difference of a score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="height and width of the image")
    parser.add_argument("--repeats", type=int, default=5, help="rounds after one to warm up")
    parser.add_argument("--formats", nargs="*", default=FREE, choices=FREE)
    parser.add_argument("--features", type=int, nargs="+", default=(64, 128, 256, 512, 1024))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu_time", action="store_true", help="seconds of this process, for a machine under load")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter

    torch.manual_seed(0)
    network = RonnebergerUNet(features=arguments.features).eval()
    image = torch.randn(1, 1, arguments.size, arguments.size).to(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        ways = methods(network, Path(folder), tuple(arguments.formats), arguments.device)
    with torch.inference_mode():  # not around the exports: torch's exporter to ONNX fails under it
        baseline = next(iter(ways.values()))(image)
        differences = [float((run(image) - baseline).abs().max()) for run in ways.values()]  # and the warm-up
        rounds = [[_seconds(run, image, clock) for run in ways.values()] for _ in range(arguments.repeats)]

    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{arguments.size} x {arguments.size}, features {tuple(arguments.features)}, {arguments.device}, "
        f"{torch.get_num_threads()} threads{load}, median of {arguments.repeats}; largest score "
        f"{float(baseline.abs().max()):.2f}"
    )
    print(f"{'way':24} {'cpu s' if arguments.cpu_time else 'seconds':>8} {'ratio':>6} {'difference':>11}")
    for column, name in enumerate(ways):
        ratio = median(times[0] / times[column] for times in rounds)
        seconds = median(times[column] for times in rounds)
        print(f"{name:24} {seconds:8.2f} {ratio:6.2f} {differences[column]:11.1e}")


def _seconds(run: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, clock: Callable[[], float]) -> float:
    start = clock()
    run(image)
    if image.device.type == "cuda":  # its work is queued: let it end before the clock is read
        torch.cuda.synchronize(image.device)
    return clock() - start


if __name__ == "__main__":
    main()
