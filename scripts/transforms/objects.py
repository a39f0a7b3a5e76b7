"""From scores to objects: threshold, connected components, and what makes whole, single objects of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, ensure_tuple_rep
from skimage.measure import label as connected_components

from scripts.data.items import file_of
from scripts.io.arrays import as_array
from scripts.transforms.separation import close_gaps, split_at_necks

_ROUNDING = 1e-3  # of probabilities in half precision or blended from several windows


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
    """Number the objects of a probability or class map.

    In this order: threshold, fill holes, connected components, split at necks, drop small objects, close gaps, drop
    objects outside the field of interest.

    Args:
        scores: (H, W); floating point: the probability of being an object, 0 .. 1; integer or boolean: a class map, in
            which every class but 0 is an object and different classes never join.
        threshold: a pixel is foreground where its probability is greater; 0.5 gives the likelier of two classes.
        min_area: objects of fewer pixels are dropped, before gaps are closed.
        connectivity: 1: pixels join over edges, 2: over corners too.
        fill_holes: background enclosed by one object is filled up to this many pixels a hole. The limit keeps a cell
            inside another from being swallowed together with the membrane between them.
        split: an object is cut at a neck if half of the neck's width is less than the radius of the parts it joins by
            more than this many pixels, see `scripts.transforms.separation.split_at_necks`; 0: never.
        gap: background up to this many pixels wide between two objects is given back to them, see
            `scripts.transforms.separation.close_gaps`; 0: none.
        field_border: objects that lie wholly within this many pixels of the image's edge are dropped: outside the
            field of interest of the Cell Tracking Challenge, whose reference leaves them out (50 pixels for
            DIC-C2DH-HeLa and PhC-C2DH-U373); 0: none.

    Returns:
        int32 (H, W): 0 is background, 1 .. n are the objects.

    Raises:
        ValueError: `scores` is not two-dimensional, or floating point and above 1 (scores of a network, or a class map
            as floats, whose classes would join); `connectivity` is neither 1 nor 2, a length is negative, or the border
            leaves nothing of the image.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be one plane (H, W), got the shape {scores.shape}; take one channel of it")
    if connectivity not in (1, 2):
        raise ValueError(f"connectivity must be 1 (edges) or 2 (edges and corners), got {connectivity}")
    is_probability = np.issubdtype(scores.dtype, np.floating)
    if is_probability and scores.max(initial=0) > 1 + _ROUNDING:
        raise ValueError(
            f"expected probabilities 0 .. 1, got up to {scores.max():g}; give a class map as integers (AsDiscreted: "
            "dtype), network scores after ProbabilitiesFromScoresd"
        )
    classes = scores > threshold if is_probability else scores  # bool: twice as fast to label as integers
    classes = classes if classes.dtype == bool else classes.astype(np.int32)
    if fill_holes > 0:
        classes = _fill_holes(classes, fill_holes, connectivity)
    instances = connected_components(classes, background=0, connectivity=connectivity).astype(np.int32, copy=False)
    instances = split_at_necks(instances, split)
    if min_area > 1:
        instances = _keep(instances, np.bincount(instances.ravel()) >= min_area)
    instances = close_gaps(instances, gap)
    return instances if field_border == 0 else _keep(instances, _in_field(instances, field_border))


class InstancesFromScoresd(MapTransform):
    """Dictionary version of `instances_from_scores`, for a list of post-processing transforms.

    Args:
        keys: of probabilities (K, H, W), of which `channel` is taken, or of a single channel (1, H, W) of probabilities
            or of classes, these as integers (MONAI's `AsDiscreted(argmax=True)` gives floats unless told its `dtype`).
        output_keys: where the instances, int32 (1, H, W), are written.
        channel: the class whose objects are wanted, by default 1 (cell).
        threshold: as in `instances_from_scores`.
        min_area: as in `instances_from_scores`.
        connectivity: as in `instances_from_scores`.
        fill_holes: as in `instances_from_scores`.
        split: as in `instances_from_scores`.
        gap: as in `instances_from_scores`.
        field_border: as in `instances_from_scores`.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: at the call, as `instances_from_scores`; the message names the file, of the scores or of "image".
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
        self.options: dict[str, Any] = {
            "threshold": threshold,
            "min_area": min_area,
            "connectivity": connectivity,
            "fill_holes": fill_holes,
            "split": split,
            "gap": gap,
            "field_border": field_border,
        }

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Add the instances of every key."""
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            scores = d[key]
            plane = scores[self.channel if scores.shape[0] > 1 else 0]
            try:
                instances = instances_from_scores(as_array(plane), **self.options)
            except ValueError as error:
                raise ValueError(f"{file_of(d, key, 'image')}: {error}") from error
            d[output_key] = convert_to_dst_type(instances[None], scores, dtype=np.int32)[0]
        return d


def _fill_holes(classes: np.ndarray, largest: int, connectivity: int) -> np.ndarray:
    """Fill the holes of up to `largest` pixels in the objects of every class; other objects in a hole stay.

    Where holes of several classes are nested, background belongs to the innermost, which is the smallest.
    """
    filled = classes.copy()
    smallest = np.full(classes.shape, largest + 1)  # pixels of the smallest hole so far around each pixel
    for c in np.unique(classes[classes != 0]):
        # where the object joins over edges only, its outside joins over corners too, and the other way round
        outside = connected_components(classes != c, background=0, connectivity=3 - connectivity)
        areas = np.bincount(outside.ravel())
        areas[0] = largest + 1  # the object itself
        rim = np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
        areas[rim] = largest + 1  # open to the rim: not enclosed
        area = areas[outside]
        filled[(area < smallest) & (classes == 0)] = c
        np.minimum(smallest, area, out=smallest)
    return filled


def _keep(instances: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Renumber from 1 the objects that are `kept`, bool (1 + objects); the others become background."""
    kept = kept.copy()
    kept[0] = False  # the background is no object
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[instances]


def _in_field(instances: np.ndarray, border: int) -> np.ndarray:
    """Which objects have a pixel farther than `border` pixels inside the image; bool (1 + objects)."""
    height, width = instances.shape
    if border < 0 or (border > 0 and 2 * border >= min(height, width)):
        raise ValueError(
            f"field_border must be 0 px or more and leave some of the image, got {border} for {height} x {width} px"
        )
    field = instances[border : height - border, border : width - border]
    return np.bincount(field.ravel(), minlength=1 + instances.max(initial=0)) > 0
