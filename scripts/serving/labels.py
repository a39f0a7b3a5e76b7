"""What MONAI Label is given of a segmentation: one small label image, columns first; nothing changes in other runs.

MONAI Label hands a request through the transforms of the configuration and writes `pred` at the end. Its writer
transposes every label, since MONAI's own readers give images columns first; `scripts.io.reader` gives rows first, so
that a label would be answered transposed, with a status of success. For a 2-D label it takes nothing but (W, H), and it
writes the format of the image that was asked for, JPEG included.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from scripts.data.items import file_of
from scripts.io.arrays import as_array

IMAGE_PATH, MODEL = "image_path", "model"  # what MONAI Label adds to an item; no data set of this bundle has either
EXTENSION, DTYPE = "result_extension", "result_dtype"  # what a request may ask for, and its writer obeys
LOSSY = (".jpg", ".jpeg")


class ServedLabeld(MapTransform):
    """Last of the postprocessing: turn results into what MONAI Label writes, where it is MONAI Label that runs.

    A request for a label gives (W, H), whole numbers: the classes, or the numbers of the objects. With two classes the
    classes are made from the objects, so that `min_area`, `threshold` and their like, which a client may set, count for
    them, too. A request of its scoring, which repeats inference with dropout, gives the probabilities, (K, H, W).
    Anything else passes as it is.

    Args:
        keys: the class map, (1, H, W); replaced. The image is turned as well and its metadata say so, since MONAI Label
            stretches a label to the size that it reads there. The key "result" gets the number of objects, which
            MONAI Label returns beside the label.
        instances: give the numbers of the objects in place of the classes: uint8, uint16 from 256 objects on.
        image_key: the image.
        prob_key: probabilities, (K, H, W).
        instances_key: objects numbered from 1, (1, H, W).
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: (call) more objects than 16 bits can number.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        instances: bool = False,
        image_key: Hashable = "image",
        prob_key: Hashable = "prob",
        instances_key: Hashable = "instances",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.instances = instances
        self.image_key = image_key
        self.prob_key = prob_key
        self.instances_key = instances_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Replace the class map, in a copy of `data`."""
        d = dict(data)
        if MODEL not in d and IMAGE_PATH not in d:
            return d
        for key in self.key_iterator(d):
            if MODEL in d:
                d |= self._serve(d, key)
            else:  # its scoring names no model
                d[key] = d[self.prob_key]
        return d

    def _serve(self, d: Mapping[Any, Any], key: Hashable) -> dict[Any, Any]:
        """What of an item changes."""
        instances = as_array(d[self.instances_key])[0]
        label = self._label(as_array(d[key])[0], instances, len(d[self.prob_key]))
        largest = int(label.max(initial=0))
        if largest > np.iinfo(np.uint16).max:
            raise ValueError(
                f"{file_of(d, self.image_key)}: {largest} objects, and a label image numbers at most 65535; "
                "raise min_area, or ask for the classes"
            )
        small = largest <= np.iinfo(np.uint8).max
        image = d[self.image_key].swapaxes(-1, -2)  # (C, H, W) -> (C, W, H)
        image.meta["spatial_shape"] = np.array(image.shape[1:])
        return {
            key: np.ascontiguousarray(label.T.astype(np.uint8 if small else np.uint16)),  # (H, W) -> (W, H)
            self.image_key: image,
            "result": {"objects": int(instances.max(initial=0))},
            **self._how_to_write(d, small),
        }

    def _label(self, classes: np.ndarray, instances: np.ndarray, out_channels: int) -> np.ndarray:
        """What was asked for, of two (H, W); see the class."""
        if self.instances:
            return instances
        return instances > 0 if out_channels == 2 else classes

    @staticmethod
    def _how_to_write(d: Mapping[Any, Any], small: bool) -> dict[str, Any]:
        """What of the request would damage the label: a lossy format, a number type that is too small."""
        changes: dict[str, Any] = {}
        extension = str(d.get(EXTENSION) or Path(str(d.get(IMAGE_PATH, ""))).suffix).lower()
        if extension in LOSSY or (extension == ".bmp" and not small):
            changes[EXTENSION] = ".png"
        if not small and d.get(DTYPE) in ("uint8", "int8"):
            changes[DTYPE] = None
        return changes
