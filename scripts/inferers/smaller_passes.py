"""Continue with smaller passes after a forward pass ran out of memory, or name the remedy."""

from __future__ import annotations

import logging
from math import prod, sqrt

import torch

from .tiling import TileBatch, TileRule

OUT_OF_MEMORY = (  # messages of CUDA's libraries; the first: cuDNN has no memory for the workspace of any algorithm
    "unable to find an engine to execute this computation",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
logger = logging.getLogger(__name__)


class TileMemoryError(RuntimeError):
    """A single tile ran out of memory, and no smaller tile is allowed or possible."""


def smaller_pass(failed: TileBatch, rule: TileRule, smallest: tuple[int, int], fixed: bool) -> int:
    """Halve the largest number of pixels in a forward pass, down to a single tile.

    Args:
        failed: the pass that ran out of memory.
        rule: lengths that fit the network.
        smallest: (height, width) of the smallest tile.
        fixed: whether all tiles must have this size.

    Raises:
        TileMemoryError: the pass had a single tile, of the smallest or of a fixed size. Names sizes to set.

    Example:
        >>> smaller_pass(TileBatch((700, 700), jobs=[None] * 4), TileRule(), smallest=(204, 204), fixed=False)
        980000
    """
    if failed.pixels > prod(smallest):
        pixels = max(failed.pixels // 2, prod(smallest))
        logger.warning("out of memory with %s in a pass: from now on at most %d pixels in a pass", failed, pixels)
        return pixels
    if fixed:
        raise TileMemoryError(f"out of memory with {failed}. {_advice(failed.tile_size, rule)}")
    raise TileMemoryError(
        f"out of memory with {failed}, and no smaller pass is possible. Close other programs that use the GPU, or use "
        "the CPU (device: cpu)"
    )


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an error of a forward pass means that the GPU had too little memory.

    Example:
        >>> ran_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
        True
    """
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def _advice(size: tuple[int, int], rule: TileRule) -> str:
    """Name values of `tile_size` for less memory."""
    smaller = [rule.at_most(length - 1) for length in size]
    half = [rule.at_most(int(length / sqrt(2))) for length in size]
    if prod(smaller) >= prod(size):
        return "No smaller tile fits the network; use the CPU (device: cpu)"
    choices = f"{smaller[0]} x {smaller[1]}"
    if half != smaller:
        choices += f", or to {half[0]} x {half[1]} for half of the memory"
    return f"Set tile_size to the next smaller, {choices}; or leave tile_size out, so that it is chosen"
