"""ONNX in int8: weights and activations are rounded to 8 bits, in ranges found by running real images.

Static quantisation by onnxruntime: activations unsigned, weights signed with a range for each output channel, which is
what x86 processors have instructions for. OpenVINO reads the same file.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.errors import UsageError
from bundle.experiments.trained import Trained
from bundle.publishing.exporters import FORMATS, ExportFormat, write_onnx
from scripts.data.datalist import find_images
from scripts.inferers.exported import INPUT
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet

IMAGES = 10  # that calibrate; each of 700 x 700 takes about two seconds
MEMORY = 2**30  # bytes that a tile may take: one of 700 fits
TOLERANCE = 0.25  # of the largest score; with the published weights 0.05
CHANGED = 0.02  # share of the pixels whose class differs; with the published weights 0.002


def int8_format(tiles: Sequence[torch.Tensor]) -> ExportFormat:
    """The kind of file that `write_int8` makes, with tolerances of its own: int8 cannot meet float32's.

    Args:
        tiles: to calibrate on, (1, C, h, w) each, as the network gets them.
    """
    write = partial(write_int8, tiles=tiles)
    return ExportFormat(".onnx", FORMATS["onnx"].needs, TOLERANCE, write, changed=CHANGED)


def write_int8(network: RonnebergerUNet, path: Path, info: Mapping[str, Any], tiles: Sequence[torch.Tensor]) -> None:
    """ONNX in int8 for any batch and size; the description says so.

    Args:
        network: in eval mode, on the CPU.
        path: to write.
        info: the description.
        tiles: as in `int8_format`.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, _hushed():
        source = Path(folder) / "float32.onnx"
        write_onnx(network, source, {**info, "precision": "int8", "calibration_tiles": len(tiles)})
        quantize_static(
            source,
            path,
            _Tiles(tiles),
            quant_format=QuantFormat.QDQ,  # which OpenVINO reads, too
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # weights of 7 bits: without VNNI, pairs of products are added up in 16 bits
            nodes_to_exclude=[_last_convolution(source)],  # scores in 256 steps would move more of the borders
        )


def calibration_tiles(trained: Trained, addresses: Sequence[str]) -> list[torch.Tensor]:
    """The middle tile of at most `IMAGES` images, evenly chosen, prepared and mirrored as inference does it.

    Args:
        trained: the network, and the preparation of images.
        addresses: of images, at least one.

    Returns:
        (1, C, h, w) each.
    """
    chosen = sorted({int(i) for i in np.linspace(0, len(addresses) - 1, IMAGES).round()})
    return [_middle_tile(trained.prepared(addresses[i]), trained.network) for i in chosen]


def calibration_addresses(folder: str) -> list[str]:
    """Addresses of the images of a folder, or of the planes of a file; UsageError where there are none."""
    try:
        return [item["image"] for item in find_images(folder)]
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"--calibration {folder}: {error}") from error


def _middle_tile(image: torch.Tensor, network: RonnebergerUNet) -> torch.Tensor:
    """What the network gets for the middle of an image (1, C, H, W), in tiles as inference plans them."""
    tiles: list[torch.Tensor] = []

    def keep(tile: torch.Tensor) -> torch.Tensor:
        tiles.append(tile)
        rows, columns = (side - 2 * network.margin for side in tile.shape[2:])
        return tile.new_zeros(1, 1, rows, columns)

    padding = "retain_dim" if network.retain_dim else network.padding
    OverlapTileInferer(network.depth, padding, memory_limit=MEMORY, sw_batch_size=1)(image, keep)
    return tiles[len(tiles) // 2]


def _last_convolution(path: Path) -> str:
    """Name of the node that gives the scores."""
    import onnx

    return [node.name for node in onnx.load(path).graph.node if node.op_type == "Conv"][-1]


class _Tiles:
    """Tiles one by one, as onnxruntime's calibration asks for them."""

    def __init__(self, tiles: Sequence[torch.Tensor]) -> None:
        self.left = iter(tiles)

    def get_next(self) -> dict[str, np.ndarray] | None:
        tile = next(self.left, None)
        return None if tile is None else {INPUT: tile.contiguous().numpy()}


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the advice to simplify the graph before: there is nothing in it to simplify."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
