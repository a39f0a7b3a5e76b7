"""Mixed precision on any device: MONAI's trainer and evaluator enable autocast on CUDA alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def amp_dtype_of(name: str | None) -> torch.dtype | None:
    """The type to autocast to, by its name in a configuration; None for none.

    Raises:
        ValueError: a name other than "bfloat16" and "float16".
    """
    if name is None:
        return None
    if name not in AMP_DTYPES:
        raise ValueError(f"amp_dtype must be None or one of {', '.join(AMP_DTYPES)}, got {name!r}")
    return AMP_DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Autocast to `dtype` on a device; None leaves the caller's autocast, if any, in effect."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def at_least_single(scores: torch.Tensor) -> torch.Tensor:
    """Half precision to float32, anything wider as it is: softmax, loss and sums are not computed in half."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
