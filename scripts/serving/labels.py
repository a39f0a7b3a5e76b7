"""Answer requests of MONAI Label with a label image. Without MONAI Label nothing changes.

MONAI Label passes a request through the transforms of the configuration and writes `pred` at the end. The writer of
MONAI Label

- transposes labels, since MONAI's own readers give columns first. `scripts.io.reader` gives rows first: an untreated
  label would arrive transposed, with the status "success";
- accepts 2-D labels only as (W, H);
- writes the format of the requested image, even JPEG.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..data.items import file_of
from ..io.arrays import as_array

IMAGE_PATH, MODEL = "image_path", "model"  # entries added by MONAI Label; no data set of this bundle has them
EXTENSION, DTYPE = "result_extension", "result_dtype"  # a request may set format and dtype for the writer
LOSSY = (".jpg", ".jpeg")


class ServedLabeld(MapTransform):
    """Replace the class map by the label for MONAI Label's writer. Place it last in the postprocessing.

    The new content of the key depends on the caller:

        a user requests a label          classes or IDs of the objects (W, H)
        MONAI Label scores an image      probabilities (K, H, W)
        inference without MONAI Label    the class map, unchanged

    To score an image, MONAI Label repeats inference with random dropout. The more the probabilities differ, the less
    certain is the network.

    With two classes, the classes are made from the objects. The client's `min_area`, `threshold`, ... then change the
    classes, too.

    For a request, the transform also transposes "image" and sets "spatial_shape", since MONAI Label stretches labels to
    "spatial_shape". "result" becomes the number of objects. MONAI Label returns "result" with the label.

    Args:
        keys: the class map (1, H, W), replaced by the label. The item also has "image", "prob" (K, H, W) and
            "instances" (1, H, W).
        instances: answer with IDs of objects: uint8, from 256 objects on uint16.
        allow_missing_keys: as in MONAI.

    Raises:
        ValueError: (call) more than 65535 objects. The message names the file.

    Example:
        >>> item = {"image": torch.zeros(1, 4, 6)}  # inference without MONAI Label
        >>> ServedLabeld("pred")(item) == item
        True
    """

    def __init__(
        self, keys: KeysCollection = "pred", instances: bool = False, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.instances = instances

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Replace the class map in a copy of `data`."""
        d = dict(data)
        if MODEL not in d and IMAGE_PATH not in d:
            return d
        for key in self.key_iterator(d):
            if MODEL in d:
                d |= self._serve(d, key)
            else:  # scoring sets no model
                d[key] = d["prob"]
        return d

    def _serve(self, d: Mapping[Any, Any], key: Hashable) -> dict[Any, Any]:
        """The changed entries of an item."""
        instances, label = as_array(d["instances"])[0], as_array(d[key])[0]
        if self.instances:
            label = instances
        elif len(d["prob"]) == 2:
            label = instances > 0
        largest = int(label.max(initial=0))
        if largest > np.iinfo(np.uint16).max:
            raise ValueError(
                f"{file_of(d, 'image')}: {largest} objects, but a label image holds at most 65535. "
                "Raise min_area, or ask for the classes"
            )
        small = largest <= np.iinfo(np.uint8).max
        image = d["image"].swapaxes(-1, -2)  # (C, H, W) -> (C, W, H)
        image.meta["spatial_shape"] = np.array(image.shape[1:])
        changes = {
            key: np.ascontiguousarray(label.T.astype(np.uint8 if small else np.uint16)),  # (H, W) -> (W, H)
            "image": image,
            "result": {"objects": int(instances.max(initial=0))},
        }
        # some settings would damage the label: a lossy format, too small a dtype
        extension = str(d.get(EXTENSION) or Path(str(d.get(IMAGE_PATH, ""))).suffix).lower()
        if extension in LOSSY or (extension == ".bmp" and not small):
            changes[EXTENSION] = ".png"
        if not small and d.get(DTYPE) in ("uint8", "int8"):
            changes[DTYPE] = None
        return changes
