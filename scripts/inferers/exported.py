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
from .precision import amp_dtype_of

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
            wrong size, for files with a fixed tile size.
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
        except ImportError:
            raise
        except Exception as error:  # errors for a damaged file differ by engine
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(f"backend: {self.path} cannot be read: {reason}") from error
        self.info: dict[str, Any] = json.loads(text) if text else {}
        self.depth = int(self.info.get("depth", 4))
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
        with torch.autocast(x.device.type, enabled=False):
            return self._run(x.float())


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
