"""Write images and labels of open layers as files, for a training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from .layers import pixel_size_of, planes_of

LEAST = 2  # images: one trains, one is held out


@dataclass(frozen=True)
class Written:
    """Counts of a written training set.

    Args:
        images: number of images.
        empty: number of planes without labels, left out.
    """

    images: int
    empty: int


def write_training_set(pairs: Sequence[tuple[Any, Any]], folder: Path) -> Written:
    """Write image and label of every plane that has labels. A single plane is cut into four quarters.

    Replaces an earlier training set in the folder. The folder appears when all files are complete.

    Args:
        pairs: image layers and labels layers of the same shape.
        folder: receives `images` and `labels`.

    Raises:
        ValueError: no pair, shapes that differ, negative labels, or no labels; the folder holds other files. The
            message names the layers.

    Example:
        >>> from napari.layers import Image, Labels
        >>> from napari.layers import Image, Labels
        >>> written = write_training_set([(Image(np.zeros((8, 9))), Labels(np.ones((8, 9), int)))], Path("annotated"))
        >>> written.images, sorted(path.name for path in Path("annotated/images").iterdir())[:2]
        (4, ['000.ome.tif', '001.ome.tif'])
    """
    if not pairs:
        raise ValueError("no images: choose an image layer and its labels layer, and press Add")
    found, empty = [], 0
    for image, labels in pairs:
        planes = planes_of(image, 3 if image.rgb else 1)
        marks = np.asarray(labels.data[0] if labels.multiscale else labels.data)
        if marks.shape != (*planes.leading, *planes.size):
            raise ValueError(
                f"the layer '{labels.name}' has the shape {marks.shape}, the image '{image.name}' "
                f"{(*planes.leading, *planes.size)}: expected equal shapes"
            )
        lowest, highest = int(marks.min(initial=0)), int(marks.max(initial=0))
        if lowest < 0 or highest >= 2**32:
            raise ValueError(
                f"the layer '{labels.name}' has the values {lowest} to {highest}: expected 0 for background, and "
                "positive numbers below 4294967296"
            )
        marks = marks.reshape(len(planes), *planes.size)
        size = pixel_size_of(image)
        for number, mark in enumerate(marks):
            if mark.any():
                found.append((planes[number], mark, size))
            else:
                empty += 1
    if not found:
        names = ", ".join(f"'{labels.name}'" for _, labels in pairs)
        raise ValueError(f"no labels in {names}: draw objects, each with a number of its own, and train again")
    if len(found) < LEAST:
        found = _quarters(*found[0])
    _write(found, folder)
    return Written(len(found), empty)


def _as_ome(image: np.ndarray) -> np.ndarray:
    """Convert the pixel types that OME-TIFF lacks: int64, uint64 and float16. Masks become uint8."""
    if image.dtype.kind in "iu" and image.dtype.itemsize == 8:
        fits = image.min() >= -(2**31) and image.max() < 2**31
        return image.astype(np.int32 if fits else np.float64)
    return image.astype({"f2": np.float32, "b1": np.uint8}.get(image.dtype.str[1:], image.dtype))


def _quarters(
    image: np.ndarray, labels: np.ndarray, size: tuple[float, float] | None
) -> list[tuple[np.ndarray, np.ndarray, tuple[float, float] | None]]:
    """Cut a plane into four quarters, and keep the quarters with labels."""
    parts = [
        (image[rows, columns], labels[rows, columns], size)
        for rows in _halves(labels.shape[0])
        for columns in _halves(labels.shape[1])
    ]
    kept = [part for part in parts if part[1].any()]
    if len(kept) < LEAST:
        raise ValueError(
            "a single plane with labels in a single quarter: label more of the image, or a second plane. Some images "
            "train, others are held out"
        )
    return kept


def _halves(length: int) -> tuple[slice, slice]:
    return slice(0, length // 2), slice(length // 2, length)


def _write(found: Sequence[tuple[np.ndarray, np.ndarray, tuple[float, float] | None]], folder: Path) -> None:
    if folder.exists() and not {path.name for path in folder.iterdir()} <= {"images", "labels", "plan.yaml"}:
        raise ValueError(f"{folder} holds other files than a training set. Choose another folder for the results")
    new = folder.with_name(folder.name + ".part")
    shutil.rmtree(new, ignore_errors=True)
    for kind in ("images", "labels"):
        (new / kind).mkdir(parents=True)
    for number, (image, labels, size) in enumerate(found):
        color = image.ndim == 3
        metadata: dict[str, Any] = {"axes": "YXS" if color else "YX"}
        if size is not None:
            metadata |= {"PhysicalSizeY": size[0], "PhysicalSizeX": size[1]}
            metadata |= {"PhysicalSizeYUnit": "µm", "PhysicalSizeXUnit": "µm"}
        file = new / "images" / f"{number:03d}.ome.tif"
        tifffile.imwrite(
            file, _as_ome(image), ome=True, metadata=metadata, photometric="rgb" if color else "minisblack"
        )
        narrow = labels.astype(np.uint16 if labels.max() < 2**16 else np.uint32)
        tifffile.imwrite(new / "labels" / f"{number:03d}.ome.tif", narrow, ome=True, photometric="minisblack")
    if folder.exists():
        shutil.rmtree(folder)
    new.rename(folder)
