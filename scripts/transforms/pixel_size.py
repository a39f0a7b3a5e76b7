"""Rescale images to the pixel size of the training, and results back to the size of the image.

A network recognises objects at the scale of its training. `MatchPixelSized` compares pixel sizes before the network,
`RestoreSized` restores the results afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from skimage.segmentation import relabel_sequential
from torch.nn.functional import interpolate

from ..checks import check_choice
from ..data.items import file_of, spacing_of
from ..data.pixel_size import SAME, check_pixel_size
from ..inferers.precision import at_least_single, grey_precision
from ..io.arrays import as_array
from ..io.names import split_address
from ..io.units import micrometres
from .resampling import check_image

logger = logging.getLogger(__name__)

DIFFERENT = 1.2  # larger ratios of pixel sizes give a warning
MOST = 20.0  # larger ratios are refused: the unit in the header is wrong
MOST_PIXELS = 2**28  # 16384 x 16384; scores of two classes take 2 GiB
ORIGINAL = "size_before_rescaling"  # entry of the metadata: (H, W) of the image file
MODES = ("linear", "nearest", "instances")


class MatchPixelSized(MapTransform):
    """Rescale images to the pixel size of the training, or warn if both differ.

    Place after a copy of the original image, and before `NormalizeImaged`: mean, deviation and `flatten` of the
    training belong to the pixels of the training. `RestoreSized` needs the metadata that are added here.

    Height and width are rescaled separately, so that pixels become square. Images within 2 % of the pixel size of the
    training stay as they are. Interpolation is bicubic within the range of each channel, and antialiased for smaller
    results. Metadata still describe the file.

    Args:
        keys: images (C, H, W), with the metadata of `scripts.io.PlaneReader`.
        trained: pixel size of the training in um. None: unknown.
        pixel_size: None: change nothing, but warn if the pixel size of an image differs by more than 20 % in height or
            width. A folder gives a single warning for each pixel size (with worker processes, in each process).
            "auto": rescale, with the pixel size in the image's metadata. A number: rescale, with this height and width
            of a pixel in um for all images. A warning tells if metadata state another pixel size.
        allow_missing_keys: skip missing keys.

    Raises:
        ValueError: at construction: `pixel_size` is given, but `trained` is unknown; or one of both is not a positive
            number. At the call: "auto" and no pixel size in the metadata; a factor above 20; a result above 2^28
            pixels, unless the image is larger; an image that is not (C, H, W). The message names the file.

    Example:
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.rand(1, 30, 40), meta={"spacing": [8.0, 8.0], "unit": "nm"})
        >>> MatchPixelSized(trained=0.004, pixel_size="auto")({"image": image})["image"].shape
        torch.Size([1, 60, 80])
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        trained: float | None = None,
        pixel_size: float | str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if trained is not None:
            check_pixel_size("the pixel size of the training", trained)
        if pixel_size is not None and pixel_size != "auto":
            check_pixel_size('pixel_size, unless "auto",', pixel_size)
        if pixel_size is not None and trained is None:
            raise ValueError(
                f"pixel_size is {pixel_size}, but the weights do not know the pixel size of their training. Leave out "
                'pixel_size, or write the size in micrometres as "pixel_size" into "training" of model.json beside the '
                "weights"
            )
        self.trained = trained
        self.pixel_size = pixel_size
        self._told: set[tuple[Path, str]] = set()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Rescale the images in a copy of `data`."""
        item = dict(data)
        if self.trained is None:
            return item
        for key in self.key_iterator(item):
            name, stated = file_of(item, key), micrometres(*spacing_of(item[key]))
            if self.pixel_size is None:
                self._compare(name, stated, self.trained)
            else:
                item[key] = self._rescale(name, item[key], self._size(name, stated), self.trained)
        return item

    def _compare(self, name: str, stated: tuple[float, float] | None, trained: float) -> None:
        """Warn if the pixel size in the metadata is not the pixel size of the training."""
        if stated is not None and _ratio(stated, trained) > DIFFERENT:
            self._tell(
                name,
                f"has pixels of {_words(stated)}, but the weights were trained on {_words(trained)}. Results may be "
                "wrong: rescale with --pixel_size auto",
            )

    def _size(self, name: str, stated: tuple[float, float] | None) -> tuple[float, float]:
        """Choose height and width of a pixel in um."""
        if self.pixel_size == "auto":
            if stated is None:
                raise ValueError(
                    f"{name}: the file states no pixel size in a unit of length, but --pixel_size auto needs one. Give "
                    "the pixel size of the images in micrometres: --pixel_size 0.004"
                )
            return stated
        given = float(self.pixel_size or 0)
        if stated is not None and _ratio(stated, given) > DIFFERENT:
            self._tell(name, f"states pixels of {_words(stated)}; taken is the given pixel_size {_words(given)}")
        return given, given

    def _rescale(self, name: str, image: Any, size: tuple[float, float], trained: float) -> Any:
        """Rescale one image from pixels of `size` to pixels of `trained`."""
        ratio = _ratio(size, trained)
        if ratio <= SAME:
            return image
        check_image(image, name)
        before = tuple(int(n) for n in image.shape[1:])
        after = tuple(max(1, round(n * length / trained)) for n, length in zip(before, size, strict=True))
        change = f"pixels of {_words(size)}, the training {_words(trained)}"
        if ratio > MOST:
            raise ValueError(
                f"{name} has {change}: {ratio:.3g} times apart, expected at most {MOST:g}. The unit is probably wrong: "
                "give the pixel size of the image in micrometres, --pixel_size 0.004"
            )
        if prod(after) > max(MOST_PIXELS, prod(before)):
            raise ValueError(
                f"{name} has {change}: the image would grow to {after[0]} x {after[1]} pixels, expected at most "
                f"{MOST_PIXELS} pixels. Check the pixel size, or cut the image into parts"
            )
        resized = _resized(image, after, "bicubic")
        rescaled = MetaTensor(convert_to_dst_type(resized, image, dtype=resized.dtype)[0])
        rescaled.meta = {**rescaled.meta, ORIGINAL: np.array(before)}
        return rescaled

    def _tell(self, name: str, text: str) -> None:
        """Log a warning once for each folder and text."""
        folder = split_address(name)[0].parent
        if (folder, text) not in self._told:
            self._told.add((folder, text))
            logger.warning("%s %s. More images of this folder may be concerned", name, text)


class RestoreSized(MapTransform):
    """Restore the size that images had before `MatchPixelSized`. Images without rescaling stay as they are.

    Place last in the postprocessing, but before `ServedLabeld`. Objects are found before, in the pixels of the
    training: `min_area`, `split_necks` and other lengths count pixels of the training, not of the image file.

    Args:
        keys: entries (C, H, W).
        mode: for each key, or for all keys:

            - "linear": probabilities, and images. Probabilities stay in 0 to 1 and sum to 1.
            - "nearest": class maps.
            - "instances": instance maps, nearest. Objects may vanish in a smaller result; the other objects are
              numbered from 1 without gaps.
        image_key: image with the metadata of `MatchPixelSized`.
        allow_missing_keys: skip missing keys.

    Raises:
        ValueError: unknown mode; more or fewer modes than keys.

    Example:
        >>> from scripts.transforms import MatchPixelSized
        >>> item = MatchPixelSized(trained=2.0, pixel_size=1.0)({"image": torch.rand(1, 31, 40)})
        >>> item["pred"] = item["image"] > 0.5  # (1, 16, 20)
        >>> RestoreSized("pred", "nearest")(item)["pred"].shape
        torch.Size([1, 31, 40])
    """

    def __init__(
        self,
        keys: KeysCollection,
        mode: str | Sequence[str],
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        for choice in self.mode:
            check_choice("mode", choice, MODES)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore the size of the entries in a copy of `data`."""
        item = dict(data)
        original = getattr(item.get(self.image_key), "meta", {}).get(ORIGINAL)
        if original is None:
            return item
        height, width = (int(n) for n in np.ravel(as_array(original)))
        for key, mode in self.key_iterator(item, self.mode):
            if tuple(item[key].shape[1:]) != (height, width):
                item[key] = _restored(item[key], (height, width), mode)
        return item


def _restored(result: Any, size: tuple[int, int], mode: str) -> Any:
    """Bring a result (C, h, w) to the size (H, W). Type, dtype and metadata stay."""
    if mode == "linear":
        return convert_to_dst_type(_resized(result, size, "bilinear"), result)[0]
    labels = convert_to_tensor(result, track_meta=False)
    nearest = interpolate(labels[None].double(), size, mode="nearest-exact")[0]  # float64 holds all int32 exactly
    if mode == "instances":
        nearest = torch.as_tensor(relabel_sequential(as_array(nearest.long()))[0])
    return convert_to_dst_type(nearest, result)[0]


def _resized(planes: Any, size: tuple[int, ...], mode: str) -> torch.Tensor:
    """Interpolate (C, h, w) to (C, H, W), antialiased, within the range of each channel. A flat channel stays flat.

    Images with large offsets become float64, which keeps their contrast.
    """
    values = convert_to_tensor(planes, track_meta=False)
    if values.dtype in (torch.int32, torch.int64, torch.float64):
        values = values.to(grey_precision(float(values.min()), float(values.max())))
    values = at_least_single(values)
    out = interpolate(values[None], size, mode=mode, antialias=True)[0]
    return out.clamp_(values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True))


def _ratio(size: tuple[float, float], other: float) -> float:
    """The larger ratio of two pixel sizes, of height or width, at least 1."""
    return max(max(length / other, other / length) for length in size)


def _words(size: float | tuple[float, float]) -> str:
    height, width = size if isinstance(size, tuple) else (size, size)
    return (
        f"{height:.3g} um" if f"{height:.3g}" == f"{width:.3g}" else f"{height:.3g} x {width:.3g} um (height x width)"
    )
