"""Convert label images to classes and instances, the input of the weight map (Eq. 2 of arXiv 1505.04597)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy, ensure_tuple
from skimage.measure import label as connected_components

from ..checks import check_choice
from ..data.annotation import NOT_ANNOTATED, mark_border, mark_unannotated
from ..data.items import file_of
from .separation import separation_gap

KINDS = ("binary", "instances", "classes")


def instances_from_mask(mask: np.ndarray, connectivity: int = 1) -> np.ndarray:
    """Number the connected components of a mask or class map.

    Touching cells become ONE instance. If cells touch, use a label image with a number for each cell instead.

    Args:
        mask: bool or integer (H, W). Connected pixels of equal non-zero value are one instance. For a mask with several
            grey values for "cell", give `mask > 0`.
        connectivity: 1 = 4 neighbours: a diagonal line of membrane one pixel wide separates two cells, as in the ISBI
            2012 challenge (doi 10.3389/fnana.2015.00142). 2 = 8 neighbours.

    Returns:
        int32 (H, W), 0 = background, instances 1, 2, ... in the order of their first pixel.

    Raises:
        ValueError: `mask` is not (H, W), or `connectivity` is not 1 or 2.

    Example:
        >>> instances_from_mask(np.array([[1, 1, 0, 1]]))
        array([[1, 1, 0, 2]], dtype=int32)
    """
    if connectivity not in (1, 2):
        raise ValueError(f"connectivity must be 1 (4 neighbours) or 2 (8 neighbours), got {connectivity}")
    if mask.ndim != 2:
        raise ValueError(f"mask must be (height, width), got shape {mask.shape}")
    return connected_components(mask, background=0, connectivity=connectivity).astype(np.int32, copy=False)


class InstanceLabelsd(MapTransform):
    """Convert a label image to a class map (in place) and an instance map (a new key).

    The class map is float32 with whole numbers, so it can be stacked with the weight map. Instances and reference are
    int32. All are (1, H, W), with the metadata of the label.

    Args:
        keys: label images, (1, H, W), any integer or float dtype with whole numbers.
        instances_key: where the instances are written, one name per key.
        kind: meaning of the values in the label image.
            "binary": 0 = class 0, all other values class 1. Instances are connected components.
            "instances": 0 = background, other values are objects. Objects are class 1, after the separation gap.
            "classes": classes 0 .. out_channels - 1 (after `class_values`). Instances are the connected components of
            each class except 0.
        separation_gap: for "instances": background between touching objects in pixels, see
            `scripts.transforms.separation.separation_gap`. 0: none.
        connectivity: for "binary" and "classes", see `instances_from_mask`.
        out_channels: number of classes of the network. Labels beyond it are refused.
        class_values: for "classes": the classes of the values in the file, as {value: class} or as a list of values by
            class, [0, 255]. None: the values are the classes.
        ignore_value: value in the file for "not annotated". These pixels become -1 in classes and instances. Their
            weight is 0 in `WeightMapd`, and the loss and metrics of this bundle ignore them. None: no such value.
        markers_key: key of the cell markers, (1, H, W) whole numbers, shared by all label keys. Around cells with a
            marker but without a mask, nothing is annotated (-1), see `scripts.data.annotation`. Items without this key
            are allowed. None: no markers.
        field_border: in pixels. Background this near to the image edge is not annotated (-1), see
            `scripts.data.annotation.mark_border`.
        reference_key: where the annotated objects are written, without the gap and with -1 where not annotated, for
            object metrics. One name per key. None: not written.
        allow_missing_keys: skip missing keys.

    Raises:
        ValueError: wrong shape, a value that is no class or object number, or a number from 2^24 in float32, which may
            be rounded. The message names the file and the remedy.

    Example:
        >>> out = InstanceLabelsd(kind="instances")({"label": np.array([[[5, 5, 5, 8, 8]]])})
        >>> out["label"], out["instances"]
        (array([[[1., 1., 1., 0., 1.]]], dtype=float32), array([[[5, 5, 5, 0, 8]]], dtype=int32))
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        instances_key: KeysCollection = "instances",
        kind: str = "binary",
        separation_gap: int = 1,
        connectivity: int = 1,
        out_channels: int = 2,
        class_values: Mapping[int, int] | Sequence[int] | None = None,
        ignore_value: int | None = None,
        markers_key: Hashable | None = None,
        field_border: int = 0,
        reference_key: KeysCollection | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.instances_keys = self._one_per_label("instances_key", ensure_tuple(instances_key))
        none = (None,) * len(self.keys)
        self.reference_keys = self._one_per_label(
            "reference_key", none if reference_key is None else ensure_tuple(reference_key)
        )
        check_choice("kind", kind, KINDS)
        if class_values is not None and kind != "classes":
            raise ValueError(f"values of classes (label_values) need label_kind classes, got {kind}")
        if out_channels < 2:
            raise ValueError(f"out_channels must be at least 2 (background is a class), got {out_channels}")
        self.markers_key = markers_key
        self.field_border = field_border
        self.kind = kind
        self.gap = separation_gap
        self.connectivity = connectivity
        self.out_channels = out_channels
        self.class_of = _class_of(class_values, out_channels)
        self.ignore_value = ignore_value

    def _one_per_label(self, name: str, names: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
        if len(names) != len(self.keys):
            raise ValueError(f"{name} must name one key per label, {self.keys}, got {names}")
        return names

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Replace the label and add the instances, in a copy of `data`."""
        item = dict(data)
        markers = None if item.get(self.markers_key) is None else convert_to_numpy(item[self.markers_key])
        for key, instances_key, reference_key in self.key_iterator(item, self.instances_keys, self.reference_keys):
            source = item[key]
            try:
                classes, objects = self.convert(convert_to_numpy(source), markers)
            except ValueError as error:
                raise ValueError(f"label image {file_of(item, key)}: {error}") from error
            instances = objects
            if self.kind == "instances":
                instances = separation_gap(objects, self.gap)
                classes = np.sign(instances)
            item[key] = convert_to_dst_type(classes[None], source, dtype=torch.float32)[0]
            item[instances_key] = convert_to_dst_type(instances[None], source, dtype=torch.int32)[0]
            if reference_key is not None:
                item[reference_key] = convert_to_dst_type(objects[None], source, dtype=torch.int32)[0]
        return item

    def convert(self, label: np.ndarray, markers: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Convert a label image (1, H, W) to classes and objects, both int32 (H, W), without the separation gap."""
        values = _plane(label)
        if not np.isfinite(values).all():
            raise ValueError("expected whole numbers, got NaN or infinite values")
        ignored = np.zeros(values.shape, dtype=bool) if self.ignore_value is None else values == self.ignore_value
        values[ignored] = 0
        if self.kind == "instances":
            objects = _whole_numbers(values, label.dtype, "object")
            classes = np.sign(objects)
        else:
            classes = (values != 0).astype(np.int32) if self.kind == "binary" else self._to_classes(values, ~ignored)
            objects = instances_from_mask(classes, self.connectivity)
        objects[ignored] = NOT_ANNOTATED
        if markers is not None:
            objects = mark_unannotated(objects, _whole_numbers(_plane(markers), markers.dtype, "marker"))
        objects = mark_border(objects, self.field_border)
        classes[objects < 0] = NOT_ANNOTATED
        return classes, objects

    def _to_classes(self, values: np.ndarray, annotated: np.ndarray) -> np.ndarray:
        unknown = np.setdiff1d(values[annotated], list(self.class_of))
        if len(unknown):
            raise ValueError(_not_classes(unknown, np.unique(values[annotated]), self.class_of, self.out_channels))
        classes = np.zeros(values.shape, dtype=np.int32)
        for value, number in self.class_of.items():
            classes[annotated & (values == value)] = number
        return classes


def _not_classes(unknown: np.ndarray, found: np.ndarray, class_of: Mapping[float, int], classes: int) -> str:
    """Write the message for values that are no classes, with the settings that help."""
    all_found, wrong, expected = (
        ",".join(f"{value:g}" for value in list(values)[:8]) for values in (found, unknown, class_of)
    )
    if len(found) == classes and not (found % 1).any():
        remedy = f'set --label_values "[{all_found}]" if these are the classes in order'
    else:
        remedy = (
            f"name each of {len(found)} classes in --class_names, or give the class of each value as --label_values"
        )
    return (
        f"found the values {all_found}; {wrong} are no classes. Expected {expected}. For classes, {remedy}. For "
        "objects, set --label_kind instances (numbers) or binary (0 and not 0). For pixels without annotation, set "
        "--label_instances#ignore_value"
    )


def _plane(image: np.ndarray) -> np.ndarray:
    """Get the channel of an image (1, H, W) as float64 (H, W), exact up to 2^53."""
    if image.ndim != 3 or len(image) != 1:
        raise ValueError(
            f"expected one channel, (1, height, width), got shape {image.shape}. Put EnsureChannelFirstd before, if "
            "the image is a plain plane. Save colour images as grey values, one per class or object."
        )
    return np.array(image[0], dtype=np.float64)


def _whole_numbers(values: np.ndarray, read_as: np.dtype, of_what: str) -> np.ndarray:
    """Convert float64 `values` to int32, or raise an error unless they are whole numbers of at least 0.

    In `read_as`, the previous number type, numbers from 2^24 on may have been rounded (float32).
    """
    wrong = values[(values < 0) | (values != np.rint(values)) | (values > np.iinfo(np.int32).max)]
    if len(wrong):
        raise ValueError(
            f"{of_what} numbers must be whole, from 0 to 2^31 - 1, got {wrong[0]:g}. Was the image rescaled?"
        )
    if read_as == np.float32 and values.max(initial=0) >= 2**24:
        raise ValueError(
            f"{of_what} numbers from 2^24 on are rounded in float32, the default of LoadImaged, got "
            f"{values.max():.0f}. Renumber the {of_what}s from 1, or set dtype int32 in LoadImaged."
        )
    return values.astype(np.int32)


def _class_of(class_values: Mapping[int, int] | Sequence[int] | None, out_channels: int) -> dict[float, int]:
    """Return {value in the file: class}."""
    if class_values is None:
        class_values = range(out_channels)
    if not isinstance(class_values, Mapping):
        class_values = {value: number for number, value in enumerate(class_values)}
    class_of = {float(value): int(number) for value, number in class_values.items()}
    wrong = sorted({number for number in class_of.values() if not 0 <= number < out_channels})
    if wrong:
        raise ValueError(
            f"label_values leads to the classes {wrong}, but class_names has {out_channels} (0 to {out_channels - 1})"
        )
    return class_of
