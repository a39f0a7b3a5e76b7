"""The weight map of the 2015 U-Net (Eq. 2 of arXiv 1505.04597), the later plugin's map, and their dictionary transform.

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

d1 and d2 are the distances from pixel x to the nearest and the second nearest cell, so the second term is large in the
thin background between two cells. It needs *instances*, cell by cell: in a binary mask touching cells are one
component, and the border between them gets no weight at all (see `scripts.transforms.instance_labels`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

from scripts.checks import check_choice
from scripts.transforms.cell_distances import two_nearest_cells

BORDERS = ("background", "everywhere")
METHODS = ("unet", "plugin", "none")

_NEGLIGIBLE = 1e-6  # a border term below this is left out; the map is float32 anyway


def weight_map(
    instances: np.ndarray,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_balance: str | Sequence[float] | None = None,
    labels: np.ndarray | None = None,
    border: str = "background",
) -> np.ndarray:
    """Eq. 2 of the paper.

    Args:
        instances: integer (H, W); 0 = background, each value above 0 one cell, below 0 = not annotated.
        w0: height of the border term; the paper's is 10.
        sigma: width of the border term in pixels; the paper's is about 5.
        class_balance: w_c. None: 1 everywhere. "per_image": see `balance_classes` (ours; the paper gives no formula).
            A sequence: one value per class, by class number.
        labels: integer (H, W), class of each pixel for w_c, below 0 = not annotated. By default 1 on cells, else 0.
        border: where the border term is added, and what the distances are measured to.
            "background": on background pixels; to the nearest pixel of a cell. So 1 is the smallest distance.
            "everywhere": on all pixels; to the nearest pixel of a cell's outline, which are the cell's own pixels that
            have a pixel outside this cell among their 4 neighbours (the edge of the image is no outline).

    Returns:
        float32 (H, W). The border term is 0 with fewer than two cells. Pixels that are not annotated weigh 0. Exact to
        1e-5: cells so far away that their term is below 1e-6 are left out (d1 + d2 > 5.7 sigma for w0 = 10).

    Raises:
        TypeError: `instances` or `labels` are no integers.
        ValueError: wrong shape, `w0` or `sigma` out of range, an unknown option, or a class without a weight.
    """
    instances = _integers(instances, "instances")
    check_choice("border", border, BORDERS)
    classes = np.sign(instances) if labels is None else _integers(labels, "labels", instances.shape)
    not_annotated = (instances < 0) | (classes < 0)
    if labels is not None:
        classes = np.where(not_annotated, -1, classes)
    weight = balance_classes(classes, class_balance)
    _add_border_term(weight, instances, w0, sigma, everywhere=border == "everywhere")
    weight[not_annotated] = 0
    return weight


def plugin_weight_map(
    instances: np.ndarray,
    v_bal: float = 0.1,
    sigma1: float = 10.0,
    border_factor: float = 50.0,
    sigma2: float = 6.0,
) -> np.ndarray:
    """The map of the same group's later Fiji plugin, which favours background near cells over background far away.

        on cells:       w = 1
        on background:  w = v_bal + (1 - v_bal) * exp(-d1^2 / (2 sigma1^2))
                            + border_factor * exp(-(d1 + d2)^2 / (2 sigma2^2))

    Falk et al. 2019, doi 10.1038/s41592-018-0261-2; formula and defaults as in its public source
    (lmb-freiburg/Unet-Segmentation: `convertAnnotationsToLabelsAndWeights`, and the defaults of `ModelDefinition`).
    There the terms of d1 and d2 are added up class by class; here all cells count alike, the same if all are one class.

    Args:
        instances: integer (H, W) as for `weight_map`.
        v_bal: weight of background far from any cell.
        sigma1: in pixels, how far the neighbourhood of a cell reaches.
        border_factor: height of the border term, lambda in the paper.
        sigma2: width of the border term in pixels.

    Returns:
        float32 (H, W), 0 where not annotated.
    """
    instances = _integers(instances, "instances")
    if not sigma1 > 0:
        raise ValueError(f"sigma1 must be above 0 px, got {sigma1}")
    cells = instances > 0
    if cells.any():
        nearest = distance_transform_edt(~cells)
        weight = (v_bal + (1 - v_bal) * np.exp(-np.square(nearest) / (2 * sigma1**2))).astype(np.float32)
    else:
        weight = np.full(instances.shape, v_bal, dtype=np.float32)
    weight[cells] = 1
    _add_border_term(weight, instances, border_factor, sigma2, everywhere=False)
    weight[instances < 0] = 0
    return weight


def balance_classes(labels: np.ndarray, class_balance: str | Sequence[float] | None = "per_image") -> np.ndarray:
    """w_c of Eq. 2 for each pixel.

    "per_image" is ours, since the paper says only that w_c balances the class frequencies: w_c = N / (K * N_c), with
    N_c pixels of class c, N annotated pixels, and K classes that occur in this image. So all classes weigh the same in
    sum, the mean over the annotated pixels is 1, and a class that does not occur plays no part.

    Args:
        labels: integer (H, W), classes from 0; below 0 = not annotated.
        class_balance: None (1 everywhere), "per_image", or a weight for each class.

    Returns:
        float32 (H, W), 0 where not annotated.
    """
    annotated = labels >= 0
    if class_balance is None:
        return annotated.astype(np.float32)
    values = labels[annotated].astype(np.int64)
    if isinstance(class_balance, str):
        if class_balance != "per_image":
            raise ValueError(f'class_balance must be None, "per_image" or one weight per class, got {class_balance!r}')
        counts = np.bincount(values)
        weights = len(values) / (np.count_nonzero(counts) * np.maximum(counts, 1.0))
    else:
        weights = np.asarray(class_balance, dtype=np.float64)
        if weights.ndim != 1 or not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(f"class_balance must be weights of at least 0, one per class, got {class_balance}")
        if values.max(initial=0) >= len(weights):
            raise ValueError(
                f"class_balance has {len(weights)} weights, but class {values.max()} occurs; add its weight"
            )
    balanced = np.zeros(labels.shape, dtype=np.float32)
    balanced[annotated] = weights[values]
    return balanced


def _add_border_term(weight: np.ndarray, instances: np.ndarray, height: float, sigma: float, everywhere: bool) -> None:
    """Add height * exp(-(d1 + d2)^2 / (2 sigma^2)) to `weight`, in place, wherever it is not negligible."""
    if not (math.isfinite(height) and height >= 0):
        raise ValueError(f"the border term's height must be 0 or above, got {height}")
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"the border term's sigma must be above 0 px, got {sigma}")
    if height <= _NEGLIGIBLE:
        return
    cutoff = sigma * math.sqrt(2 * math.log(height / _NEGLIGIBLE))  # where the term falls to _NEGLIGIBLE
    if everywhere:
        outlines = find_boundaries(instances, connectivity=1, mode="inner")
        total = two_nearest_cells(np.where(outlines, instances, 0), cutoff)
    else:
        total = two_nearest_cells(instances, cutoff, where=instances == 0)
    near = np.flatnonzero(np.isfinite(total))
    weight.ravel()[near] += height * np.exp(-np.square(total.ravel()[near], dtype=np.float64) / (2 * sigma**2))


def _integers(array: np.ndarray, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Check for a 2-D integer array, of the given shape if any; rows first in memory, so that `ravel` gives views."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an integer array, got {array.dtype}; a mask needs `instances_from_mask` first")
    if array.ndim != 2:
        raise ValueError(f"{name} must be (height, width), got shape {array.shape}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have the shape of the instances, {shape}, got {array.shape}")
    return array


class WeightMapd(MapTransform):
    """Write the weight map of an image, computed from the instances and classes that `InstanceLabelsd` left.

    Not random, so that `CacheDataset` computes it once per image; it may equally stand after the deformation, where it
    is computed anew each time from the warped instances. Pixels that are not annotated (below 0 in label or instances)
    get weight 0; the label stays below 0, so that a deformation cannot lend them the weight of their neighbours.

    Args:
        keys: where to write the map: float32 (1, H, W), with the metadata of the label.
        instances_key: instances (1, H, W), 0 = background, below 0 = not annotated.
        label_key: classes (1, H, W), below 0 = not annotated.
        method: "unet": `weight_map`. "plugin": `plugin_weight_map`. "none": 1 wherever annotated.
        w0, sigma, class_balance, border: of "unet", as in `weight_map`; but by default the classes are balanced.
        v_bal, sigma1, border_factor, sigma2: of "plugin", as in `plugin_weight_map`.

    Raises:
        ValueError: at construction, for an unknown `method` or `border`; otherwise as the functions do.
        KeyError: label or instances are missing.
    """

    def __init__(
        self,
        keys: KeysCollection = "weight",
        instances_key: str = "instances",
        label_key: str = "label",
        method: str = "unet",
        w0: float = 10.0,
        sigma: float = 5.0,
        class_balance: str | Sequence[float] | None = "per_image",
        border: str = "background",
        v_bal: float = 0.1,
        sigma1: float = 10.0,
        border_factor: float = 50.0,
        sigma2: float = 6.0,
    ) -> None:
        super().__init__(keys)
        check_choice("method", method, METHODS)
        check_choice("border", border, BORDERS)
        self.instances_key = instances_key
        self.label_key = label_key
        self.method = method
        self.unet = partial(weight_map, w0=w0, sigma=sigma, class_balance=class_balance, border=border)
        self.plugin = partial(plugin_weight_map, v_bal=v_bal, sigma1=sigma1, border_factor=border_factor, sigma2=sigma2)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Add the weight map to a copy of `data`."""
        item = dict(data)
        weight = self._weight(self._plane(item, self.instances_key), self._plane(item, self.label_key))
        for key in self.keys:
            item[key] = convert_to_dst_type(weight[None], item[self.label_key], dtype=torch.float32)[0]
        return item

    def _weight(self, instances: np.ndarray, label: np.ndarray) -> np.ndarray:
        if self.method == "unet":
            return self.unet(instances, labels=label)
        if self.method == "plugin":
            return np.where(label < 0, np.float32(0), self.plugin(instances))
        return ((label >= 0) & (instances >= 0)).astype(np.float32)

    def _plane(self, item: Mapping[Hashable, torch.Tensor], key: str) -> np.ndarray:
        if key not in item:
            raise KeyError(
                f"no {key!r} in the item, only {sorted(map(str, item))}; put InstanceLabelsd before WeightMapd"
            )
        plane = convert_to_numpy(item[key])
        if plane.ndim != 3 or len(plane) != 1:
            raise ValueError(f"{key!r} must have shape (1, height, width), got {plane.shape}")
        return np.rint(plane[0]).astype(np.int32)
