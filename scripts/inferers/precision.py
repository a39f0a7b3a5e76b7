"""Choose the number format, the memory layout and compilation for a device.

MONAI's trainer and evaluator use mixed precision on CUDA only. The functions here work on any device.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from ..checks import check_choice

AMP_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}  # None: no autocast
AMP_CHOICES = (None, "auto", *AMP_DTYPES)


def amp_dtype_of(name: str | None, device: torch.device) -> torch.dtype | None:
    """Get the autocast type of a device from a name in a configuration. None: no autocast.

    Args:
        name: "bfloat16", "float16", "float32", None, or "auto": bfloat16 on devices with instructions for bfloat16,
            else None.
        device: device of the network.

    Raises:
        ValueError: unknown name.

    Example:
        >>> amp_dtype_of("bfloat16", torch.device("cpu"))
        torch.bfloat16
    """
    check_choice("amp_dtype", name, AMP_CHOICES)
    if name == "auto":
        return torch.bfloat16 if computes_in_bfloat16(device) else None
    return None if name is None else AMP_DTYPES[name]


def computes_in_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16, and so computes faster in bfloat16 than in float32.

    Devices without such instructions, as in most laptops, compute convolutions in bfloat16, too. They then take 3 to 12
    times as long as in float32.

    Example:
        >>> computes_in_bfloat16(torch.device("cpu")) in (True, False)  # depends on the processor
        True
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # empty with an older torch: float32
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def can_compile(device: torch.device | str) -> bool:
    """Tell whether `torch.compile` works on a device and makes a network faster.

    True on GPUs of compute capability 7.0 and above, if Triton, a C compiler and Python's headers are installed. False
    on a CPU, where steps without compilation are as fast.

    Example:
        >>> can_compile("cpu")
        False
    """
    if torch.device(device).type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    if torch.cuda.get_device_capability(device) < (7, 0):
        return False
    named = os.environ.get("CC", "").split()[:1]  # may have options, as in "gcc -pthread"
    compiler = any(map(shutil.which, named or ("gcc", "clang", "cc")))
    return compiler and Path(sysconfig.get_paths()["include"], "Python.h").is_file()


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Autocast to `dtype` on a device. None: keep the caller's autocast, if any.

    Example:
        >>> with autocast(torch.device("cpu"), torch.bfloat16):
        ...     torch.nn.Conv2d(1, 1, 3)(torch.rand(1, 1, 4, 4)).dtype
        torch.bfloat16
    """
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def at_least_single(scores: torch.Tensor) -> torch.Tensor:
    """Convert half precision to float32, for softmax, loss and sums. Wider types stay as they are.

    Example:
        >>> at_least_single(torch.zeros(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def grey_precision(lowest: float, highest: float) -> torch.dtype:
    """Choose the type to compute with grey values from `lowest` to `highest`.

    Returns:
        float32, or float64 where float32 would lose contrast: values beyond 16 bit, or differences below a thousandth
        of the values, as of 32-bit integers with a large offset.

    Example:
        >>> grey_precision(0, 255), grey_precision(2**31, 2**31 + 255)
        (torch.float32, torch.float64)
    """
    largest = max(abs(lowest), abs(highest))
    return torch.float64 if largest > 65535 or highest - lowest < largest / 1000 else torch.float32


def trains_in_channels_last(device: torch.device | str) -> bool:
    """Tell whether a device computes gradients of convolutions fast in the channels-last layout.

    GPUs and processors with AVX-512 do. With AVX2, as in most laptops, oneDNN lacks fast gradients of the weights:
    gradients take four times as long as in torch's own layout, and a whole step 1.5 times as long. Processors without
    measurements keep torch's own layout. For inference, channels-last is fast on all devices.

    Example:
        >>> trains_in_channels_last("cuda")
        True
    """
    # on x86, oneDNN's answer is True with AVX-512, also without instructions for bfloat16
    return torch.device(device).type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def training_layout(device: torch.device | str) -> torch.memory_format:
    """Get the memory layout of weights and features for training on a device, see `trains_in_channels_last`.

    Example:
        >>> training_layout("cuda")
        torch.channels_last
    """
    return torch.channels_last if trains_in_channels_last(device) else torch.contiguous_format
