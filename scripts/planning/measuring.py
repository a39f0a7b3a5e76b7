"""Measure all images and labels of a data set, several at a time. Damaged files are named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..data.items import describe_failure
from ..data.pixel_size import pixel_size_of
from ..io.files import concerns_all_files
from ..io.reader import PlaneReader
from .facts import DataFacts, ItemFacts, measure_item

MOST_THREADS = 8
Progress = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Measured:
    """Readable items with their facts, and a message for each unreadable item."""

    items: Sequence[Mapping[str, Any]]
    facts: DataFacts
    unreadable: Sequence[str] = ()


def measure(
    items: Sequence[Mapping[str, Any]],
    tiff_axes: str | None = None,
    threads: int = 2,
    progress: Progress = iter,
) -> Measured:
    """Read and measure each image and label once.

    Args:
        items: {"image": address, "label": address}.
        tiff_axes: axes of TIFF files with wrong axes in the file, see `scripts.io.tiff`.
        threads: number of threads.
        progress: wraps the list of items, for example with a bar.

    Raises:
        OSError: an error of the disk, for all files.

    Example:
        >>> from PIL import Image
        >>> Image.new("L", (40, 40)).save("a.png")
        >>> len(measure([{"image": "a.png", "label": "a.png"}]).facts.items)
        1
    """
    images, labels = PlaneReader(tiff_axes), PlaneReader(tiff_axes, labels=True)
    kept: list[Mapping[str, Any]] = []
    found: list[ItemFacts] = []
    unreadable: list[str] = []
    with ThreadPoolExecutor(max(1, min(threads, MOST_THREADS))) as pool:
        futures: list[Future[ItemFacts]] = [pool.submit(measure_item, item, images, labels) for item in items]
        try:
            for item, future in progress(list(zip(items, futures, strict=True))):
                try:
                    found.append(future.result())
                    kept.append(item)
                except Exception as error:  # whatever a damaged file raises
                    if concerns_all_files(error):
                        raise
                    unreadable.append(describe_failure(str(item["image"]), error))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Measured(kept, DataFacts(found, pixel_size_of(items, tiff_axes)), unreadable)
