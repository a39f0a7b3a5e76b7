"""From a label image as read to classes and instances, which the weight map (Eq. 2 of arXiv 1505.04597) is made of."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy, ensure_tuple
from skimage.measure import label as connected_components

from scripts.checks import check_choice
from scripts.data.annotation import NOT_ANNOTATED, mark_border, mark_unannotated
from scripts.data.items import file_of
from scripts.transforms.separation import separation_gap

KINDS = ("binary", "instances", "classes")


def instances_from_mask(mask: np.ndarray, connectivity: int = 1) -> np.ndarray:
    """Number the connected components of a mask or class map.

    What this cannot do: cells that touch are ONE component, so no border between them can be found. Where cells touch,
    instance labels are needed (and `separation_gap` to part them).

    Args:
        mask: bool or integer (H, W). Pixels of equal non-zero value that are connected make one instance; for a mask
            with several grey values that all mean "cell" pass `mask > 0`.
        connectivity: 1 = 4 neighbours, so that a line of membrane one pixel wide and diagonal parts two cells (as the
            ISBI 2012 challenge counts, doi 10.3389/fnana.2015.00142); 2 = 8 neighbours.

    Returns:
        int32 (H, W), 0 = background, instances 1, 2, ... in the order of their first pixel.
    """
    if connectivity not in (1, 2):
        raise ValueError(f"connectivity must be 1 (4 neighbours) or 2 (8 neighbours), got {connectivity}")
    if mask.ndim != 2:
        raise ValueError(f"mask must be (height, width), got shape {mask.shape}")
    return connected_components(mask, background=0, connectivity=connectivity).astype(np.int32, copy=False)


class InstanceLabelsd(MapTransform):
    """Turn a label image as read into a class map (in place) and an instance map (a new key).

    Args:
        keys: label images, shape (1, H, W), any integer or float dtype with whole numbers.
        instances_key: where to write the instances: one name per key.
        kind: what the values of the label image mean.
            "binary": 0 = class 0, everything else class 1; instances are connected components.
            "instances": 0 = background, other values are objects; class 1 on objects, after the separation gap.
            "classes": values are classes 0 .. out_channels - 1 (after `class_values`); instances are the connected
            components of each class but 0.
        separation_gap: for "instances": background between touching objects in pixels (see the function of that
            name); 0 for none. Of the other kinds nothing is parted: components of one class touch at corners at most.
        connectivity: for "binary" and "classes", see `instances_from_mask`.
        out_channels: number of classes of the network; labels beyond it are refused.
        class_values: for "classes": which value in the file means which class, either {value: class} or the list of
            the classes' values in order, [0, 255]. By default the values are the classes.
        ignore_value: value in the file that means "not annotated"; None if there is none. Those pixels become -1 in
            classes and instances: weight 0 for `WeightMapd`, left out by the loss and the metrics of this bundle.
        markers_key: where to find a marker on every cell, (1, H, W) whole numbers, of those items that have it; around
            cells with a marker but no mask nothing is annotated (-1, as above), see `scripts.data.annotation`. One for
            all keys, since markers belong to the image. None: no markers.
        field_border: pixels; background this near to the image's edge is not annotated (-1, as above), since objects
            wholly in the border were not outlined: the field of interest of the Cell Tracking Challenge.
        reference_key: where to write the objects as annotated, without the gap and with -1 where not annotated: what
            object metrics compare with. One name per key; None: nowhere.
        allow_missing_keys: skip keys that an item lacks.

    Out: the class map, float32 with whole numbers so that it can be stacked with the weight map; the instances and the
    reference, int32. All (1, H, W), with the metadata of the label.

    Raises:
        ValueError: wrong shape, or a value that is no class or no number of an object, or one that float32 may have
            rounded (from 2^24); the message names the file and the remedy.
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
        self.instances_keys = ensure_tuple(instances_key)
        if len(self.instances_keys) != len(self.keys):
            raise ValueError(f"instances_key must name one key per label, {self.keys}, got {self.instances_keys}")
        check_choice("kind", kind, KINDS)
        if class_values is not None and kind != "classes":
            raise ValueError(f'class_values needs kind "classes", got {kind!r}')
        if out_channels < 2:
            raise ValueError(f"out_channels must be at least 2 (background is a class), got {out_channels}")
        self.reference_keys = (None,) * len(self.keys) if reference_key is None else ensure_tuple(reference_key)
        if len(self.reference_keys) != len(self.keys):
            raise ValueError(f"reference_key must name one key per label, {self.keys}, got {self.reference_keys}")
        self.markers_key = markers_key
        self.field_border = field_border
        self.kind = kind
        self.gap = separation_gap
        self.connectivity = connectivity
        self.out_channels = out_channels
        self.class_of = _class_of(class_values, out_channels)
        self.ignore_value = ignore_value

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Replace the label and add the instances, in a copy of `data`."""
        item = dict(data)
        markers = item.get(self.markers_key)
        for key, instances_key, reference_key in self.key_iterator(item, self.instances_keys, self.reference_keys):
            source = item[key]
            try:
                classes, objects = self.convert(
                    convert_to_numpy(source), None if markers is None else convert_to_numpy(markers)
                )
            except ValueError as error:
                raise ValueError(f"label image {file_of(item, key)}: {error}") from error
            parted = objects
            if self.kind == "instances":
                parted = separation_gap(objects, self.gap)
                classes = np.sign(parted)
            item[key] = convert_to_dst_type(classes[None], source, dtype=torch.float32)[0]
            item[instances_key] = convert_to_dst_type(parted[None], source, dtype=torch.int32)[0]
            if reference_key is not None:
                item[reference_key] = convert_to_dst_type(objects[None], source, dtype=torch.int32)[0]
        return item

    def convert(self, label: np.ndarray, markers: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Classes and objects, both int32 (H, W), of a label image (1, H, W); touching objects are not parted."""
        values = _plane(label)
        if not np.isfinite(values).all():
            raise ValueError("expected whole numbers, got NaN or infinite values")
        ignored = np.zeros(values.shape, dtype=bool) if self.ignore_value is None else values == self.ignore_value
        values[ignored] = 0
        if self.kind == "binary":
            classes = (values != 0).astype(np.int32)
            objects = instances_from_mask(classes, self.connectivity)
        elif self.kind == "instances":
            objects = _whole_numbers(values, label.dtype, "object")
            classes = np.sign(objects)
        else:
            classes = self._to_classes(values, ~ignored)
            objects = instances_from_mask(classes, self.connectivity)
        objects[ignored] = NOT_ANNOTATED
        if markers is not None:
            objects = mark_unannotated(objects, _whole_numbers(_plane(markers), markers.dtype, "marker"))
        objects = mark_border(objects, self.field_border)
        classes[objects < 0] = NOT_ANNOTATED
        return classes, objects

    def _to_classes(self, values: np.ndarray, annotated: np.ndarray) -> np.ndarray:
        classes = np.zeros(values.shape, dtype=np.int32)
        known = ~annotated
        for value, number in self.class_of.items():
            here = annotated & (values == value)
            classes[here] = number
            known |= here
        if not known.all():
            unknown = ", ".join(f"{value:g}" for value in np.unique(values[~known])[:8])
            expected = ", ".join(f"{value:g}" for value in self.class_of)
            raise ValueError(
                f"found the values {unknown}, which are no class; expected {expected}. "
                f"Raise out_channels (now {self.out_channels}), name the classes' values in class_values, set "
                'ignore_value, or choose kind "binary" or "instances"'
            )
        return classes


def _plane(image: np.ndarray) -> np.ndarray:
    """float64 (H, W) of an image (1, H, W); exact where the image's own number type was, up to 2^53."""
    if image.ndim != 3 or len(image) != 1:
        raise ValueError(
            f"expected one channel, (1, height, width), got shape {image.shape}; a plain image needs "
            "EnsureChannelFirstd first, a colour image must be saved as grey values, one per class or object"
        )
    return np.array(image[0], dtype=np.float64)


def _whole_numbers(values: np.ndarray, read_as: np.dtype, of_what: str) -> np.ndarray:
    """int32 from whole numbers of at least 0, or an error that says what else there is.

    Args:
        values: float64.
        read_as: number type that the values had before; two numbers may have become one in it.
        of_what: for the error.
    """
    wrong = values[(values < 0) | (values != np.rint(values)) | (values > np.iinfo(np.int32).max)]
    if len(wrong):
        raise ValueError(
            f"{of_what} numbers must be whole, from 0 to 2^31 - 1, got {wrong[0]:g}; was the image rescaled?"
        )
    if read_as == np.float32 and values.max(initial=0) >= 2**24:
        raise ValueError(
            f"{of_what} numbers from 2^24 on are not told apart in float32, as LoadImaged reads by default, got "
            f"{values.max():.0f}; number the {of_what}s anew from 1, or read them with its dtype int32"
        )
    return values.astype(np.int32)


def _class_of(class_values: Mapping[int, int] | Sequence[int] | None, out_channels: int) -> dict[float, int]:
    """{value in the file: class}."""
    if class_values is None:
        return {float(number): number for number in range(out_channels)}
    if isinstance(class_values, Mapping):
        class_of = {float(value): int(number) for value, number in class_values.items()}
    else:
        class_of = {float(value): number for number, value in enumerate(class_values)}
    wrong = sorted({number for number in class_of.values() if not 0 <= number < out_channels})
    if wrong:
        raise ValueError(f"class_values leads to the classes {wrong}, but out_channels is {out_channels}")
    return class_of
