"""Batches of tiles: which go through the network together, cutting them out, and what of the answer counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch

from scripts.inferers.orientations import ORIENTATIONS, Orientation, cut_tile
from scripts.inferers.precision import at_least_single
from scripts.inferers.tiling import Tile, TileRule, plan_tiles, smallest_tile


class TileJob(NamedTuple):
    """One tile of one image in one orientation."""

    image: int
    orientation: Orientation
    tile: Tile


class TileBatch(NamedTuple):
    """Tiles of one size (height, width) that make one forward pass."""

    tile_size: tuple[int, int]
    jobs: list[TileJob]


def plan_batches(
    shape: Sequence[int],
    rule: TileRule,
    tile_size: int | Sequence[int] | None,
    memory_limit: int,
    pixel_bytes: int,
    sw_batch_size: int | None = None,
    orientations: int = 1,
    authors_stride: bool = False,
) -> list[TileBatch]:
    """Plan the tiles of all images and orientations in as few forward passes as the limits allow.

    Args:
        shape: (B, C, H, W) of the images.
        rule: of the network.
        tile_size: length or (height, width) of the network's input; None: the least work within the limit.
        memory_limit: bytes that a forward pass may take. A tile given by `tile_size` may take more, one at a time.
        pixel_bytes: bytes that a forward pass takes per input pixel.
        sw_batch_size: most tiles per forward pass; None: as many as the limit allows.
        orientations: 1, 4 or 8.
        authors_stride: see `scripts.inferers.plan_tiles`.

    Raises:
        ValueError: `memory_limit` below what the smallest tile takes, which is named; see also `plan_tiles`.
    """
    image_size = (shape[-2], shape[-1])
    at_once = sw_batch_size or 1
    max_pixels = memory_limit // pixel_bytes
    height, width = smallest_tile(image_size, rule, authors_stride)
    if tile_size is None and at_once * height * width > max_pixels:
        raise ValueError(
            f"memory_limit={memory_limit} bytes is too small: {at_once} of the smallest tile, {height} x {width} "
            f"pixels, at a time take about {at_once * height * width * pixel_bytes}; allow that much or set tile_size"
        )
    by_size: dict[tuple[int, int], list[TileJob]] = {}
    for orientation in ORIENTATIONS[orientations]:
        turned = orientation.turned_size(image_size)
        plan = plan_tiles(turned, rule, tile_size, max_pixels // at_once, authors_stride)
        jobs = by_size.setdefault(plan.tile_size, [])
        jobs += [TileJob(image, orientation, tile) for image in range(shape[0]) for tile in plan.tiles]
    batches = []
    for size, jobs in by_size.items():
        count = sw_batch_size or max(1, max_pixels // prod(size))
        batches += [TileBatch(size, jobs[first : first + count]) for first in range(0, len(jobs), count)]
    return batches


def cut_tiles(images: torch.Tensor, batch: TileBatch, margin: int, channels_last: bool = True) -> torch.Tensor:
    """Cut tiles (N, C, height, width) with their mirrored context out of images (B, C, H, W), on their device."""
    tiles = torch.empty(
        (len(batch.jobs), images.shape[1], *batch.tile_size),
        dtype=images.dtype,
        device=images.device,
        # of a single channel both layouts are the same bytes, but the strides tell the convolutions which one is meant
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    for tile, job in zip(tiles, batch.jobs, strict=True):
        start = (job.tile.rows[0] - margin, job.tile.columns[0] - margin)
        tile.copy_(cut_tile(images[job.image], job.orientation, start, batch.tile_size))
    return tiles


def usable_scores(scores: object, tiles: torch.Tensor, rule: TileRule) -> torch.Tensor:
    """The part of the network's output that counts, at least float32; raises where the size is not what was planned."""
    if not isinstance(scores, torch.Tensor):
        raise TypeError(f"OverlapTileInferer expects a network that returns one tensor, got {type(scores).__name__}")
    height, width = tiles.shape[2:]
    expected = (len(tiles), rule.network_output(height), rule.network_output(width))
    got = (scores.shape[0], *scores.shape[2:])
    if got != expected:
        raise ValueError(
            f"for tiles {tuple(tiles.shape)} the network gave {tuple(scores.shape)}, but with depth={rule.depth} and "
            f"padding={rule.padding!r} the inferer expects ({expected[0]}, K, {expected[1]}, {expected[2]}); set its "
            "`depth` to the network's number of poolings, and `padding` to 'same' if the size should stay"
        )
    cut = 0 if rule.padding == "valid" else rule.margin
    scores = scores[:, :, cut : cut + rule.usable(height), cut : cut + rule.usable(width)]
    return at_least_single(scores)
