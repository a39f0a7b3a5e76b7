"""Scores of planes, the objects in scores, and the table of objects. The heavy library is imported at the first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..running.package import library_package

Progress = Callable[[int, int], object]


class Cancelled(Exception):
    """The user has cancelled."""


@dataclass(frozen=True)
class ObjectSettings:
    """How scores become objects, as in `model.json`; lengths in pixels of the scores.

    Example:
        >>> ObjectSettings(threshold=0.4).min_area
        0
    """

    threshold: float = 0.5
    min_area: int = 0
    fill_holes: int = 0
    split_necks: float = 0
    close_gaps: int = 0
    field_border: int = 0

    def options(self) -> dict[str, float]:
        """Settings by name, as the commands take them."""
        return asdict(self)


@dataclass(frozen=True)
class PlaneScores:
    """Scores of a plane of H rows and W columns.

    Args:
        probability: of class 1, float32 (h, w). Not (H, W) if the plane was rescaled.
        classes: class of each pixel, uint8 (H, W).
    """

    probability: np.ndarray
    classes: np.ndarray


class PlaneScorer:
    """Segment planes with weights.

    Args:
        weights: file of weights, or the name of published weights.
        orientations: 1, 4 or 8 views.
        pixel_size: height and width of a pixel of the planes, in micrometres. Given: planes are rescaled to the pixel
            size of the training. None: they are not.

    Raises:
        ValueError: the weights cannot be used, or do not know the pixel size of their training.

    Example:
        >>> scorer = PlaneScorer("nuclei_small")
        >>> scorer(np.eye(60, 80)).probability.shape
        (60, 80)
    """

    def __init__(self, weights: str, orientations: int = 1, pixel_size: tuple[float, float] | None = None) -> None:
        self._segment = library_package("segmenter").Segmenter(weights, orientations=orientations)
        self._pixel_size = pixel_size
        transforms = library_package("transforms")
        auto = None if pixel_size is None else "auto"
        trained = self.settings.training.pixel_size
        self._match = transforms.MatchPixelSized(trained=trained if auto else None, pixel_size=auto)
        self._restore = transforms.RestoreSized("classes", "nearest")

    @property
    def settings(self) -> Any:
        """Settings of the weights."""
        return self._segment.settings

    def __call__(self, plane: np.ndarray, progress: Progress | None = None) -> PlaneScores:
        """Segment a plane.

        Args:
            plane: (H, W), or (H, W, C) with the channels of the weights.
            progress: called with the number of finished tiles and of all tiles. Its exceptions end the call.

        Raises:
            ValueError: as `Segmenter`, or as `MatchPixelSized`.
        """
        item = _item(plane, self._pixel_size)
        matched = self._match(item)
        pixels = plane if self._pixel_size is None else np.moveaxis(np.asarray(matched["image"]), 0, -1)
        found = self._segment(pixels, progress=progress)
        restored = self._restore({"image": matched["image"], "classes": found.classes[None]})
        probability = np.ascontiguousarray(found.probabilities[1])
        return PlaneScores(probability, np.asarray(restored["classes"])[0].astype(np.uint8))


def find_objects(probability: np.ndarray, settings: ObjectSettings, size: tuple[int, int]) -> np.ndarray:
    """Find the objects of a plane in its scores.

    Args:
        probability: float (h, w).
        settings: of the objects.
        size: (H, W) of the plane.

    Returns:
        int32 (H, W), 0 is background.

    Raises:
        ValueError: as `scripts.transforms.instances_from_scores`.

    Example:
        >>> find_objects(np.array([[0.9, 0.2, 0.8]]), ObjectSettings(), (1, 3))
        array([[1, 0, 2]], dtype=int32)
    """
    options = settings.options()
    options["split"], options["gap"] = options.pop("split_necks"), options.pop("close_gaps")
    found = library_package("transforms.objects").instances_from_scores(probability, **options)
    if found.shape == size:
        return np.asarray(found)
    image = _item(np.zeros((1, 1)), None)["image"]
    image.meta[library_package("transforms.pixel_size").ORIGINAL] = np.array(size)
    restored = library_package("transforms").RestoreSized("found", "instances")({"image": image, "found": found[None]})
    return np.asarray(restored["found"])[0].astype(np.int32)


def objects_table(
    instances: np.ndarray,
    plane: Callable[[int], np.ndarray],
    pixel_size: tuple[float, float] | None,
) -> pd.DataFrame:
    """Measure the objects of all planes.

    Args:
        instances: int (N, H, W), numbers that differ between planes.
        plane: gets the plane of a number, (H, W) or (H, W, C).
        pixel_size: height and width in micrometres, or None.

    Returns:
        a row for each object: `index` is the number in `instances`, `plane` counts from 0, and the columns of
        `objects.csv`.

    Example:
        >>> table = objects_table(np.array([[[0, 3, 3]]]), lambda number: np.array([[1.0, 2.0, 4.0]]), None)
        >>> table[["index", "plane", "area_px", "mean_intensity"]].values.tolist()
        [[3.0, 0.0, 2.0, 3.0]]
    """
    measure = library_package("metrics").object_table
    unit = None if pixel_size is None else "um"
    tables = []
    for number, found in enumerate(instances):
        pixels = plane(number)
        channels = pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        table = pd.DataFrame(measure(found, channels, pixel_size, unit)).rename(columns={"label": "index"})
        table.insert(1, "plane", number)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def numbered_on(planes: list[np.ndarray]) -> np.ndarray:
    """Number objects on from plane to plane.

    Args:
        planes: int32 (H, W), each numbered from 1.

    Returns:
        int32 (N, H, W).

    Example:
        >>> numbered_on([np.array([[1, 2]]), np.array([[0, 1]])]).tolist()
        [[[1, 2]], [[0, 3]]]
    """
    out = np.zeros((len(planes), *planes[0].shape), np.int32)
    highest = 0
    for plane, found in zip(out, planes, strict=True):
        np.add(found, highest, out=plane, where=found > 0)
        highest = max(highest, int(plane.max(initial=0)))
    return out


def segment_large(
    weights: str,
    path: Path,
    output: Path,
    orientations: int,
    objects: Mapping[str, float],
    progress: Callable[[str, int, int], object],
) -> Path:
    """Segment an image file of any size into OME-Zarr. Cancelled, the same call goes on.

    Args:
        weights, orientations: as `PlaneScorer`.
        path: the image.
        output: a name that ends in `.ome.zarr`.
        objects: settings of objects by name.
        progress: called with step, number of finished blocks and number of all blocks.

    Raises:
        ValueError, FileExistsError: as `Segmenter.segment_large`.
    """
    segmenter = library_package("segmenter").Segmenter(
        weights, orientations=orientations, memory_limit=2**30, **objects
    )
    return Path(segmenter.segment_large(path, output, progress=progress))


def _item(plane: np.ndarray, pixel_size: tuple[float, float] | None) -> dict[str, Any]:
    """Make an image (C, H, W) with the metadata of a file."""
    import torch
    from monai.data import MetaTensor

    spacing = (1.0, 1.0) if pixel_size is None else pixel_size
    meta = {"spacing": np.array(spacing), "unit": "pixel" if pixel_size is None else "um", "filename_or_obj": "layer"}
    channels = np.moveaxis(np.atleast_3d(plane), -1, 0)
    if channels.dtype.kind not in "iuf" or channels.dtype.itemsize > 8:
        channels = channels.astype(np.float64)
    values = torch.as_tensor(np.ascontiguousarray(channels).astype(channels.dtype.newbyteorder("="), copy=False))
    return {"image": MetaTensor(values, meta=meta)}
