"""Tiles of a training depend on the seed, the epoch and the place in the epoch, and on nothing else."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandAdjustContrast, RandLambda

from scripts.data.tiles import TileDataset, TileLoader, TileSampler
from tests.processes import in_two_processes

IMAGES = [torch.full((1, 2, 2), float(k + 1)) for k in range(5)]


def jitter(image: Any) -> Any:
    """Change an image by the global random numbers, as transforms of others may do."""
    return image * (1 + torch.rand(1)) * (1 + np.random.rand()) * (1 + random.random())  # noqa: NPY002


def tiles(workers: int, epoch: int, **options: Any) -> list[list[float]]:
    transform = Compose([lambda image: image, RandAdjustContrast(prob=0.5), RandLambda(jitter)])
    dataset = TileDataset(IMAGES, transform, progress=False)
    sampler = TileSampler(dataset, **options)
    sampler.set_epoch(epoch)
    loader = TileLoader(dataset, num_workers=workers, batch_size=2, sampler=sampler)
    return [batch.flatten().tolist() for batch in loader]


def test_the_number_of_worker_processes_does_not_change_the_tiles():
    alone = tiles(0, epoch=3)
    torch.rand(7)  # what the main process draws meanwhile has no effect
    assert tiles(2, epoch=3) == alone
    assert tiles(0, epoch=4) != alone
    assert tiles(0, epoch=3, seed=1) != alone


def test_no_two_tiles_of_an_image_are_equal():
    seen = [tuple(batch) for epoch in range(20) for batch in tiles(0, epoch)]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("count, least, most", [(None, 1, 1), (3, 0, 1), (12, 2, 3)])
def test_every_image_is_drawn_before_any_is_drawn_again(count, least, most):
    sampler = TileSampler(IMAGES, num_samples=count)
    assert len(list(sampler)) == len(sampler) == (count or 5)
    drawn = Counter(sampler)
    assert all(least <= drawn[k] <= most for k in range(5))


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "many"])
def test_a_number_of_tiles_that_is_no_number_is_refused(count):
    with pytest.raises(ValueError, match=rf"tiles_per_epoch.*{count}"):
        TileSampler(IMAGES, num_samples=count)


def draw(rank: int, folder: Path) -> None:
    """Write the draws of a process."""
    sampler = TileSampler(IMAGES, num_samples=7, seed=1)
    sampler.set_epoch(2)
    drawn = [(int(index), index.seed) for index in sampler]
    (folder / f"{rank}.json").write_text(json.dumps([idist.get_world_size(), len(sampler), drawn]))


@pytest.mark.slow
def test_two_processes_share_the_tiles_of_one(tmp_path):
    in_two_processes(draw, tmp_path)
    (_, _, first), (world, length, second) = (json.loads((tmp_path / f"{r}.json").read_text()) for r in (0, 1))
    assert (world, length) == (2, 4)  # 7 tiles, rounded up to 8
    alone = TileSampler(IMAGES, num_samples=8, seed=1)
    alone.set_epoch(2)
    assert [tuple(pair) for both in zip(first, second, strict=True) for pair in both] == [
        (int(index), index.seed) for index in alone
    ]
