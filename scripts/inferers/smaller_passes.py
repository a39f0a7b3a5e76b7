"""What follows a forward pass that ran out of memory: the same image again in smaller passes, or one clear error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import prod, sqrt

import torch

from scripts.inferers.tile_jobs import TileBatch
from scripts.inferers.tiling import TileRule

WITHOUT_MEMORY = (  # how CUDA's libraries say so; the first is cuDNN with no room for the workspace of any algorithm
    "unable to find an engine to execute this computation",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
MOST_HALVINGS = 60  # more than any memory has bits
logger = logging.getLogger(__name__)


class TileMemoryError(RuntimeError):
    """A forward pass of one tile ran out of memory, and no smaller tile is allowed or possible."""


def smaller_passes(
    plan: Callable[[int], list[TileBatch]], failed: TileBatch, halvings: int, rule: TileRule, fixed: bool
) -> tuple[list[TileBatch], int]:
    """Plan an image again after a pass that ran out of memory, with fewer tiles a pass or smaller ones.

    Args:
        plan: batches of tiles for a number of halvings of the memory that a pass may take, down to the smallest tile.
        failed: the pass that ran out of memory.
        halvings: with which it was planned.
        rule: of the network.
        fixed: whether the size of a tile must stay.

    Returns:
        batches whose passes are all smaller than the failed one, and their number of halvings.

    Raises:
        TileMemoryError: one tile of a fixed size failed, or one of the smallest size; names sizes to set.
    """
    if fixed and len(failed.jobs) == 1:
        raise TileMemoryError(f"out of memory with one tile of {_pixels(failed.tile_size)}; {_advice(failed, rule)}")
    for more in range(1, MOST_HALVINGS):
        batches = plan(halvings + more)
        largest = max(batches, key=_size)
        if _size(largest) < _size(failed):
            logger.warning("out of memory with %s in a pass: from now on %s", _tiles(failed), _tiles(largest))
            return batches, halvings + more
    raise TileMemoryError(
        f"out of memory with {_tiles(failed)} in a pass, and no smaller pass is possible; close other programs that "
        "use the GPU, or run on the CPU (device: cpu)"
    )


def halved(limit: int, at_once: int | None, halvings: int, least: int) -> tuple[int, int | None]:
    """Halve what a pass may take, down to the smallest tile, one at a time.

    Args:
        limit: bytes of a pass.
        at_once: most tiles of a pass; None: as many as `limit` allows.
        halvings: how often; 0: as it is.
        least: bytes of the smallest tile.

    Example:
        >>> halved(1000, 4, 1, 300), halved(1000, 4, 2, 300)
        ((300, 1), (300, 1))
    """
    if halvings == 0:
        return limit, at_once
    limit, at_once = limit >> halvings, at_once and max(1, at_once >> halvings)
    return (least, 1) if limit < least * (at_once or 1) else (limit, at_once)


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of a forward pass says that a GPU's memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in WITHOUT_MEMORY)


def give_back_cached(device: torch.device) -> None:
    """Return to a GPU's driver what torch keeps of freed memory, which may lie in pieces too small for the next try."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _advice(failed: TileBatch, rule: TileRule) -> str:
    """What to set in place of a fixed tile."""
    following, half = (
        (rule.at_most(int(height)), rule.at_most(int(width)))
        for height, width in (
            (failed.tile_size[0] - 1, failed.tile_size[1] - 1),
            (failed.tile_size[0] / sqrt(2), failed.tile_size[1] / sqrt(2)),
        )
    )
    if prod(following) >= prod(failed.tile_size):
        return "no smaller tile fits the network: run on the CPU (device: cpu)"
    choices = f"{_pixels(following)}" + (f", or {_pixels(half)} for half of the memory" if half != following else "")
    return f"set tile_size to the next smaller, {choices}; without a tile_size it is chosen"


def _size(batch: TileBatch) -> int:
    return len(batch.jobs) * prod(batch.tile_size)


def _tiles(batch: TileBatch) -> str:
    return f"{len(batch.jobs)} tile{'s' if len(batch.jobs) > 1 else ''} of {_pixels(batch.tile_size)}"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
