"""Tensors as arrays, for files and for functions on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.utils import convert_to_numpy


def as_array(value: Any) -> np.ndarray:
    """A tensor on any device, or an array, as an array; bfloat16, which numpy lacks, becomes float32."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        value = value.float() if value.dtype == torch.bfloat16 else value
    return np.asarray(convert_to_numpy(value))
