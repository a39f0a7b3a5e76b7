"""Grey values as the network gets them: uneven light taken out, and one scale for every image and camera.

The paper leaves the scale open. Either method here is linear within a channel, so 8-bit and 16-bit images of one scene
become the same, and no two grey values become one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, NormalizeIntensity, RandomizableTransform, ScaleIntensityRange
from monai.utils import convert_to_dst_type, convert_to_numpy, convert_to_tensor
from scipy.ndimage import gaussian_filter

from scripts.checks import check_choice
from scripts.data.items import file_of

METHODS = ("z_score", "percentile")


def normalize_image(
    image: NdarrayOrTensor, method: str = "z_score", lower: float = 1.0, upper: float = 99.0, flatten: float = 0.0
) -> NdarrayOrTensor:
    """Bring the grey values of each channel by itself to a scale near 1, which He's initialisation assumes.

    Args:
        image: (C, H, W) or (C, D, H, W), any number type, finite values.
        method: "z_score": zero mean and unit variance over the channel, what MONAI's `NormalizeIntensity` does.
            "percentile": the percentiles `lower` and `upper` of the channel go to -1 and 1, as MONAI's
            `ScaleIntensityRangePercentiles` does; normally distributed values then have a standard deviation of 0.43
            (for 1 and 99). For images with a few very bright or dark pixels (dust, dead pixels, reflections), which
            would set the scale of the z-score. Not clipped: where objects cover less than the share above `upper`, as
            bright cells on a dark ground may, clipping would make them flat. Where both percentiles are one value, the
            lowest and the highest value take their place.
        lower: of "percentile", 0 .. 100.
        upper: of "percentile", above `lower`.
        flatten: pixels; standard deviation of the Gaussian that estimates uneven light, which is subtracted before
            all else (see `flattened`), from 1; 0: off.

    Returns:
        float32, as `image` in shape, kind and metadata. A channel of one value becomes 0.

    Raises:
        ValueError: an unknown method, percentiles or `flatten` out of range, no channel axis, or a grey value that is
            not finite: one of them would make its whole channel NaN.
    """
    _check(method, lower, upper, flatten)
    values = image.astype(np.float32) if isinstance(image, np.ndarray) else image  # torch warns of read-only arrays
    channels = convert_to_tensor(values, dtype=torch.float32, track_meta=False)
    if channels.ndim < 3:
        raise ValueError(
            f"expected (channels, height, width), got the shape {tuple(channels.shape)}; a plain image needs "
            "EnsureChannelFirstd first"
        )
    ends = [channel.aminmax() for channel in channels]  # NaN if any pixel is
    if not all(value.isfinite() for low_high in ends for value in low_high):
        raise ValueError("expected finite grey values, got NaN or infinite ones; replace them in the file")
    scaled = []
    for channel, (lowest, highest) in zip(channels, ends, strict=True):
        if lowest == highest:  # nothing to see: only rounding errors would be scaled up
            scaled.append(torch.zeros_like(channel))
            continue
        even = flattened(channel, flatten) if flatten else channel
        result = NormalizeIntensity()(even) if method == "z_score" else _to_percentiles(even, lower, upper)
        scaled.append(convert_to_tensor(result, track_meta=False))
    return convert_to_dst_type(torch.stack(scaled), image, dtype=torch.float32)[0]


def flattened(channel: torch.Tensor, sigma: float) -> torch.Tensor:
    """Subtract from a channel what changes slowly over it.

    The light is estimated by a Gaussian blur, of the image mirrored at its edges. It is subtracted and not divided by:
    a quotient depends on the camera's black level, which is rarely known, blows up the noise of dark corners, and means
    nothing where grey values are 0 or below. For light that varies by a few per cent the two are the same but for a
    factor, which the scaling after it takes out.

    Objects are part of what is blurred, so `sigma` should be several times their size, or they lose contrast. Light
    that rises evenly is removed but for a strip of about 2 `sigma` along the edges, where its mirror image bends it.

    Args:
        channel: floating (H, W) or (D, H, W).
        sigma: standard deviation in pixels. The blur reaches 4 `sigma` far and takes time in proportion to it: 0.1 s
            for 512 x 512 pixels and a `sigma` of 50.

    Returns:
        float32, as `channel` in shape and device, around 0.
    """
    values = convert_to_numpy(channel).astype(np.float64)  # a small difference of large values is what is wanted
    values -= gaussian_filter(values, sigma, mode="reflect")
    return torch.as_tensor(values, dtype=torch.float32, device=channel.device)


def _to_percentiles(channel: torch.Tensor, lower: float, upper: float) -> NdarrayOrTensor:
    values = convert_to_numpy(channel)
    low, high = np.percentile(values, (lower, upper))
    if low == high:  # an image that is nearly all background
        low, high = values.min(), values.max()
    return ScaleIntensityRange(float(low), float(high), b_min=-1.0, b_max=1.0)(channel)


def _check(method: str, lower: float, upper: float, flatten: float) -> None:
    check_choice("method", method, METHODS)
    if not 0 <= lower < upper <= 100:
        raise ValueError(f"percentiles must be 0 <= lower < upper <= 100, got lower {lower} and upper {upper}")
    if flatten != 0 and not 1 <= flatten < math.inf:
        raise ValueError(f"flatten must be 0 (off) or a number of pixels from 1, got {flatten}")


class NormalizeImaged(MapTransform):
    """Dictionary-based `normalize_image`; not random, so that `CacheDataset` keeps what it gives.

    Args:
        keys: images, channels first.
        method: as in `normalize_image`.
        lower: as in `normalize_image`.
        upper: as in `normalize_image`.
        flatten: as in `normalize_image`.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: as `normalize_image`: of the options at construction, of an image with the name of its file.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        method: str = "z_score",
        lower: float = 1.0,
        upper: float = 99.0,
        flatten: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        _check(method, lower, upper, flatten)
        self.method = method
        self.lower = lower
        self.upper = upper
        self.flatten = flatten

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Normalise the images in a copy of `data`."""
        item = dict(data)
        for key in self.key_iterator(item):
            try:
                item[key] = normalize_image(item[key], self.method, self.lower, self.upper, self.flatten)
            except ValueError as error:
                raise ValueError(f"image {file_of(item, key)}: {error}") from error
        return item


class RandNoised(RandomizableTransform, MapTransform):
    """Add Gaussian noise to images, drawn on the device where they lie.

    MONAI's `RandGaussianNoised` draws with numpy on the CPU: 8 ms a tile of 572, a copy to the GPU not counted. The
    distribution is the same: a standard deviation drawn uniformly from [0, `std`], mean 0.

    Args:
        keys: images, floating point, any shape. Each gets noise of its own.
        std: largest standard deviation.
        prob: of adding any.
        allow_missing_keys: pass over keys that an item lacks.
    """

    def __init__(
        self, keys: KeysCollection = "image", std: float = 0.1, prob: float = 0.1, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.std = std

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Add noise to the images in a copy of `data`."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        std = self.R.uniform(0, self.std)
        for key in self.key_iterator(item):
            image = convert_to_tensor(item[key])
            generator = torch.Generator(image.device).manual_seed(int(self.R.randint(2**31)))
            noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=torch.float32)
            item[key] = convert_to_dst_type(image + noise.mul_(std).to(image.dtype), item[key])[0]
        return item
