"""Compare where image and label lie in space, by the headers of NIfTI, MHA, NRRD and DICOM.

A label may have the size of the image on disk, and be its mirror image in space. Pixels pair as stored: training would
see mirrored labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..io.image_file import ImageHeader
from ..io.names import split_address
from ..io.reader import read_header

AXES = ("rows", "columns", "planes")
PARALLEL = 0.99  # cosine of 8 degrees
SAME_LENGTH = 0.01  # relative difference of pixel sizes


def displaced_pairs(items: Sequence[Mapping[str, Any]], tiff_axes: str | None = None) -> tuple[list[str], list[str]]:
    """Find labels that have another direction or place in space than their image.

    Args:
        items: {"image": address, "label": address}. Formats without a place in space are not compared.
        tiff_axes: axes of TIFF files with wrong axes in the file, see `scripts.io.tiff`.

    Returns:
        Two lists of descriptions, one for each file: labels with other directions, and labels with another pixel size
        or origin.

    Example:
        >>> from PIL import Image
        >>> Image.new("L", (7, 5)).save("cells.png")
        >>> displaced_pairs([{"image": "cells.png", "label": "cells.png"}])
        ([], [])
    """
    turned, shifted = [], []
    for image, label in dict.fromkeys(map(_files, items)):
        headers = [read_header(file, tiff_axes) for file in (image, label)]
        if headers[0].world is None or headers[1].world is None:
            continue
        pair = f"{label} against {image}"
        if difference := _turned(*headers):
            turned.append(f"{pair}: {difference}")
        elif difference := _shifted(*headers):
            shifted.append(f"{pair}: {difference}")
    return turned, shifted


def _files(item: Mapping[str, Any]) -> tuple[str, str]:
    image = item["image"]
    first = image if isinstance(image, str) else str(image[0]) if isinstance(image, Sequence) else str(image)
    return str(split_address(first)[0]), str(split_address(str(item["label"]))[0])


def _directions(header: ImageHeader) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of rows, columns and planes (3, 3), a column each, and their lengths (3,)."""
    axes = np.asarray(header.world)[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    return axes / np.maximum(lengths, 1e-12), lengths


def _turned(image: ImageHeader, label: ImageHeader) -> str | None:
    """Describe axes with another direction, or None. The direction of a single plane says nothing."""
    one, other = _directions(image)[0], _directions(label)[0]
    cosines = np.sum(one * other, axis=0)
    axes = range(3 if image.planes > 1 else 2)
    mirrored = [AXES[k] for k in axes if cosines[k] < -PARALLEL]
    if mirrored:
        return f"the {' and '.join(mirrored)} run in the opposite direction"
    others = [AXES[k] for k in axes if cosines[k] < PARALLEL]
    return f"the {' and '.join(others)} run in another direction" if others else None


def _shifted(image: ImageHeader, label: ImageHeader) -> str | None:
    """Describe another pixel size or origin, or None."""
    one, other = _directions(image)[1], _directions(label)[1]
    if not np.allclose(one, other, rtol=SAME_LENGTH):
        return f"the pixel size is {_sizes(other)}, that of the image {_sizes(one)}"
    offset = np.asarray(image.world)[:3, 3] - np.asarray(label.world)[:3, 3]
    if np.linalg.norm(offset) > one.max():
        return f"the origin lies {np.linalg.norm(offset):.3g} mm beside that of the image"
    return None


def _sizes(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths) + " mm"
