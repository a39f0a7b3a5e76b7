"""Write a trained network as ONNX, TorchScript, pt2 (`torch.export`), or TorchScript with TensorRT engines.

All files are float32, return raw scores and carry a description: JSON under the key `scripts.inferers.exported.INFO`.
`bundle.publishing.quantizing` writes ONNX in int8. Batch and image size are free, except for TensorRT.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bundle.publishing.mirrored import MirroredUNet
from bundle.running.errors import UsageError
from scripts.inferers.exported import INFO, INPUT, OUTPUT
from scripts.inferers.tiling import TileRule
from scripts.networks.unet import RonnebergerUNet

Exportable = RonnebergerUNet | MirroredUNet
TENSORRT_TILE = 572  # pixels, the paper's
TENSORRT_BATCHES = (1, 1, 8)  # minimum, optimum, maximum


class ExportFormat(NamedTuple):
    """A file format. `write` takes the network (in eval mode, on the CPU), the path, and the file's description."""

    suffix: str  # of the file name. `scripts.inferers.exported` chooses the engine by the suffix
    needs: tuple[str, ...]  # packages required to write and run the file
    tolerance: float  # largest difference of a score from the float32 network, as a share of the largest score.
    # With `changed`: largest root mean square difference of a tile, as a share of the scores'
    write: Callable[[Exportable, Path, Mapping[str, Any]], None]
    tile_size: int | None = None  # the only tile size in pixels. None: any size of the network
    changed: float | None = None  # largest share of pixels with another class. None: only scores are compared
    agreement: float = 0.0  # smallest key metric of the task, with the network's segmentation as reference


def tile_sizes(network: Exportable) -> tuple[int, int]:
    """Compute the input sizes of an exported network: smallest side and step, in pixels.

    Example:
        >>> tile_sizes(RonnebergerUNet(features=(1, 1, 1, 1, 1)))  # the paper's depth: 188, 204, 220, ...
        (188, 16)
    """
    if isinstance(network, MirroredUNet):
        return network.least, network.step
    padded = network.padding == "same"
    rule = TileRule(network.depth, "retain_dim" if network.retain_dim else network.padding, 0 if padded else None)
    # torch.export treats axes of size 1 as fixed, so the lowest level needs at least two pixels
    return max(rule.tile_for(1), 2 * rule.step), rule.step


def write_onnx(network: Exportable, path: Path, info: Mapping[str, Any]) -> None:
    """Write ONNX as a single file (at most 2 GB), with torch's exporter based on `torch.export`."""
    with quiet_exporters():
        program = torch.onnx.export(
            network,
            (_example(network),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(_free_axes(network),),
            verbose=False,
        )
    assert program is not None  # it is None only if torch writes the file
    program.model.metadata_props[INFO] = json.dumps(info)
    program.save(path, external_data=False)


def write_torchscript(network: Exportable, path: Path, info: Mapping[str, Any]) -> None:
    """Write TorchScript. Most microscopy programs read TorchScript, although torch recommends pt2 instead.

    Example:
        >>> write_torchscript(RonnebergerUNet(features=(1, 1)).eval(), Path("net.ts"), {"depth": 1})
        >>> from scripts.inferers.exported import ExportedNetwork
        >>> ExportedNetwork("net.ts").info
        {'depth': 1}
    """
    with quiet_exporters():
        _save_script(torch.jit.script(network), path, info)


def write_pt2(network: Exportable, path: Path, info: Mapping[str, Any]) -> None:
    """Write pt2: a graph of tensor operations, independent of the network's Python code."""
    program = torch.export.export(network, (_example(network),), dynamic_shapes=(_free_axes(network),))
    torch.export.save(program, path, extra_files={INFO: json.dumps(info)})


def write_tensorrt(network: Exportable, path: Path, info: Mapping[str, Any]) -> None:
    """Write TorchScript with TensorRT engines for the local GPU, with MONAI's converter. UsageError without a GPU."""
    from monai.networks.utils import convert_to_trt

    if not torch.cuda.is_available():
        raise UsageError("tensorrt builds engines for this machine's GPU, and none is found here; use onnx or pt2")
    with quiet_exporters():
        engines = convert_to_trt(
            network,
            precision="fp32",
            input_shape=[1, network.in_channels, TENSORRT_TILE, TENSORRT_TILE],
            dynamic_batchsize=TENSORRT_BATCHES,
        )
        _save_script(engines, path, info)
    network.cpu()


FORMATS = {
    "onnx": ExportFormat(".onnx", ("onnx", "onnxscript", "onnxruntime"), 1.0e-4, write_onnx),
    "torchscript": ExportFormat(".ts", (), 1.0e-4, write_torchscript),
    "pt2": ExportFormat(".pt2", (), 1.0e-4, write_pt2),
    # TensorRT's convolutions may round their inputs to TF32, 10 bits
    "tensorrt": ExportFormat(".ts", ("torch_tensorrt",), 1.0e-2, write_tensorrt, TENSORRT_TILE),
}


def check_installed(name: str) -> None:
    """Raise UsageError if packages for a format (key of `FORMATS`) are missing. The message names the packages.

    Example:
        >>> check_installed("torchscript")
    """
    missing = [package for package in FORMATS[name].needs if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(f"{name} needs {' and '.join(missing)}: pip install -c constraints.txt {' '.join(missing)}")


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Silence log messages and deprecation warnings of exporters. They concern developers, not users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        logging.disable(before)


def _save_script(script: Any, path: Path, info: Mapping[str, Any]) -> None:
    with path.open("wb") as file:  # given a path, torch would write the temporary name into the file
        torch.jit.save(script, file, _extra_files={INFO: json.dumps(info)})


def _example(network: Exportable) -> torch.Tensor:
    """Make an input whose axes have different sizes. torch.export could confuse axes of equal size."""
    smallest, step = tile_sizes(network)
    return torch.zeros(2, network.in_channels, smallest + step, smallest + 2 * step)


def _free_axes(network: Exportable) -> dict[int, Any]:
    """Declare the free axes: any batch, sides of step * k + offset. torch.export proves the skips' crops for all k."""
    smallest, step = tile_sizes(network)
    times, offset = divmod(smallest, step)
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    for axis, name in ((2, "rows"), (3, "columns")):
        side = step * torch.export.Dim(name, min=times)
        axes[axis] = side + offset if offset else side
    return axes
