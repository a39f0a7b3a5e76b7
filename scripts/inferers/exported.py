"""Networks that run an exported file: ONNX by onnxruntime or OpenVINO, TorchScript, and torch.export's pt2.

`python -m bundle export` writes such files. TorchScript and pt2 files are programs: run only those that you trust.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export.passes import move_to_device_pass

from scripts.checks import check_choice
from scripts.inferers.precision import amp_dtype_of

INFO = "original_unet.json"  # key of the description in a file: classes, grey values, geometry, checksum of the weights
INPUT, OUTPUT = "image", "scores"  # names of the tensors in an ONNX file
ONNX_ENGINES = ("onnxruntime", "openvino")
Run = Callable[[torch.Tensor], torch.Tensor]


class ExportedNetwork(nn.Module):
    """An exported file that stands in for the network it was made from; float32 or int8, as the file is.

    A caller's autocast changes nothing.

    The file is loaded at once and holds its weights. `scripts.inferers.OverlapTileInferer` finds the geometry in the
    attributes, as it does in `scripts.networks.RonnebergerUNet`.

    Args:
        path: a file with the suffix .onnx, .ts (TorchScript, also with TensorRT engines) or .pt2.
        device: where it runs. ONNX runs on a GPU only with `onnxruntime-gpu`, else on the CPU.
        expected: what the file's description must say where it has the key, e.g. {"intensity": "z_score"}: a file made
            for other classes or grey values would give wrong results without a word.
        onnx_engine: what runs an .onnx file: "onnxruntime", or "openvino", on the CPU, whatever `device` says.
        amp_dtype: for OpenVINO: "bfloat16", or "auto" for it where the CPU has instructions for it, takes the
            convolutions of a float32 file to bfloat16; None: they stay as they are. No other engine heeds it.

    Attributes:
        info: the file's description; empty in files of other programs, for which the paper's geometry is assumed.
        depth: number of poolings.
        padding: "valid" or "same".
        retain_dim: whether the output is interpolated to the size of the input.

    Shape:
        (B, C, H, W) -> (B, K, ...), raw scores, as of the network that was exported.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: another suffix, an engine that is unknown or cannot run the file, a damaged file, a description
            other than `expected`; in a call, tiles of another size than the only one that the file takes.
        ImportError: the program that runs the file is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        device: torch.device | str = "cpu",
        expected: Mapping[str, Any] | None = None,
        onnx_engine: str = "onnxruntime",
        amp_dtype: str | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in LOADERS:
            raise ValueError(
                f"backend: {self.path} has the suffix {suffix or 'none'}, expected one of {', '.join(LOADERS)}; make "
                "such a file with python -m bundle export, or give plain weights as ckpt_path"
            )
        check_choice("onnx_engine", onnx_engine, ONNX_ENGINES)
        load = LOADERS[suffix]
        if onnx_engine == "openvino":
            if suffix != ".onnx":
                raise ValueError(f"onnx_engine: openvino runs .onnx files, not {self.path}; make one, or leave it out")
            load = partial(_load_openvino, dtype=amp_dtype_of(amp_dtype, torch.device("cpu")))
        if not self.path.is_file():
            raise FileNotFoundError(
                f"backend: no file at {self.path}; make it with python -m bundle export onnx (or torchscript, pt2)"
            )
        try:
            self._run, text = load(self.path, torch.device(device))
        except ImportError:
            raise
        except Exception as error:  # every engine has errors of its own for a damaged file
            raise ValueError(f"backend: {self.path} cannot be read: {str(error).strip().splitlines()[0]}") from error
        self.info: dict[str, Any] = json.loads(text) if text else {}
        for key, value in (expected or {}).items():
            if key in self.info and self.info[key] != value:
                raise ValueError(
                    f"backend: {self.path} was exported with {key} {self.info[key]!r}, the configuration says "
                    f"{value!r}; use the configuration that it was exported with, or export anew"
                )
        self.depth = int(self.info.get("depth", 4))
        self.padding = str(self.info.get("padding", "valid"))
        self.retain_dim = bool(self.info.get("retain_dim", False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores for tiles (B, C, H, W)."""
        fixed = self.info.get("tile_size")
        if fixed is not None and tuple(x.shape[2:]) != (fixed, fixed):
            raise ValueError(
                f"backend: {self.path} takes tiles of {fixed} x {fixed} only, got {tuple(x.shape)}; set tile_size to "
                f"{fixed}"
            )
        with torch.autocast(x.device.type, enabled=False):
            return self._run(x.float())


def _load_onnx(path: Path, device: torch.device) -> tuple[Run, str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"backend: {path} needs onnxruntime; install it with pip install onnxruntime (onnxruntime-gpu for a GPU)"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # else a thread for every core, whatever torch is told
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: torch.Tensor) -> torch.Tensor:
        (scores,) = session.run(None, {name: x.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(scores).to(x.device)

    return run, session.get_modelmeta().custom_metadata_map.get(INFO, "")


def _load_openvino(path: Path, device: torch.device, dtype: torch.dtype | None) -> tuple[Run, str]:
    """On the CPU alone, as onnxruntime is without a GPU; scores go back to where the tiles came from."""
    try:
        import openvino
    except ImportError as error:
        raise ImportError(
            f"backend: {path} needs openvino; install it with pip install openvino, or set onnx_engine to onnxruntime"
        ) from error
    core = openvino.Core()
    model = core.read_model(path)
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": {torch.bfloat16: "bf16", torch.float16: "f16", None: "f32"}[dtype],
        "PERFORMANCE_HINT": "LATENCY",  # all threads for one batch of tiles
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(x: torch.Tensor) -> torch.Tensor:
        scores = request.infer([x.detach().cpu().contiguous().numpy()])[0]
        return torch.from_numpy(scores).to(x.device)

    described = ["framework", INFO]
    return run, model.get_rt_info(described).astype(str) if model.has_rt_info(described) else ""


def _load_torchscript(path: Path, device: torch.device) -> tuple[Run, str]:
    extra = {INFO: ""}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # files of it will be about for years
        try:
            script = torch.jit.load(str(path), map_location=device, _extra_files=extra)
        except RuntimeError as error:
            if "tensorrt" not in str(error).lower():
                raise
            _import_tensorrt(path)
            script = torch.jit.load(str(path), map_location=device, _extra_files=extra)
    return _called(script.eval()), _text(extra[INFO])


def _import_tensorrt(path: Path) -> None:
    """Its import tells torch how to read engines."""
    try:
        importlib.import_module("torch_tensorrt")
    except ImportError as error:
        raise ImportError(
            f"backend: {path} holds TensorRT engines; install torch_tensorrt in the version that belongs to torch"
        ) from error


def _load_pt2(path: Path, device: torch.device) -> tuple[Run, str]:
    extra = {INFO: ""}
    program = torch.export.load(path, extra_files=extra)
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    return _called(program.module()), _text(extra[INFO])


def _called(module: nn.Module) -> Run:
    """A plain function: a part of another module would be told to train() and eval(), which exported ones refuse."""
    return lambda x: module(x)


def _text(content: str | bytes) -> str:
    return content.decode() if isinstance(content, bytes) else content


LOADERS: dict[str, Callable[[Path, torch.device], tuple[Run, str]]] = {
    ".onnx": _load_onnx,
    ".ts": _load_torchscript,
    ".pt2": _load_pt2,
}
