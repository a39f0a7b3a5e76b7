"""Write a trained network as ONNX, TorchScript, torch.export's pt2, or TorchScript with TensorRT engines.

Every file is float32 (`bundle.publishing.quantizing` makes int8 of ONNX), gives raw scores and carries a description
(JSON under `scripts.inferers.exported.INFO`). Batch and size are free, but for TensorRT, whose engines are built for
one tile.
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

from bundle.errors import UsageError
from scripts.inferers.exported import INFO, INPUT, OUTPUT
from scripts.inferers.tiling import TileRule
from scripts.networks.unet import RonnebergerUNet

TENSORRT_TILE = 572  # the paper's
TENSORRT_BATCHES = (1, 1, 8)  # least, best tuned, most


class ExportFormat(NamedTuple):
    """A kind of file.

    Attributes:
        suffix: of the file's name; tells `scripts.inferers.exported` what runs it.
        needs: packages without which it cannot be written and run.
        tolerance: largest difference from eager float32, as a share of the largest score.
        write: takes the network (in eval mode, on the CPU), the path, and the description.
        tile_size: the one size that it takes; None: any that fits the network.
        changed: largest share of the pixels of an image that may get another class; None: the scores alone are judged.
    """

    suffix: str
    needs: tuple[str, ...]
    tolerance: float
    write: Callable[[RonnebergerUNet, Path, Mapping[str, Any]], None]
    tile_size: int | None = None
    changed: float | None = None


def tile_sizes(network: RonnebergerUNet) -> tuple[int, int]:
    """Smallest side of an exported network's input, and the step from each to the next: (188, 16) for the paper's."""
    padded = network.padding == "same"
    rule = TileRule(network.depth, "retain_dim" if network.retain_dim else network.padding, 0 if padded else None)
    # one pixel in the lowest level would be taken for an axis that has always one
    return max(rule.tile_for(1), 2 * rule.step), rule.step


def write_onnx(network: RonnebergerUNet, path: Path, info: Mapping[str, Any]) -> None:
    """ONNX in one file (below its limit of 2 GB), by torch's exporter that goes through `torch.export`."""
    with _hushed():
        program = torch.onnx.export(
            network,
            (_example(network),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(_free_axes(network),),
            verbose=False,
        )
    assert program is not None  # as with every export to no file
    program.model.metadata_props[INFO] = json.dumps(info)
    program.save(path, external_data=False)


def write_torchscript(network: RonnebergerUNet, path: Path, info: Mapping[str, Any]) -> None:
    """TorchScript: deprecated by torch in favour of pt2, and what most programs for microscopy read."""
    with _hushed():
        _save_script(torch.jit.script(network), path, info)


def write_pt2(network: RonnebergerUNet, path: Path, info: Mapping[str, Any]) -> None:
    """A graph of plain tensor operations, which torch runs without the network's Python code."""
    program = torch.export.export(network, (_example(network),), dynamic_shapes=(_free_axes(network),))
    torch.export.save(program, path, extra_files={INFO: json.dumps(info)})


def write_tensorrt(network: RonnebergerUNet, path: Path, info: Mapping[str, Any]) -> None:
    """TorchScript with TensorRT engines for this kind of GPU, by MONAI's converter; batches of 1 to 8."""
    from monai.networks.utils import convert_to_trt

    if not torch.cuda.is_available():
        raise UsageError("tensorrt builds engines for the GPU that it runs on, and none is found here; use onnx or pt2")
    with _hushed():
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
    # its convolutions may round their inputs to TF32, 10 bits
    "tensorrt": ExportFormat(".ts", ("torch_tensorrt",), 1.0e-2, write_tensorrt, TENSORRT_TILE),
}


def check_installed(name: str) -> None:
    """Raise UsageError, with what to install, where a package that a format needs is missing."""
    missing = [package for package in FORMATS[name].needs if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(f"{name} needs {' and '.join(missing)}: pip install -c constraints.txt {' '.join(missing)}")


def _save_script(script: Any, path: Path, info: Mapping[str, Any]) -> None:
    with path.open("wb") as file:  # given a path, torch would put its (temporary) name into the file
        torch.jit.save(script, file, _extra_files={INFO: json.dumps(info)})


def _example(network: RonnebergerUNet) -> torch.Tensor:
    """An input of a size that no axis shares with another, and none with a constant of the network."""
    smallest, step = tile_sizes(network)
    return torch.zeros(2, network.in_channels, smallest + step, smallest + 2 * step)


def _free_axes(network: RonnebergerUNet) -> dict[int, Any]:
    """Any batch, and sides of step * k + offset: torch.export proves the crops of the skips right for all k."""
    smallest, step = tile_sizes(network)
    times, offset = divmod(smallest, step)
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    for axis, name in ((2, "rows"), (3, "columns")):
        side = step * torch.export.Dim(name, min=times)
        axes[axis] = side + offset if offset else side
    return axes


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the exporters' word on what upstream will change, which a user of the command can do nothing about."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
