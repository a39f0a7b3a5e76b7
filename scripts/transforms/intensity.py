"""Prepare grey values for the network: remove uneven light, and scale all images and cameras alike.

The paper leaves the scale open. Both methods here are linear within a channel. So 8-bit and 16-bit images of the same
scene become equal, and different grey values stay different.
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

from ..checks import check_choice
from ..data.items import file_of
from ..inferers.precision import grey_precision

METHODS = ("z_score", "percentile")
_SAFE = (1e-18, 1e140)  # squares of smaller values leave the range of float32, of larger values that of float64
_WITHOUT_ARITHMETIC = (torch.uint16, torch.uint32, torch.uint64, torch.bool)


def normalize_image(
    image: NdarrayOrTensor, method: str = "z_score", lower: float = 1.0, upper: float = 99.0, flatten: float = 0.0
) -> NdarrayOrTensor:
    """Scale the grey values of each channel to the order of 1, which He's initialisation assumes.

    Args:
        image: (C, H, W) or (C, D, H, W), any number type, finite values.
        method: "z_score": zero mean and unit variance for each channel, as MONAI's `NormalizeIntensity`.
            "percentile": the percentiles `lower` and `upper` of each channel become -1 and 1, as with MONAI's
            `ScaleIntensityRangePercentiles`. Choose "percentile" for images with a few very bright or dark pixels
            (dust, dead pixels, reflections). For the percentiles 1 and 99, normally distributed values get a standard
            deviation of 0.43. Values are not clipped, so that small bright objects stay. If both percentiles are equal,
            the minimum and the maximum are used.
        lower: of "percentile", 0 .. 100.
        upper: of "percentile", above `lower`.
        flatten: standard deviation in pixels, from 1, of the Gaussian that estimates uneven light. The light is
            subtracted first, see `flattened`. 0: off.

    Returns:
        float32, with the shape, type and metadata of `image`. A channel of one value becomes 0.

    Raises:
        ValueError: an unknown method, percentiles or `flatten` out of range, no channel axis, or a grey value that is
            not finite (the whole channel would become NaN).

    Example:
        >>> normalize_image(np.array([[[0, 50, 100]]]), "percentile", lower=0, upper=100)
        array([[[-1.,  0.,  1.]]], dtype=float32)
    """
    check_normalization(method, lower, upper, flatten)
    channels = convert_to_tensor(image, track_meta=False)
    if channels.ndim < 3:
        raise ValueError(
            f"expected (channels, height, width), got the shape {tuple(channels.shape)}. "
            "Put EnsureChannelFirstd before, if the image is a plain plane."
        )
    scaled = [_normalized(channel, method, lower, upper, flatten) for channel in channels]
    return convert_to_dst_type(torch.stack(scaled), image, dtype=torch.float32)[0]


def _normalized(channel: torch.Tensor, method: str, lower: float, upper: float, flatten: float) -> torch.Tensor:
    """One channel in float32."""
    channel = channel.double() if channel.dtype in _WITHOUT_ARITHMETIC else channel
    lowest, highest = (float(end) for end in channel.aminmax())  # NaN if any pixel is NaN
    if not math.isfinite(lowest) or not math.isfinite(highest):
        raise ValueError("expected finite grey values, got NaN or infinite ones. Replace them in the file.")
    if lowest == highest:  # otherwise rounding errors would be scaled up
        return torch.zeros_like(channel, dtype=torch.float32)
    largest = max(abs(lowest), abs(highest))
    is_safe = _SAFE[0] < largest < _SAFE[1]
    values = channel.to(grey_precision(lowest, highest)) if is_safe else channel.double() / largest
    values = flattened(values, flatten) if flatten else values
    if method == "percentile":
        return convert_to_tensor(_to_percentiles(values, lower, upper), dtype=torch.float32, track_meta=False)
    if values.dtype == torch.float64:  # MONAI computes in float32
        return ((values - values.mean()) / values.std(unbiased=False)).float()
    return convert_to_tensor(NormalizeIntensity()(values), track_meta=False)


def flattened(channel: torch.Tensor, sigma: float) -> torch.Tensor:
    """Subtract slow changes of brightness from a channel.

    The light is estimated by a Gaussian blur, with the image mirrored at its edges. Light that rises evenly is removed
    except in a strip of about 2 `sigma` along the edges. The light is subtracted and not divided by, because a quotient
    depends on the camera's black level and amplifies the noise of dark corners.

    Args:
        channel: floating (H, W) or (D, H, W).
        sigma: standard deviation in pixels, several times the size of the objects. Otherwise the objects lose contrast.
            512 x 512 pixels and a `sigma` of 50 take 0.1 s.

    Returns:
        Shape, dtype and device of `channel`, around 0.

    Example:
        >>> float(flattened(torch.full((20, 30), 7.0), sigma=3).abs().max()) < 1e-6
        True
    """
    values = convert_to_numpy(channel).astype(np.float64)  # the result is a small difference of large values
    values -= gaussian_filter(values, sigma, mode="reflect")
    return torch.as_tensor(values, dtype=channel.dtype, device=channel.device)


def _to_percentiles(channel: torch.Tensor, lower: float, upper: float) -> NdarrayOrTensor:
    values = convert_to_numpy(channel)
    low, high = np.percentile(values, (lower, upper))
    if low == high:  # nearly all pixels are background
        low, high = values.min(), values.max()
    return ScaleIntensityRange(float(low), float(high), b_min=-1.0, b_max=1.0)(channel)


def check_normalization(method: str = "z_score", lower: float = 1.0, upper: float = 99.0, flatten: float = 0.0) -> None:
    """Check the options of `normalize_image`.

    Raises:
        ValueError: an unknown method, or numbers out of range.

    Example:
        >>> check_normalization("percentile", lower=2, upper=98)
    """
    check_choice("method", method, METHODS)
    if not 0 <= lower < upper <= 100:
        raise ValueError(f"percentiles must be 0 <= lower < upper <= 100, got lower {lower} and upper {upper}")
    if flatten != 0 and not 1 <= flatten < math.inf:
        raise ValueError(f"flatten must be 0 (off) or a number of pixels from 1, got {flatten}")


class NormalizeImaged(MapTransform):
    """Normalise the images of a dictionary. Not random, so `CacheDataset` caches the result.

    An image of one value becomes 0.

    Args:
        keys: images, channels first.
        method, lower, upper, flatten: as in `normalize_image`.
        allow_missing_keys: skip missing keys.

    Raises:
        ValueError: as `normalize_image`. Options are checked at construction. Errors of an image name its file.

    Example:
        normalize: {_target_: scripts.transforms.NormalizeImaged, keys: image, method: percentile}
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
        check_normalization(method, lower, upper, flatten)
        self.options = (method, lower, upper, flatten)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Normalise the images in a copy of `data`."""
        item = dict(data)
        for key in self.key_iterator(item):
            try:
                item[key] = normalize_image(item[key], *self.options)
            except ValueError as error:
                raise ValueError(f"image {file_of(item, key)}: {error}") from error
        return item


class RandNoised(RandomizableTransform, MapTransform):
    """Add Gaussian noise to images, drawn on the device of each image.

    The distribution is that of MONAI's `RandGaussianNoised`: mean 0, standard deviation uniform in [0, `std`]. MONAI's
    draws with numpy on the CPU: 8 ms for a tile of 572, plus a copy to the GPU.

    Args:
        keys: images, floating point, any shape. The noise is drawn for each separately.
        std: largest standard deviation.
        prob: probability of adding noise.
        allow_missing_keys: skip missing keys.

    Example:
        >>> noise = RandNoised(std=0.1, prob=1.0).set_random_state(0)
        >>> noise({"image": torch.zeros(1, 64, 64)})["image"].shape
        torch.Size([1, 64, 64])
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
