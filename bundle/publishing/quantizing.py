"""Write ONNX in int8: weights and activations rounded to 8 bits, in ranges measured on real images.

onnxruntime's static quantisation: unsigned activations, and signed weights with a range for each output channel. x86
processors have instructions for these types. OpenVINO reads the same file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from bundle.experiments.trained import Trained
from bundle.publishing.exporters import FORMATS, ExportFormat, quiet_exporters, write_onnx
from bundle.running.errors import UsageError
from scripts.data.datalist import find_images
from scripts.inferers.exported import INPUT
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.networks.unet import RonnebergerUNet

IMAGES = 10  # number of calibration images; each of 700 x 700 pixels takes about two seconds
MEMORY = 2**30  # bytes for a tile: enough for 700 x 700 pixels
TOLERANCE = 0.5  # root mean square difference of a tile, as a share of the scores'. A single score may differ more
CHANGED = 0.02  # share of pixels with another class; the published weights have 0.002
AGREEMENT = 0.9  # key metric of the task between the segmentations of both


def int8_format(tiles: Sequence[torch.Tensor]) -> ExportFormat:
    """Make the format of int8 files. Classes and the key metric of the task decide, not single scores.

    Args:
        tiles: calibration tiles (1, C, h, w), scaled as the network's input.

    Example:
        >>> int8_format([torch.zeros(1, 1, 188, 188)]).changed
        0.02
    """
    write = partial(write_int8, tiles=tiles)
    return ExportFormat(".onnx", FORMATS["onnx"].needs, TOLERANCE, write, changed=CHANGED, agreement=AGREEMENT)


def write_int8(network: RonnebergerUNet, path: Path, info: Mapping[str, Any], tiles: Sequence[torch.Tensor]) -> None:
    """Write ONNX in int8 for any batch and image size.

    Args:
        network, path: as in `ExportFormat`.
        info: the description to put into the file. "precision" and "calibration_tiles" are added.
        tiles: calibration tiles, see `int8_format`.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    inputs = iter([{INPUT: tile.contiguous().numpy()} for tile in tiles])
    with tempfile.TemporaryDirectory() as folder, quiet_exporters():
        source = Path(folder) / "float32.onnx"
        write_onnx(network, source, {**info, "precision": "int8", "calibration_tiles": len(tiles)})
        convolutions = [node.name for node in onnx.load(source).graph.node if node.op_type == "Conv"]
        quantize_static(
            source,
            path,
            SimpleNamespace(get_next=lambda: next(inputs, None)),
            quant_format=QuantFormat.QDQ,  # OpenVINO reads this format, too
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # weights of 7 bits: processors without VNNI add two products in 16 bits
            nodes_to_exclude=convolutions[-1:],  # it computes the scores; 256 steps would move more borders
        )


def calibration_tiles(trained: Trained, addresses: Sequence[str]) -> list[torch.Tensor]:
    """Cut the middle tile (1, C, h, w) of up to `IMAGES` evenly spaced images, prepared as in inference."""
    chosen = sorted({int(i) for i in np.linspace(0, len(addresses) - 1, IMAGES).round()})
    return [_middle_tile(trained.prepared(addresses[i]), trained.network) for i in chosen]


def calibration_addresses(folder: str) -> list[str]:
    """List the addresses of the images of a folder, or of the planes of a file. UsageError without images.

    Example:
        >>> from PIL import Image
        >>> Image.new("L", (8, 8)).save("a.png")
        >>> calibration_addresses(".")
        ['a.png']
    """
    try:
        return [item["image"] for item in find_images(folder)]
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"--calibration {folder}: {error}") from error


def _middle_tile(image: torch.Tensor, network: RonnebergerUNet) -> torch.Tensor:
    """Return the network's input for the middle of an image (1, C, H, W), in tiles as inference plans them."""
    tiles: list[torch.Tensor] = []

    def keep(tile: torch.Tensor) -> torch.Tensor:
        tiles.append(tile)
        rows, columns = (side - 2 * network.margin for side in tile.shape[2:])
        return tile.new_zeros(1, 1, rows, columns)

    padding = "retain_dim" if network.retain_dim else network.padding
    OverlapTileInferer(network.depth, padding, memory_limit=MEMORY, sw_batch_size=1)(image, keep)
    return tiles[len(tiles) // 2]
