"""Share the images of a validation or of a folder between processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import ignite.distributed as idist
from torch.utils.data import Sampler

from ..io.names import PathLike, split_address
from ..ranks import from_first
from .datalist import find_images
from .items import paths_in


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


def find_images_once(path: PathLike, tiff_axes: str | None = None) -> list[dict[str, Any]]:
    """List images as `find_images`, in rank 0 alone. All processes get this list: others may see new files later.

    Args:
        path: a folder or a file, as for `find_images`.
        tiff_axes: axes of TIFF files, as for `find_images`.

    Example:
        >>> from pathlib import Path
        >>> Path("cells.png").touch()
        >>> find_images_once("cells.png")
        [{'image': 'cells.png'}]
    """
    return from_first(find_images(path, tiff_axes) if idist.get_rank() == 0 else [])


def share_images(items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """List the images of this process: each image in a single process, the planes of a stack in the same process.

    All processes have about equally many planes. No process writes into the files of another.

    Args:
        items: list of images, {"image": address} or {"image": addresses of channels}, equal in all processes.

    Example:
        >>> share_images([{"image": "a.png"}, {"image": "b.tif#page=0"}])  # a single process
        [{'image': 'a.png'}, {'image': 'b.tif#page=0'}]
    """
    files: dict[Any, list[Mapping[str, Any]]] = {}
    for item in items:
        files.setdefault(split_address(next(paths_in([item["image"]])))[0], []).append(item)
    loads = Counter(dict.fromkeys(range(idist.get_world_size()), 0))
    ranks = {}
    for file in sorted(files, key=lambda file: -len(files[file])):  # the largest first, equal ones in order
        ranks[file] = min(loads, key=loads.__getitem__)  # of equal ranks the first
        loads[ranks[file]] += len(files[file])
    return [item for file, planes in files.items() if ranks[file] == idist.get_rank() for item in planes]
