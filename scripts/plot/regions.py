"""Choose what of an image is drawn, and how large, so that its objects can be seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from skimage.measure import label as connected

CELL = 24  # pixels of the picture across the median object, if possible
WIDTH, LARGEST = 520, 1000  # pixels of the picture along the longer side of an image: usual and most
LEAST = 64  # pixels of the image along a cut-out
SPECK = 4  # pixels; smaller regions of a class map are no objects


class Region(NamedTuple):
    """A part of an image, and its size in a picture.

    Args:
        rows, columns: slices of the image.
        side: pixels of the picture along the longer side of the part.
        whole: whether the part is the whole image.
    """

    rows: slice
    columns: slice
    side: int
    whole: bool


def visible_region(label: np.ndarray, instances: bool = False) -> Region:
    """Enlarge an image until its median object is 24 pixels across. If that is too large, cut out a part with objects.

    Args:
        label: class map or instance map, integer (H, W). 0 or negative: background.
        instances: the numbers are objects. False: the objects are the connected regions of each class.

    Returns:
        the whole image, or the part with most objects, which depends on the label alone.

    Example:
        >>> visible_region(np.zeros((512, 300), int))
        Region(rows=slice(0, 512, None), columns=slice(0, 300, None), side=520, whole=True)
    """
    height, width = label.shape
    objects = label.clip(0) if instances else connected(label.clip(0), connectivity=1)
    areas = np.bincount(objects.ravel())
    areas[:1] = 0
    known = areas[areas > (0 if instances else SPECK)]
    longer = max(height, width)
    scale = CELL / np.sqrt(4 * np.median(known) / np.pi) if len(known) else 0.0
    side = int(np.clip(longer * scale, WIDTH, LARGEST))
    if longer * scale <= LARGEST:
        return Region(slice(0, height), slice(0, width), side, whole=True)
    cut = max(LEAST, int(LARGEST / scale))
    sizes = min(cut, height), min(cut, width)
    share = np.divide(1, areas, out=np.zeros(len(areas)), where=areas > 0)[objects]  # of an object in each pixel
    top, left = _fullest(share, *sizes)
    return Region(slice(top, top + sizes[0]), slice(left, left + sizes[1]), side, whole=sizes == label.shape)


def _fullest(values: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Find the window with the largest sum. Returns its first row and column."""
    sums = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(np.argmax(windows.round(6)), windows.shape)
    return int(top), int(left)
