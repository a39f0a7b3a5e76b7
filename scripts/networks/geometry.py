"""Sizes, margins, mirrored indices: the integer arithmetic of the unpadded network (arXiv 1505.04597, Figs. 1 and 2).

With `depth` poolings an axis of the input must have the length 2^depth * k + offset; for the paper's depth of 4 these
are 16k + 60 (188, 204, ..., 572, ...), and every output is smaller by twice the margin, 2 * 92 = 184 pixels.
"""

from __future__ import annotations

import numpy as np
import torch


def margin(depth: int = 4) -> int:
    """Pixels that the unpadded network loses on every side of the image: 92 for the paper's four poolings.

    Every level has two 3x3 convolutions on the way down and two on the way up, each of which costs one pixel a side at
    its own resolution: level i (1 pixel = 2^i input pixels) costs 4 * 2^i, the lowest level 2 * 2^depth.
    """
    return 6 * 2**depth - 4


def output_size(size: int, depth: int = 4) -> int:
    """Length of the output for an input of length `size`: 572 -> 388.

    Raises:
        ValueError: `size` does not fit `depth` poolings; names the nearest sizes that do.
    """
    if not is_valid_input_size(size, depth):
        below, above = nearest_valid_input_sizes(size, depth)
        nearest = f"the nearest that do are {below} and {above}" if below else f"the nearest that does is {above}"
        raise ValueError(
            f"input size {size} does not fit {depth} poolings; {nearest} (output {above - 2 * margin(depth)})"
        )
    return size - 2 * margin(depth)


def is_valid_input_size(size: int, depth: int = 4) -> bool:
    """Whether every pooling of the unpadded network meets an even size, and at least one output pixel is left."""
    return size > 2 * margin(depth) and (size - _offset(depth)) % 2**depth == 0


def valid_input_size(n: int, depth: int = 4) -> int:
    """The smallest valid input length of at least `n`: 573 -> 588.

    Args:
        n: wanted length in pixels.
        depth: number of 2x2 poolings (4 in the paper).
    """
    step = 2**depth
    smallest = valid_output_size(1, depth) + 2 * margin(depth)
    return smallest + max(0, -(-(n - smallest) // step)) * step


def valid_output_size(n: int, depth: int = 4) -> int:
    """The smallest length of at least `n` that the unpadded network can put out: 385 -> 388.

    Args:
        n: wanted length in pixels.
        depth: number of 2x2 poolings (4 in the paper).
    """
    step = 2**depth
    residue = (_offset(depth) - 2 * margin(depth)) % step
    smallest = residue or step
    return smallest + max(0, -(-(n - smallest) // step)) * step


def nearest_valid_input_sizes(n: int, depth: int = 4) -> tuple[int | None, int]:
    """The valid input lengths next to `n`: 570 -> (556, 572); the first is None where `n` is below the smallest."""
    above = valid_input_size(n, depth)
    below = above - 2**depth if above > n else above
    return (below if is_valid_input_size(below, depth) else None), above


def center_crop(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Cut the centre of the given spatial size out of a tensor (B, C, *spatial): the copy-and-crop arrow of Fig. 1.

    Returns a view, or a copy where a gradient will flow back. The gradient of a view is contiguous whatever the layout
    of `x`, so that on its way down every operation meets two layouts; that of padding by a negative width is laid out
    as the gradient that came, channels-last in a training (a sixth of the time of a step on a CPU).
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
    """Fold indices of any distance into [0, size) by mirroring without repeating the edge pixel (numpy's `reflect`).

    The authors' release extends images this way (Sec. 2 of the paper says only "mirroring"); unlike numpy's and torch's
    padding it is defined for a border wider than the image, and for a single pixel, which is then repeated.

    Args:
        index: integers, negative and beyond the end allowed.
        size: length of the axis, at least 1.
    """
    if size < 1:
        raise ValueError(f"an axis to mirror needs at least 1 pixel, got {size}")
    if size == 1:
        return np.zeros_like(np.asarray(index))
    period = 2 * (size - 1)
    folded = np.abs(np.asarray(index)) % period
    return np.minimum(folded, period - folded)


def _offset(depth: int) -> int:
    """Valid inputs are 2^depth * k + this: 60 for depth 4.

    Down: each level takes 4 pixels before its pooling, so an input n reaches the lowest level as
    (n - 4 * (2^depth - 1)) / 2^depth, which must be whole.
    """
    return 4 * (2**depth - 1)
