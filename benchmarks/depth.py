"""Measure how much of a segmentation comes from each depth of the network.

    python -m benchmarks.depth nuclei --images data/DSB2018-fluo/images --count 11

Replaces the output of an up-convolution by its mean over the tile, so that nothing below reaches the result, and
measures how far the probabilities move. A network whose deep levels contribute nothing sees a few pixels around each
pixel alone. Also counts feature maps that are 0 on all images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.data.datalist import find_images
from scripts.io.reader import PlaneReader
from scripts.segmenter import Segmenter


def contributions(segmenter: Segmenter, images: Sequence[np.ndarray]) -> tuple[list[float], float]:
    """Measure the contribution of the levels below each up-convolution.

    Args:
        segmenter: with a `RonnebergerUNet` in 2-D.
        images: (H, W) or (H, W, C) each.

    Returns:
        mean absolute difference of the foreground's probability without the levels below, the deepest up-convolution
        first; share of the feature maps after a ReLU that are 0 in all images.

    Example:
        >>> found, silent = contributions(Segmenter(), [np.random.default_rng(0).random((80, 80))])
        >>> len(found), found[0] <= 1
        (4, True)
    """
    network = segmenter.network
    fires: dict[str, torch.Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: Any, __: Any, output: torch.Tensor) -> None:
            fires[name] = fires.get(name, torch.tensor(False)) | (output.detach() > 0).any(dim=3).any(dim=2).any(dim=0)

        return hook

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, torch.nn.ReLU)]
    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers]
    whole = [segmenter(image).probabilities[1] for image in images]
    for hook in hooks:
        hook.remove()
    moved = []
    ups = [layer for layer in network.modules() if isinstance(layer, torch.nn.ConvTranspose2d)]  # the deepest first
    for up in ups:
        hook = up.register_forward_hook(_mean)
        without = [segmenter(image).probabilities[1] for image in images]
        moved.append(float(np.mean([np.abs(a - b).mean() for a, b in zip(whole, without, strict=True)])))
        hook.remove()
    return moved, 1 - float(torch.cat(list(fires.values())).float().mean())


def _mean(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
    return output.mean(dim=(2, 3), keepdim=True).expand_as(output)


def main() -> None:
    """Print a row of a table in Markdown for each of the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="files, or names of published weights")
    parser.add_argument("--images", required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=11, help="images, evenly from the folder (default: %(default)s)")
    given = parser.parse_args()
    files = [item["image"] for item in find_images(given.images)]
    files = files[:: max(1, len(files) // given.count)][: given.count]
    reader = PlaneReader()
    images = [np.asarray(reader.get_data([file])[0]) for file in files]
    print(
        "| weights | levels of 1/16 of the resolution | 1/8 and below | 1/4 and below | 1/2 and below | silent maps |"
    )
    print("|---" * 6 + "|")
    for name in given.weights:
        moved, silent = contributions(Segmenter(name), images)
        print(f"| {Path(name)} | {' | '.join(f'{one:.4f}' for one in moved)} | {silent:.0%} |", flush=True)


if __name__ == "__main__":
    main()
