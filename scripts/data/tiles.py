"""Draw the tiles of a training. Each tile is a function of the seed, the epoch and the place in the epoch.

Neither the number of worker processes nor an interruption changes the tiles. A resumed training therefore continues as
if it had never stopped.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sized
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import DataLoader
from monai.data.utils import worker_init_fn
from monai.transforms import Randomizable, Transform
from torch.utils.data.distributed import DistributedSampler

from .datasets import ThreadCacheDataset

SEEDS = 2**32  # numpy's seeds are below
ODD = 0x9E3779B1  # large, so that neighbouring seeds of tiles and parts do not meet


class Drawn(int):
    """The number of an image, with the seed of the tile to draw.

    Example:
        >>> drawn = Drawn(3, seed=7)
        >>> drawn, drawn.seed
        (3, 7)
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> Drawn:  # noqa: D102  # see the class
        drawn = super().__new__(cls, index)
        drawn.seed = seed
        return drawn

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]  # for worker processes
        return int(self), self.seed


class TileSampler(DistributedSampler):
    """Draw images for the tiles of an epoch, each with the seed of a tile.

    Every image is drawn once before any is drawn again. Several processes share the draw: process r of n gets the
    places r, r + n, r + 2 n, ... MONAI's trainer calls `set_epoch` at the start of each epoch.

    Args:
        dataset: the images, in any form with a length.
        num_samples: tiles of an epoch, of all processes together. None: a tile of every image. Rounded up to a multiple
            of the number of processes.
        seed: of the whole training.

    Raises:
        ValueError: `num_samples` is no whole number above 0.

    Example:
        >>> sampler = TileSampler(range(4), seed=1)
        >>> sorted(sampler), list(sampler) == list(sampler)
        ([0, 1, 2, 3], True)
    """

    def __init__(self, dataset: Sized, num_samples: int | None = None, seed: int = 0) -> None:
        whole = isinstance(num_samples, int) and not isinstance(num_samples, bool)
        if num_samples is not None and not (whole and num_samples > 0):
            raise ValueError(f"tiles_per_epoch must be a whole number above 0, or null, got {num_samples!r}")
        super().__init__(
            dataset,  # type: ignore[arg-type]  # only the length is used
            num_replicas=idist.get_world_size(),
            rank=idist.get_rank(),
            seed=int(seed) % SEEDS,
        )
        self.num_samples = -(-(num_samples or len(dataset)) // self.num_replicas)  # rounded up
        self.total_size = self.num_samples * self.num_replicas
        self._done = (0, 0)  # epoch, and the number of its tiles that were drawn before an interruption

    def leave_out(self, epoch: int, tiles: int) -> None:
        """Leave out the first tiles of an epoch in this process, because a training has used them.

        Example:
            >>> sampler = TileSampler(range(4))
            >>> sampler.set_epoch(2)
            >>> whole = list(sampler)
            >>> sampler.leave_out(epoch=2, tiles=3)
            >>> list(sampler) == whole[3:]
            True
        """
        self._done = (epoch, tiles)

    def __iter__(self) -> Iterator[Drawn]:
        count = len(self.dataset)  # type: ignore[arg-type]
        draw, seeds = np.random.SeedSequence((self.seed, self.epoch)).spawn(2)
        numbers = np.random.RandomState(draw.generate_state(4))  # numpy keeps this generator's numbers for ever
        order = np.concatenate([numbers.permutation(count) for _ in range(-(-self.total_size // count))])
        tiles = [
            Drawn(int(index), int(seed))
            for index, seed in zip(order[: self.total_size], seeds.generate_state(self.total_size), strict=True)
        ][self.rank :: self.num_replicas]
        epoch, done = self._done
        return iter(tiles[done if epoch == self.epoch else 0 :])


class TileDataset(ThreadCacheDataset):
    """`ThreadCacheDataset` for the numbers of `TileSampler`: seeds the random transforms with the seed of each tile.

    Transforms with numpy's, Python's and torch's global random numbers are seeded, too.

    Args:
        args, kwargs: as for `CacheDataset`, such as `data` and `transform`.

    Example:
        >>> from monai.transforms import Compose, RandScaleIntensity
        >>> from scripts.data import Drawn
        >>> scaled = Compose([RandScaleIntensity(0.5, prob=1)])
        >>> tiles = TileDataset([torch.ones(1, 1)], scaled, progress=False)
        >>> torch.equal(tiles[Drawn(0, seed=7)], tiles[Drawn(0, seed=7)])
        True
    """

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, Drawn):
            if self._randomizable is None:
                self._randomizable = list(_parts_with_state(self.transform))
            for k, part in enumerate(self._randomizable):
                part.R.seed((index.seed + k * ODD) % SEEDS)  # 100 times faster than a new state by `set_random_state`
            seed_everything(index.seed)
        return super().__getitem__(index)

    _randomizable: list[Randomizable] | None = None  # parts of the transform with random numbers


def _parts_with_state(part: Any, seen: set[int] | None = None) -> Iterator[Randomizable]:
    """List the parts of a transform that have random numbers of their own, always in the same order."""
    seen = set() if seen is None else seen
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, Randomizable):
        yield part
    inner = part if isinstance(part, (list, tuple)) else ()
    if isinstance(part, (dict, Transform, Randomizable)):
        inner = tuple((part if isinstance(part, dict) else vars(part)).values())
    for value in inner:
        yield from _parts_with_state(value, seen)


class TileLoader(DataLoader):
    """MONAI's `DataLoader`, whose worker processes leave Ctrl-C and SIGTERM to the training.

    A terminal and a cluster send both signals to all processes. The training ends its current step, saves its state and
    then ends its workers. Workers also end soon after a training that was killed.

    Args:
        dataset, num_workers, kwargs: as for `DataLoader`.

    Example:
        >>> len(TileLoader([1, 2, 3], batch_size=2))
        2
    """

    def __init__(self, dataset: Any, num_workers: int = 0, **kwargs: Any) -> None:
        super().__init__(dataset, num_workers=num_workers, **{"worker_init_fn": _start_worker, **kwargs})


def _start_worker(number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker_init_fn(number)


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global random numbers, also of a GPU in use.

    `torch.manual_seed` would take 0.2 ms, because it asks for devices of all kinds.

    Args:
        seed: 0 to 2**32 - 1.

    Example:
        >>> seed_everything(7)
        >>> first = torch.rand(1)
        >>> seed_everything(7)
        >>> torch.equal(first, torch.rand(1))
        True
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # transforms of others use the global numbers
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
