"""Find objects in scores: threshold, connected components, and corrections that give whole, separate objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, ensure_tuple_rep
from skimage.measure import label as connected_components
from skimage.segmentation import relabel_sequential

from ..data.items import file_of
from ..io.arrays import as_array
from .instance_labels import instances_from_mask
from .separation import close_gaps, split_at_necks

_ROUNDING = 1e-3  # of probabilities in half precision, or blended from several windows


def instances_from_scores(
    scores: np.ndarray,
    threshold: float = 0.5,
    min_area: int = 0,
    connectivity: int = 1,
    fill_holes: int = 0,
    split: float = 0,
    gap: int = 0,
    field_border: int = 0,
) -> np.ndarray:
    """Find and number the objects of a probability map or a class map.

    The steps: threshold, fill holes, connected components, split at constrictions, remove small objects, close gaps,
    remove objects outside the field of interest.

    Args:
        scores: (H, W). Floating point: probability of an object, 0 .. 1. Integer or boolean: class map, where each
            class except 0 is an object and different classes never join.
        threshold: pixels with a greater probability are foreground. 0.5 gives the likelier of two classes.
        min_area: in pixels. Smaller objects are removed before gaps are closed.
        connectivity: 1: pixels join over edges. 2: over corners, too.
        fill_holes: largest hole in pixels. Background enclosed by one object is filled up to this size. Without the
            limit, a cell inside another would be lost together with the membrane between them.
        split: in pixels, the `depth` of `scripts.transforms.separation.split_at_necks`. 0: off.
        gap: in pixels. Background up to this width between two objects is filled, see
            `scripts.transforms.separation.close_gaps`. 0: off.
        field_border: in pixels. Objects wholly within this distance of the image edge are removed, as the ground truth
            of the Cell Tracking Challenge leaves them out (50 pixels for DIC-C2DH-HeLa and PhC-C2DH-U373). 0: off.

    Returns:
        int32 (H, W): 0 is background, 1 .. n are the objects.

    Raises:
        ValueError: `scores` is not (H, W), or floating point and above 1. `connectivity` is not 1 or 2, a length is
            negative, or the border covers the whole image.

    Example:
        >>> instances_from_scores(np.array([[0.9, 0.8, 0.1, 0.7]]))
        array([[1, 1, 0, 2]], dtype=int32)
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be one plane (H, W), got the shape {scores.shape}. Select one channel.")
    is_probability = np.issubdtype(scores.dtype, np.floating)
    if is_probability and not scores.max(initial=0) <= 1 + _ROUNDING:  # NaN, too
        raise ValueError(
            f"expected probabilities 0 .. 1, got up to {scores.max():g}. Give class maps as integers (AsDiscreted: "
            "dtype), and network scores after ProbabilitiesFromScoresd."
        )
    classes = scores > threshold if is_probability else scores
    classes = classes if classes.dtype == bool else classes.astype(np.int32)  # bool is labelled twice as fast
    if fill_holes > 0:
        classes = _fill_holes(classes, fill_holes, connectivity)
    instances = split_at_necks(instances_from_mask(classes, connectivity), split)
    if min_area > 1:
        instances = _keep(instances, np.bincount(instances.ravel()) >= min_area)
    instances = close_gaps(instances, gap)
    return instances if field_border == 0 else _keep(instances, _in_field(instances, field_border))


class InstancesFromScoresd(MapTransform):
    """Find the objects of a dictionary's probability or class maps. Dictionary version of `instances_from_scores`.

    Args:
        keys: probabilities (K, H, W), or a single channel (1, H, W) of probabilities or classes. Classes must be
            integers (MONAI's `AsDiscreted(argmax=True)` gives floats by default, see its `dtype`).
        output_keys: where the instances are written, int32 (1, H, W).
        channel: class of the objects, used for several channels. 1 is the cell.
        threshold, min_area, connectivity, fill_holes, split, gap, field_border: as in `instances_from_scores`.
        allow_missing_keys: skip missing keys.

    Raises:
        ValueError: at the call, as `instances_from_scores`. The message names the file of the scores or of "image".

    Example:
        >>> find = InstancesFromScoresd("pred", min_area=2)
        >>> find({"pred": np.array([[[1, 1, 0, 1]]])})["instances"]
        array([[[1, 1, 0, 0]]], dtype=int32)
    """

    def __init__(
        self,
        keys: KeysCollection = "prob",
        output_keys: KeysCollection = "instances",
        channel: int = 1,
        threshold: float = 0.5,
        min_area: int = 0,
        connectivity: int = 1,
        fill_holes: int = 0,
        split: float = 0,
        gap: int = 0,
        field_border: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = ensure_tuple_rep(output_keys, len(self.keys))
        self.channel = channel
        self.options = (threshold, min_area, connectivity, fill_holes, split, gap, field_border)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Add the instances of each key."""
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            scores = d[key]
            plane = scores[self.channel if scores.shape[0] > 1 else 0]
            try:
                instances = instances_from_scores(as_array(plane), *self.options)
            except ValueError as error:
                raise ValueError(f"{file_of(d, key, 'image')}: {error}") from error
            d[output_key] = convert_to_dst_type(instances[None], scores, dtype=np.int32)[0]
        return d


def _fill_holes(classes: np.ndarray, largest: int, connectivity: int) -> np.ndarray:
    """Fill the holes of up to `largest` pixels in the objects of each class. Smaller objects inside a hole stay.

    If holes of several classes are nested, the smallest hole decides the class.
    """
    filled = classes.copy()
    smallest = np.full(classes.shape, largest + 1)  # pixels of the smallest hole so far around each pixel
    for c in np.unique(classes[classes != 0]):
        # if an object joins over edges only, its background joins over corners, and vice versa
        outside = connected_components(classes != c, background=0, connectivity=3 - connectivity)
        areas = np.bincount(outside.ravel())
        areas[0] = largest + 1  # the object
        areas[np.r_[outside[0], outside[-1], outside[:, 0], outside[:, -1]]] = largest + 1  # open to the image edge
        area = areas[outside]
        filled[(area < smallest) & (classes == 0)] = c
        np.minimum(smallest, area, out=smallest)
    return filled


def _keep(instances: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Remove the objects that are not `kept`, bool (1 + objects), and renumber the others from 1."""
    return relabel_sequential(np.where(kept[instances], instances, 0))[0].astype(np.int32, copy=False)


def _in_field(instances: np.ndarray, border: int) -> np.ndarray:
    """Find the objects with a pixel more than `border` pixels from the image edge, bool (1 + objects)."""
    (top, bottom), (left, right) = field_of_interest(instances.shape[0], instances.shape[1], border)
    return np.bincount(instances[top:bottom, left:right].ravel(), minlength=1 + instances.max(initial=0)) > 0


def field_of_interest(height: int, width: int, border: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Get the rows and columns [start, stop) more than `border` pixels from the edge of a height x width image.

    Raises:
        ValueError: the border is negative, or covers the whole image.

    Example:
        >>> field_of_interest(512, 400, 50)
        ((50, 462), (50, 350))
    """
    if border < 0 or 2 * border >= min(height, width):
        raise ValueError(
            f"field_border must be 0 px or more and leave some of the image, got {border} for {height} x {width} px"
        )
    return (border, height - border), (border, width - border)
