"""Share the images of a validation between processes."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import ignite.distributed as idist
from torch.utils.data import Sampler


class ShareSampler(Sampler[int]):
    """Give process r of n the images r, r + n, r + 2 n, ...: each image once, to a single process.

    The samplers of torch and MONAI repeat images for equal shares, or refuse fewer images than processes. A repeated
    image would count twice in the metrics.

    Args:
        dataset: the images, in any form with a length.

    Example:
        >>> list(ShareSampler(["a.png", "b.png"]))  # a single process
        [0, 1]
    """

    def __init__(self, dataset: Sized) -> None:
        self.images = range(idist.get_rank(), len(dataset), idist.get_world_size())

    def __iter__(self) -> Iterator[int]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.images)
