"""Seconds for one image with the paper's network: tiles, memory layout, precision.

    python -m benchmarks.inference [--size 512] [--repeats 5] [--device cuda]

Baseline: tiles of 572 as in the paper, one at a time, float32, NCHW. Every round runs all settings in turn, so that a
load from elsewhere meets them alike; a ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median
from typing import NamedTuple

import torch

from scripts.inferers import OverlapTileInferer
from scripts.networks import RonnebergerUNet


class Setting(NamedTuple):
    """One way to run the network over an image; the first of `SETTINGS` is the baseline."""

    name: str
    tile_size: int | None = None
    sw_batch_size: int | None = 1
    amp_dtype: str | None = None
    channels_last_input: bool = False
    channels_last_weights: bool = False


SETTINGS = (
    Setting("572 tiles, one by one", tile_size=572),
    Setting("572 tiles, one batch", tile_size=572, sw_batch_size=None),
    Setting("572 tiles, channels-last", tile_size=572, channels_last_input=True, channels_last_weights=True),
    Setting("least work"),
    Setting("least work, channels-last input", channels_last_input=True),
    Setting("least work, channels-last weights", channels_last_weights=True),
    Setting("least work, channels-last", channels_last_input=True, channels_last_weights=True),
    Setting("572 tiles, bfloat16", tile_size=572, amp_dtype="bfloat16"),
    Setting("least work, bfloat16", amp_dtype="bfloat16"),
    Setting(
        "least work, bfloat16, channels-last",
        amp_dtype="bfloat16",
        channels_last_input=True,
        channels_last_weights=True,
    ),
)


def prepare(setting: Setting, network: torch.nn.Module) -> OverlapTileInferer:
    """Lay the network's weights out as the setting says, and give its inferer."""
    layout = torch.channels_last if setting.channels_last_weights else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks this form
    return OverlapTileInferer(
        tile_size=setting.tile_size,
        sw_batch_size=setting.sw_batch_size,
        amp_dtype=setting.amp_dtype,
        channels_last=setting.channels_last_input,
    )


def seconds(setting: Setting, image: torch.Tensor, network: torch.nn.Module) -> float:
    """Time of one image (1, 1, H, W), without the conversion of the weights."""
    inferer = prepare(setting, network)
    _wait(image.device)
    start = time.perf_counter()
    with torch.inference_mode():
        inferer(image, network)
    _wait(image.device)
    return time.perf_counter() - start


def main() -> None:
    """Print a table: median seconds, and how many times as fast as the baseline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="height and width of the image")
    parser.add_argument("--repeats", type=int, default=5, help="rounds after one to warm up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--features", type=int, nargs="+", default=(64, 128, 256, 512, 1024))
    arguments = parser.parse_args()

    torch.manual_seed(0)
    network = RonnebergerUNet(features=arguments.features).eval().to(arguments.device)
    image = torch.rand(1, 1, arguments.size, arguments.size, device=arguments.device)
    rounds = [[seconds(setting, image, network) for setting in SETTINGS] for _ in range(arguments.repeats + 1)][1:]

    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{arguments.size} x {arguments.size}, features {tuple(arguments.features)}, {arguments.device}, "
        f"{torch.get_num_threads()} threads{load}, median of {arguments.repeats}"
    )
    print(f"{'setting':40} {'seconds':>8} {'ratio':>6}")
    for column, setting in enumerate(SETTINGS):
        times = [times_of_round[column] for times_of_round in rounds]
        ratio = median(times_of_round[0] / times_of_round[column] for times_of_round in rounds)
        print(f"{setting.name:40} {median(times):8.2f} {ratio:6.2f}")


def _wait(device: torch.device) -> None:
    """GPU work is queued: let it end before the clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
