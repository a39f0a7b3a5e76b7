"""Run exported networks: ONNX by onnxruntime or OpenVINO, TorchScript, and torch.export's pt2.

The command `export` of the project's repository writes these files. TorchScript and pt2 files are programs: run only
trusted files.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export.passes import move_to_device_pass

from ..checks import check_choice
from ..networks.geometry import margin
from .precision import amp_dtype_of
from .smaller_passes import ran_out_of_memory

INFO = "original_unet.json"  # key of the description in a file: classes, grey values, geometry, checksum of the weights
INPUT, OUTPUT = "image", "scores"  # names of the tensors in an ONNX file
ONNX_ENGINES = ("onnxruntime", "openvino")
Run = Callable[[torch.Tensor], torch.Tensor]


class ExportedNetwork(nn.Module):
    """Run an exported file in place of the network, in float32 or int8, as the file was made.

    A caller's autocast has no effect. `OverlapTileInferer` reads the geometry from the attributes `depth`, `padding`
    and `retain_dim`, as with `RonnebergerUNet`.

    Args:
        path: a file with the suffix .onnx, .ts (TorchScript, also with TensorRT engines) or .pt2.
        device: device of the computation. ONNX runs on a GPU only with `onnxruntime-gpu`, else on the CPU.
        onnx_engine: program for .onnx files: "onnxruntime", or "openvino" (always on the CPU).
        amp_dtype: for OpenVINO only. "bfloat16" computes the convolutions of a float32 file in bfloat16; "auto": the
            same on CPUs with instructions for bfloat16; None: as in the file.

    Attributes:
        info: the file's description: settings and geometry. Empty for files of foreign programs; then the geometry is
            the paper's.

    Shape:
        (B, C, H, W) -> (B, K, ...), raw scores, as from the original network.

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: unknown suffix or engine, the wrong engine for the file, a damaged file. In a call: tiles of the
            wrong size or with other channels, and scores of another shape than a U-Net's.
        ImportError: the program for the file is not installed.

    Example, in a configuration::

        network:
          _target_: scripts.inferers.ExportedNetwork
          path: my/model.onnx
    """

    def __init__(
        self,
        path: str | Path,
        device: torch.device | str = "cpu",
        onnx_engine: str = "onnxruntime",
        amp_dtype: str | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in LOADERS:
            raise ValueError(
                f"backend: {self.path} has the suffix {suffix or 'none'}, expected one of {', '.join(LOADERS)}. Make "
                "such a file with the command `export` of the project's repository, or give plain weights as ckpt_path"
            )
        check_choice("onnx_engine", onnx_engine, ONNX_ENGINES)
        load = LOADERS[suffix]
        if onnx_engine == "openvino":
            if suffix != ".onnx":
                raise ValueError(f"onnx_engine: openvino runs .onnx files, not {self.path}. Make one, or leave it out")
            load = partial(_load_openvino, dtype=amp_dtype_of(amp_dtype, torch.device("cpu")))
        if not self.path.is_file():
            raise FileNotFoundError(
                f"backend: no file at {self.path}. Make it with the command `export` of the project's repository, or "
                "leave backend out and give plain weights as ckpt_path"
            )
        try:
            self._run, text = load(self.path, torch.device(device))
            self.info: dict[str, Any] = dict(json.loads(text)) if text else {}
            self.depth = int(self.info.get("depth", 4))
        except (ImportError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # errors for a damaged file differ by engine
            raise ValueError(
                f"backend: {self.path} cannot be read, it is damaged or of another kind ({_reason(error)}). Export the "
                "network again, or copy the file again"
            ) from error
        self.padding = str(self.info.get("padding", "valid"))
        self.retain_dim = bool(self.info.get("retain_dim", False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute scores for tiles (B, C, H, W)."""
        fixed = self.info.get("tile_size")
        if fixed is not None and tuple(x.shape[2:]) != (fixed, fixed):
            raise ValueError(
                f"backend: {self.path} takes tiles of {fixed} x {fixed} only, got {tuple(x.shape)}. Set tile_size to "
                f"{fixed}"
            )
        channels = self.info.get("in_channels")
        if channels is not None and x.shape[1] != channels:
            raise ValueError(
                f"backend: {self.path} takes images of {channels} channels, got {x.shape[1]}. Convert the images, or "
                "give a network for them"
            )
        try:
            with torch.autocast(x.device.type, enabled=False):
                scores = self._run(x.float())
        except Exception as error:  # differs by engine
            if isinstance(error, RuntimeError) and ran_out_of_memory(error):
                raise
            raise ValueError(
                f"backend: {self.path} cannot compute a tile {tuple(x.shape)}: {_reason(error)}. Expected a network "
                "for (batch, channels, height, width), as the command `export` writes it"
            ) from error
        lost = 0 if self.padding == "same" or self.retain_dim else 2 * margin(self.depth)
        expected = tuple(length - lost for length in x.shape[2:])
        if not isinstance(scores, torch.Tensor) or scores.ndim != 4 or tuple(scores.shape[2:]) != expected:
            got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            raise ValueError(
                f"backend: {self.path} gives {got} for a tile {tuple(x.shape)}, expected scores (batch, classes, "
                f"{expected[0]}, {expected[1]}). The file is a network for another task, or its tiles lose other pixels"
            )
        return scores


def _reason(error: Exception) -> str:
    """Get the line of an engine's message that tells most: the last one of a TorchScript trace, else the first one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = ("RuntimeError: ", "ValueError: ", "AssertionError: ")
    told = [line.partition(": ")[2] for line in lines if line.startswith(named)]
    return (told[-1:] or lines[:1] or [type(error).__name__])[0].partition(". ")[0][:300]


def _load_onnx(path: Path, device: torch.device) -> tuple[Run, str]:
    onnxruntime = _import("onnxruntime", path, "pip install onnxruntime (onnxruntime-gpu for a GPU)")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # the default, a thread per core, ignores torch's setting
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    text = session.get_modelmeta().custom_metadata_map.get(INFO, "")
    return _on_arrays(lambda x: session.run(None, {name: x})[0]), text


def _load_openvino(path: Path, device: torch.device, dtype: torch.dtype | None) -> tuple[Run, str]:
    openvino = _import("openvino", path, "pip install openvino, or set onnx_engine to onnxruntime")
    core = openvino.Core()
    model = core.read_model(path)
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": {torch.bfloat16: "bf16", torch.float16: "f16", None: "f32"}[dtype],
        "PERFORMANCE_HINT": "LATENCY",  # all threads work on the same batch
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    described = ["framework", INFO]
    text = model.get_rt_info(described).astype(str) if model.has_rt_info(described) else ""
    return _on_arrays(lambda x: request.infer([x])[0]), text


def _on_arrays(run: Callable[[np.ndarray], np.ndarray]) -> Run:
    """Run an engine of the CPU on tensors of any device."""
    return lambda x: torch.from_numpy(run(x.detach().cpu().contiguous().numpy())).to(x.device)


def _load_torchscript(path: Path, device: torch.device) -> tuple[Run, str | bytes]:
    extra: dict[str, str | bytes] = {INFO: ""}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # existing files remain in use
        try:
            script = torch.jit.load(str(path), map_location=device, _extra_files=extra)
        except RuntimeError as error:
            if "tensorrt" not in str(error).lower():
                raise
            # the import teaches torch to read TensorRT engines
            _import("torch_tensorrt", path, "pip install torch_tensorrt, in the version for this torch")
            script = torch.jit.load(str(path), map_location=device, _extra_files=extra)
    return _as_function(script.eval()), extra[INFO]


def _load_pt2(path: Path, device: torch.device) -> tuple[Run, str | bytes]:
    extra: dict[str, str | bytes] = {INFO: ""}
    program = torch.export.load(path, extra_files=extra)
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    return _as_function(program.module()), extra[INFO]


def _as_function(module: nn.Module) -> Run:
    """Hide a module from train() and eval() of `ExportedNetwork`: exported modules refuse both."""
    return lambda x: module(x)


def _import(name: str, path: Path, remedy: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"backend: {path} needs {name}. Install it with {remedy}") from error


LOADERS: dict[str, Callable[[Path, torch.device], tuple[Run, str | bytes]]] = {
    ".onnx": _load_onnx,
    ".ts": _load_torchscript,
    ".pt2": _load_pt2,
}
