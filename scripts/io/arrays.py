"""Convert tensors to arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.utils import convert_to_numpy


def as_array(value: Any) -> np.ndarray:
    """Convert a tensor to a numpy array.

    Args:
        value: a tensor on any device, with or without gradient, or an array.

    Returns:
        Array of the same shape and dtype. bfloat16 becomes float32, since numpy has no bfloat16.

    Example:
        >>> as_array(torch.ones(2, dtype=torch.bfloat16))
        array([1., 1.], dtype=float32)
    """
    if isinstance(value, torch.Tensor):
        value = value.detach()
        value = value.float() if value.dtype == torch.bfloat16 else value
    return np.asarray(convert_to_numpy(value))
