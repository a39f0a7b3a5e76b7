"""Mixed precision on any device: MONAI's trainer and evaluator enable autocast on CUDA alone.

How features lie in memory while a network trains: channel by channel, or pixel by pixel (channels-last).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

AUTO = "auto"
AMP_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}  # None: no autocast


def check_amp_dtype(name: str | None) -> str | None:
    """Give a name of a configuration back.

    Raises:
        ValueError: a name other than "auto", "float32", "bfloat16" and "float16".
    """
    if name not in (None, AUTO, *AMP_DTYPES):
        raise ValueError(f"amp_dtype must be None or one of {', '.join((AUTO, *AMP_DTYPES))}, got {name!r}")
    return name


def amp_dtype_of(name: str | None, device: torch.device) -> torch.dtype | None:
    """The type to autocast to on a device, by its name in a configuration; None for none.

    Args:
        name: "bfloat16", "float16", "float32" or None, or "auto": bfloat16 where the device computes in it, else None.
        device: where the network runs.

    Raises:
        ValueError: another name.
    """
    if check_amp_dtype(name) == AUTO:
        return torch.bfloat16 if computes_in_bfloat16(device) else None
    return None if name is None else AMP_DTYPES[name]


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for products of bfloat16, so that they are faster than those of float32.

    Without them a convolution is computed all the same, but slower than in float32: 2.5 to 3 times with AVX-512 alone
    and 9 times with AVX2, which is what most laptops have.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # what torch itself asks
        return False
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch: nothing known, so float32
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def can_compile(device: torch.device | str) -> bool:
    """Whether `torch.compile` has what it needs: compute capability 7.0, Triton, a C compiler, Python's headers.

    On a CPU the answer is no: eager steps are as fast there.

    Args:
        device: where the network trains.

    Example:
        >>> can_compile("cpu")
        False
    """
    if torch.device(device).type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    if torch.cuda.get_device_capability(device) < (7, 0):
        return False
    named = os.environ.get("CC", "").split()[:1]  # "gcc -pthread"
    compiler = any(map(shutil.which, named or ("gcc", "clang", "cc")))
    return compiler and Path(sysconfig.get_paths()["include"], "Python.h").is_file()


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Autocast to `dtype` on a device; None leaves the caller's autocast, if any, in effect."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def at_least_single(scores: torch.Tensor) -> torch.Tensor:
    """Half precision to float32, anything wider as it is: softmax, loss and sums are not computed in half."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def trains_in_channels_last(device: torch.device | str) -> bool:
    """Whether a device has fast gradients of convolutions for channels-last features; inference suits it everywhere.

    GPUs have, and processors with AVX-512. With AVX2, which is what most laptops have, oneDNN has none for the weights:
    they take four times as long as those of features laid out channel by channel, so that a whole step takes longer by
    half, though its way there is faster. Processors of other kinds were not measured and keep torch's own layout.
    """
    # what torch asks of oneDNN, which needs AVX-512 for it on x86 whether or not it multiplies bfloat16
    return torch.device(device).type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def training_layout(device: torch.device | str) -> torch.memory_format:
    """The layout of weights, and with them of features, in training on a device.

    Args:
        device: where the network trains.
    """
    return torch.channels_last if trains_in_channels_last(device) else torch.contiguous_format
