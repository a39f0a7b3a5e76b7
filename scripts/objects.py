"""From scores to objects: threshold, connected components, and a table of what each object measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, ensure_tuple_rep
from skimage.measure import label as connected_components
from skimage.measure import regionprops_table

from scripts.engine_items import as_array

# column of the table -> property of skimage.measure.regionprops, and the power of a length that it is (0: none)
_COLUMNS = {
    "label": ("label", 0),
    "area": ("area", 2),
    "centroid_y": ("centroid-0", 1),
    "centroid_x": ("centroid-1", 1),
    "bbox_top": ("bbox-0", 0),
    "bbox_left": ("bbox-1", 0),
    "bbox_bottom": ("bbox-2", 0),
    "bbox_right": ("bbox-3", 0),
    "equivalent_diameter": ("equivalent_diameter_area", 1),
    "perimeter": ("perimeter", 1),
    "major_axis": ("axis_major_length", 1),
    "minor_axis": ("axis_minor_length", 1),
    "eccentricity": ("eccentricity", 0),
}
_UNITS = {"um": "um", "µm": "um", "μm": "um", "micron": "um", "micrometer": "um", "micrometre": "um"}


def instances_from_scores(
    scores: np.ndarray, threshold: float = 0.5, min_area: int = 0, connectivity: int = 1, fill_holes: int = 0
) -> np.ndarray:
    """Number the objects of a probability or class map.

    Args:
        scores: (H, W); floating point: the probability of being an object; integer or boolean: a class map, in which
            every class but 0 is an object and different classes never join.
        threshold: a pixel is foreground where its probability is greater; 0.5 gives the likelier of two classes.
        min_area: objects of fewer pixels are dropped.
        connectivity: 1: pixels join over edges, 2: over corners too.
        fill_holes: background enclosed by one object is filled up to this many pixels a hole. The limit keeps a cell
            inside another from being swallowed together with the membrane between them.

    Returns:
        int32 (H, W): 0 is background, 1 .. n are the objects.

    Raises:
        ValueError: `scores` is not two-dimensional, or `connectivity` is neither 1 nor 2.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be one plane (H, W), got the shape {scores.shape}; take one channel of it")
    if connectivity not in (1, 2):
        raise ValueError(f"connectivity must be 1 (edges) or 2 (edges and corners), got {connectivity}")
    is_probability = np.issubdtype(scores.dtype, np.floating)
    classes = (scores > threshold if is_probability else scores).astype(np.int32)
    if fill_holes > 0:
        classes = _fill_holes(classes, fill_holes, connectivity)
    instances = connected_components(classes, background=0, connectivity=connectivity)
    large = np.bincount(instances.ravel()) >= min_area
    large[0] = False  # the background is no object
    return np.where(large, np.cumsum(large), 0).astype(np.int32)[instances]


def object_table(
    instances: np.ndarray,
    image: np.ndarray | None = None,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
) -> dict[str, np.ndarray]:
    """Measure every object, by scikit-image's `regionprops_table`.

    Args:
        instances: integer (H, W), 0 = background.
        image: (H, W) or (C, H, W): adds the mean intensity, of each channel where there are several.
        spacing: height and width of a pixel; adds areas and lengths in units beside those in pixels. The perimeter is
            only known for square pixels.
        unit: what `spacing` is given in, e.g. "um" or "nm": the ending of those columns; "units" if not known.

    Returns:
        Columns of equal length, a row per object: `label`, `area_px`, `centroid_y_px`, `centroid_x_px`, `bbox_top`,
        `bbox_left`, `bbox_bottom`, `bbox_right` (end not included), `equivalent_diameter_px`, `perimeter_px`,
        `major_axis_px`, `minor_axis_px`, `eccentricity` (of the shape in pixels); with spacing `area_um2`,
        `centroid_y_um`, ...; with an image `mean_intensity` or `mean_intensity_0`, ... Without an object the columns
        have length 0.

    Raises:
        ValueError: the shapes do not fit, or `spacing` is not two positive numbers.
    """
    if instances.ndim != 2:
        raise ValueError(f"instances must be one plane (H, W), got the shape {instances.shape}")
    if image is not None and (image.ndim not in (2, 3) or image.shape[-2:] != instances.shape):
        raise ValueError(f"the image has the shape {image.shape}, the instances {instances.shape}")
    table = _measure(instances, (1.0, 1.0), ending="px")
    if spacing is not None:
        height, width = (float(s) for s in spacing)
        if not (height > 0 and width > 0):
            raise ValueError(f"spacing must be two positive numbers (height, width of a pixel), got {spacing}")
        in_units = _measure(instances, (height, width), ending=_UNITS.get(unit or "units", unit or "units"))
        table |= {name: column for name, column in in_units.items() if name not in table}
    if image is not None:
        table |= _intensities(instances, image)
    return table


class InstancesFromScoresd(MapTransform):
    """Dictionary version of `instances_from_scores`, for a list of post-processing transforms.

    Args:
        keys: of probabilities (K, H, W), of which `channel` is taken, or of a single channel (1, H, W) of probabilities
            or classes.
        output_keys: where the instances, int32 (1, H, W), are written.
        channel: the class whose objects are wanted, by default 1 (cell).
        threshold: as in `instances_from_scores`.
        min_area: as in `instances_from_scores`.
        connectivity: as in `instances_from_scores`.
        fill_holes: as in `instances_from_scores`.
        allow_missing_keys: do not raise where a key is missing.
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
        }

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Add the instances of every key."""
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            scores = d[key]
            plane = scores[self.channel if scores.shape[0] > 1 else 0]
            instances = instances_from_scores(as_array(plane), **self.options)[None]
            d[output_key] = convert_to_dst_type(instances, scores, dtype=np.int32)[0]
        return d


def _fill_holes(classes: np.ndarray, largest: int, connectivity: int) -> np.ndarray:
    """Fill the holes of up to `largest` pixels in the objects of every class; other objects in a hole stay."""
    filled = classes.copy()
    for c in np.unique(classes[classes != 0]):
        # where the object joins over edges only, its outside joins over corners too, and the other way round
        outside = connected_components(classes != c, background=0, connectivity=3 - connectivity)
        is_hole = np.bincount(outside.ravel()) <= largest
        is_hole[0] = False  # the object itself
        rim = np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
        is_hole[rim] = False  # open to the rim: not enclosed
        filled[is_hole[outside] & (classes == 0)] = c
    return filled


def _measure(instances: np.ndarray, spacing: tuple[float, float], ending: str) -> dict[str, np.ndarray]:
    """The columns of `object_table` in one unit of length."""
    square = spacing[0] == spacing[1]
    wanted = {column: p for column, p in _COLUMNS.items() if square or column != "perimeter"}
    properties = tuple(dict.fromkeys(name.split("-")[0] for name, _ in wanted.values()))
    found = regionprops_table(instances, properties=properties, spacing=spacing)
    ends = {0: "", 1: f"_{ending}", 2: f"_{ending}" if ending == "px" else f"_{ending}2"}
    return {column + ends[power]: found[name] for column, (name, power) in wanted.items()}


def _intensities(instances: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Mean intensity of the objects, a column for each channel."""
    channels = image[None] if image.ndim == 2 else image
    means = [regionprops_table(instances, c, properties=("intensity_mean",))["intensity_mean"] for c in channels]
    return {"mean_intensity" + (f"_{i}" if len(means) > 1 else ""): mean for i, mean in enumerate(means)}
