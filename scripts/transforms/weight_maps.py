"""Compute the weight map of the 2015 U-Net (Eq. 2 of arXiv 1505.04597), or the map of the later plugin.

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

d1 and d2 are the distances from pixel x to the nearest and the second nearest cell. The second term is large in thin
background between two cells. The map needs *instances*, cell by cell: in a binary mask touching cells are one
component, and the border between them gets no weight (see `scripts.transforms.instance_labels`).
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

from ..checks import check_choice
from .cell_distances import two_nearest_cells

BORDERS = ("background", "everywhere")
METHODS = ("unet", "plugin", "none")

_NEGLIGIBLE = 1e-6  # smaller border terms are left out, since the map is float32


def weight_map(
    instances: np.ndarray,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_balance: str | Sequence[float] | None = None,
    labels: np.ndarray | None = None,
    border: str = "background",
) -> np.ndarray:
    """Compute the weight map of Eq. 2.

    Args:
        instances: integer (H, W). 0 = background, each value above 0 one cell, below 0 = not annotated.
        w0: height of the border term. The paper uses 10.
        sigma: width of the border term in pixels. The paper uses about 5.
        class_balance: w_c. None: 1 everywhere. "per_image": see `balance_classes` (ours, the paper gives no formula).
            A sequence: one value per class, by class number.
        labels: integer (H, W), class of each pixel for w_c, below 0 = not annotated. None: 1 on cells, else 0.
        border: where the border term is added, and what distances are measured to.
            "background": on background pixels, to the nearest pixel of a cell. The smallest distance is 1.
            "everywhere": on all pixels, to the nearest pixel of a cell's outline. The outline is the cell's own pixels
            with a pixel outside the cell among their 4 neighbours. The image edge is no outline.

    Returns:
        float32 (H, W). With fewer than two cells the border term is 0. Pixels that are not annotated weigh 0. Exact to
        1e-5: border terms below 1e-6 are left out (d1 + d2 > 5.7 sigma for w0 = 10).

    Raises:
        TypeError: `instances` or `labels` are not integers.
        ValueError: wrong shape, `w0` or `sigma` out of range, an unknown option, or a class without a weight.

    Example:
        >>> weight_map(np.array([[1, 0, 0, 0, 2]])).round(2)
        array([[1.  , 8.26, 8.26, 8.26, 1.  ]], dtype=float32)
    """
    _check_integers(instances, "instances")
    check_choice("border", border, BORDERS)
    if labels is None:
        labels = np.sign(instances)
    _check_integers(labels, "labels", instances.shape)
    not_annotated = (instances < 0) | (labels < 0)
    weight = balance_classes(np.where(not_annotated, -1, labels), class_balance)
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
    """Compute the map of the same group's later Fiji plugin. Background near cells weighs more than background far off.

        on cells:       w = 1
        on background:  w = v_bal + (1 - v_bal) * exp(-d1^2 / (2 sigma1^2))
                            + border_factor * exp(-(d1 + d2)^2 / (2 sigma2^2))

    Falk et al. 2019, doi 10.1038/s41592-018-0261-2. Formula and defaults are those of the public source
    (lmb-freiburg/Unet-Segmentation: `convertAnnotationsToLabelsAndWeights`, and the defaults of `ModelDefinition`).
    The plugin adds up the distance terms class by class. Here all cells count as one class.

    Args:
        instances: integer (H, W), as for `weight_map`.
        v_bal: weight of background far from any cell.
        sigma1: range of a cell's neighbourhood in pixels.
        border_factor: height of the border term, lambda in the paper.
        sigma2: width of the border term in pixels.

    Returns:
        float32 (H, W), 0 where not annotated.

    Example:
        >>> plugin_weight_map(np.array([[1, 0, 0, 0, 0]]), sigma1=2.0).round(2)
        array([[1.  , 0.89, 0.65, 0.39, 0.22]], dtype=float32)
    """
    _check_integers(instances, "instances")
    if not sigma1 > 0:
        raise ValueError(f"sigma1 must be above 0 px, got {sigma1}")
    cells = instances > 0
    nearest = distance_transform_edt(~cells) if cells.any() else np.full(instances.shape, np.inf)
    weight = (v_bal + (1 - v_bal) * np.exp(-np.square(nearest) / (2 * sigma1**2))).astype(np.float32)
    weight[cells] = 1
    _add_border_term(weight, instances, border_factor, sigma2, everywhere=False)
    weight[instances < 0] = 0
    return weight


def balance_classes(labels: np.ndarray, class_balance: str | Sequence[float] | None = "per_image") -> np.ndarray:
    """Compute w_c of Eq. 2 for each pixel.

    "per_image" is ours, because the paper says only that w_c balances the class frequencies: w_c = N / (K * N_c) with
    N_c pixels of class c, N annotated pixels, and K classes present in the image. Each class has the same total weight,
    and the mean over the annotated pixels is 1.

    Args:
        labels: integer (H, W), classes from 0. Below 0 = not annotated.
        class_balance: None (1 everywhere), "per_image", or a weight for each class.

    Returns:
        float32 (H, W), 0 where not annotated.

    Raises:
        ValueError: an unknown option, a weight below 0, or a class without a weight.

    Example:
        >>> balance_classes(np.array([[0, 0, 0, 1]])).round(2)
        array([[0.67, 0.67, 0.67, 2.  ]], dtype=float32)
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
                f"class_balance has {len(weights)} weights, but class {values.max()} occurs. Add a weight."
            )
    balanced = np.zeros(labels.shape, dtype=np.float32)
    balanced[annotated] = weights[values]
    return balanced


def _add_border_term(weight: np.ndarray, instances: np.ndarray, height: float, sigma: float, everywhere: bool) -> None:
    """Add height * exp(-(d1 + d2)^2 / (2 sigma^2)) to `weight`, in place, unless negligible."""
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
    near = np.isfinite(total)
    weight[near] += height * np.exp(-np.square(total[near], dtype=np.float64) / (2 * sigma**2))


def _check_integers(array: np.ndarray, name: str, shape: tuple[int, ...] | None = None) -> None:
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an integer array, got {array.dtype}. Masks need `instances_from_mask` first.")
    if array.ndim != 2:
        raise ValueError(f"{name} must be (height, width), got shape {array.shape}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have the shape of the instances, {shape}, got {array.shape}")


class WeightMapd(MapTransform):
    """Add the weight map of an image, computed from the instances and classes of `InstanceLabelsd`.

    The transform is not random, so `CacheDataset` computes the map once for each image. Placed after the deformation,
    it computes the map of each tile from the deformed instances. Pixels that are not annotated (below 0 in label or
    instances) get weight 0. Their label stays below 0, because a later deformation may interpolate weight into them.

    Args:
        keys: where the map is written, float32 (1, H, W), with the metadata of the label.
        instances_key: instances (1, H, W), 0 = background, below 0 = not annotated.
        label_key: classes (1, H, W), below 0 = not annotated.
        method: "unet": `weight_map`. "plugin": `plugin_weight_map`. "none": 1 wherever annotated.
        w0, sigma, class_balance, border: of "unet", as in `weight_map`, but classes are balanced by default.
        v_bal, sigma1, border_factor, sigma2: of "plugin", as in `plugin_weight_map`.

    Raises:
        ValueError: an unknown `method` or `border` at construction, and as the functions at the call.
        KeyError: label or instances are missing.

    Example:
        >>> item = {"label": torch.tensor([[[1, 0, 1]]]), "instances": torch.tensor([[[1, 0, 2]]])}
        >>> WeightMapd(class_balance=None)(item)["weight"]
        tensor([[[ 1.0000, 10.2312,  1.0000]]])
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
        instances, label = _plane(item, self.instances_key), _plane(item, self.label_key)
        if self.method == "unet":
            weight = self.unet(instances, labels=label)
        elif self.method == "plugin":
            weight = np.where(label < 0, np.float32(0), self.plugin(instances))
        else:
            weight = ((label >= 0) & (instances >= 0)).astype(np.float32)
        for key in self.keys:
            item[key] = convert_to_dst_type(weight[None], item[self.label_key], dtype=torch.float32)[0]
        return item


def _plane(item: Mapping[Hashable, torch.Tensor], key: str) -> np.ndarray:
    """Get an entry (1, H, W) as int32 (H, W)."""
    if key not in item:
        raise KeyError(f"no {key!r} in the item, only {sorted(map(str, item))}. Put InstanceLabelsd before WeightMapd.")
    plane = convert_to_numpy(item[key])
    if plane.ndim != 3 or len(plane) != 1:
        raise ValueError(f"{key!r} must have shape (1, height, width), got {plane.shape}")
    return np.rint(plane[0]).astype(np.int32)
