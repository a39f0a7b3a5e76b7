"""Find the pixel size of images in their headers, and describe the images of a training for `model.json`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import ensure_tuple

from ..io.files import six_digits
from ..io.image_file import ImageFileError
from ..io.names import PathLike, image_name, split_address
from ..io.reader import read_header
from ..io.units import micrometres

SAME = 1.02  # pixel sizes within 2 % are equal: headers round, and no network notices the difference


def pixel_size_of(items: Sequence[Mapping[str, Any]], tiff_axes: str | None = None) -> float | None:
    """Read the common pixel size of images from their headers.

    Each file is read once, without its pixels. The first file of unknown pixel size ends the search.

    Args:
        items: {"image": address}, as from `find_pairs`. A list of addresses stands for the channels of an image.
        tiff_axes: axes of TIFF files with wrong axes in the file, see `scripts.io.tiff`.

    Returns:
        Height and width of a pixel in um, the median over all images. None if an image has no pixel size or cannot be
        read, or if heights and widths differ by more than 2 %: a network trained on several sizes, or on pixels that
        are not square, has no single pixel size.

    Example:
        >>> import tifffile
        >>> nm = {"imagej": True, "resolution": (0.25, 0.25), "metadata": {"unit": "nm"}}
        >>> tifffile.imwrite("section.tif", np.zeros((5, 7), np.uint8), **nm)
        >>> pixel_size_of([{"image": "section.tif"}])
        0.004
    """
    addresses = (name for item in items for name in ensure_tuple(item.get("image")))
    lengths: list[float] = []
    for path in dict.fromkeys(split_address(str(name))[0] for name in addresses):
        try:
            header = read_header(path, tiff_axes)
        except (ImageFileError, OSError):
            return None
        size = micrometres(header.spacing, header.unit)
        if size is None:
            return None
        lengths += size
    if not lengths or max(lengths) > SAME * min(lengths):
        return None
    return six_digits(float(np.median(lengths)))


def describe_training(
    dataset_dir: PathLike,
    items: Sequence[Mapping[str, Any]],
    pixel_size: float | str | None = None,
    tiff_axes: str | None = None,
) -> dict[str, Any]:
    """Describe the images of a training, for `model.json` beside the weights.

    Args:
        dataset_dir: folder, or .json list of the data set. A list is named after its file, `dataset.json` after its
            folder.
        items: the training images, as for `pixel_size_of`.
        pixel_size: in um. None or "auto": from the headers.
        tiff_axes: as for `pixel_size_of`.

    Returns:
        "dataset": name of the data set. "images": number of items. "pixel_size": in um, or None if unknown.

    Raises:
        ValueError: the given `pixel_size` is not a positive number. Files never raise an error here.

    Example:
        >>> describe_training("data/isbi2012/", [{"image": "00.png"}], pixel_size=0.004)
        {'dataset': 'isbi2012', 'images': 1, 'pixel_size': 0.004}
    """
    pixel_size = None if pixel_size == "auto" else pixel_size
    if pixel_size is not None:
        check_pixel_size("pixel_size", pixel_size)
    path = Path(os.path.abspath(Path(dataset_dir).expanduser()))  # the real name of "." and "..", links kept
    if path.is_file():
        name = path.parent.name if path.name == "dataset.json" else image_name(path).removesuffix(".json")
    else:
        name = path.name
    size = pixel_size_of(items, tiff_axes) if pixel_size is None else float(pixel_size)
    return {"dataset": name, "images": len(items), "pixel_size": size}


def check_pixel_size(name: str, value: object) -> None:
    """Raise ValueError if the argument `name` is not a positive number of micrometres.

    Example:
        >>> check_pixel_size("pixel_size", 0.004)
    """
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number of micrometres (0.004 for 4 nm), got {value!r}")
