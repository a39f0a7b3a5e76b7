"""Read the planes of a layer as the network takes them, and place results on the layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..running.package import library_package

LARGE = 2**26  # pixels of a plane, 8192 x 8192: larger ones are segmented block by block


@dataclass(frozen=True)
class LayerPlanes:
    """The planes of an image layer.

    Args:
        pixels: (..., H, W), with channels (..., H, W, C) for RGB or (..., C, H, W), in any array type.
        channels: place of the channels: -1, -3, or None.

    Example:
        >>> planes = LayerPlanes(np.zeros((2, 5, 30, 40)))
        >>> planes.leading, len(planes), planes[9].shape
        ((2, 5), 10, (30, 40))
    """

    pixels: Any
    channels: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.pixels.shape[-3:-1] if self.channels == -1 else self.pixels.shape[-2:]
        return int(height), int(width)

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes with several planes: () for a single plane."""
        return tuple(map(int, self.pixels.shape[: -2 if self.channels is None else -3]))

    def __len__(self) -> int:
        return prod(self.leading)

    def place(self, number: int) -> Any:
        """Get the index of a plane in arrays (..., H, W)."""
        return tuple(map(int, np.unravel_index(number, self.leading))) if self.leading else ...

    def __getitem__(self, number: int) -> np.ndarray:
        """Read a plane, (H, W) or (H, W, C)."""
        pixels = np.asarray(self.pixels[self.place(number)])
        if self.channels == -1:
            return pixels[..., :3]  # without alpha
        return pixels if self.channels is None else np.moveaxis(pixels, 0, -1)


def planes_of(layer: Any, in_channels: int) -> LayerPlanes:
    """Find the planes of an image layer for a network.

    Args:
        layer: image layer of napari; of a pyramid, the full resolution is taken.
        in_channels: of the network. Networks with several channels take RGB layers, or layers (..., C, H, W).

    Raises:
        ValueError: the channels differ from those of the network.

    Example:
        >>> from napari.layers import Image
        >>> planes_of(Image(np.zeros((4, 30, 40))), in_channels=1).leading
        (4,)
    """
    pixels = layer.data[0] if layer.multiscale else layer.data
    if layer.rgb and in_channels == 3:
        return LayerPlanes(pixels, -1)
    if layer.rgb:
        raise ValueError(
            f"the layer '{layer.name}' has the colours red, green and blue, but the weights take {in_channels} "
            "channels. Right-click the layer, choose Split RGB, and take one of the new layers"
        )
    if in_channels == 1:
        return LayerPlanes(pixels)
    if pixels.ndim < 3 or pixels.shape[-3] != in_channels:
        raise ValueError(
            f"the layer '{layer.name}' has the shape {tuple(pixels.shape)}, the weights take {in_channels} channels: "
            f"expected ({in_channels}, rows, columns). Select the layers of the channels, right-click, Merge to Stack"
        )
    return LayerPlanes(pixels, -3)


def plane_in_view(planes: LayerPlanes, step: Sequence[float]) -> int:
    """Get the number of the plane that the viewer shows. Of positions outside the layer, the nearest plane.

    Args:
        planes: of the layer.
        step: `viewer.dims.current_step`.

    Example:
        >>> plane_in_view(LayerPlanes(np.zeros((5, 30, 40))), step=(3, 0, 0))
        3
    """
    axes = len(planes.leading)
    end = len(step) - (3 if planes.channels == -3 else 2)
    if not axes or end < axes:
        return 0
    inside = [min(max(int(at), 0), n - 1) for at, n in zip(step[end - axes : end], planes.leading, strict=True)]
    return int(np.ravel_multi_index(inside, planes.leading))


def is_large(layer: Any) -> bool:
    """Tell whether a layer is segmented block by block, from its file: a pyramid, or a plane above 8192 x 8192.

    Example:
        >>> from napari.layers import Image
        >>> is_large(Image(np.zeros((30, 40))))
        False
    """
    return bool(layer.multiscale) or prod(LayerPlanes(layer.data, -1 if layer.rgb else None).size) > LARGE


def pixel_size_of(layer: Any) -> tuple[float, float] | None:
    """Get height and width of a pixel in micrometres from scale and units of a layer. None: unknown.

    Example:
        >>> from napari.layers import Image
        >>> pixel_size_of(Image(np.zeros((30, 40)), scale=(65, 65), units=("nm", "nm")))
        (0.065, 0.065)
        >>> pixel_size_of(Image(np.zeros((30, 40)))) is None
        True
    """
    units = {str(unit) for unit in layer.units[-2:]}
    if len(units) > 1:
        return None
    found = library_package("io.units").micrometres(layer.scale[-2:], units.pop())
    return None if found is None else (round(found[0], 9), round(found[1], 9))


def file_of(layer: Any) -> Path | None:
    """Get the file or folder that a layer was read from. None: none, or gone."""
    path = layer.source.path
    return Path(path) if path and Path(path).exists() else None


def placed(layer: Any, planes: LayerPlanes, size: tuple[int, int] | None = None) -> Mapping[str, Any]:
    """Get the arguments that lay a result (..., H, W) over an image layer.

    Args:
        layer: the image.
        planes: of the layer.
        size: (H, W) of the result. None: as the image. Others fill the same area.

    Example:
        >>> from napari.layers import Image
        >>> layer = Image(np.zeros((30, 40)), scale=(2, 2))
        >>> placed(layer, planes_of(layer, 1), (60, 80))["scale"].tolist()
        [1.0, 1.0]
    """
    axes = [axis for axis in range(layer.ndim) if planes.channels != -3 or axis != layer.ndim - 3]
    scale, translate = np.array(layer.scale)[axes], np.array(layer.translate)[axes]
    if size is not None:
        finer = np.array(planes.size) / size
        translate[-2:] += scale[-2:] * (finer - 1) / 2  # a pixel's place is its centre
        scale[-2:] *= finer
    units = tuple(layer.units[axis] for axis in axes)
    return {"scale": scale, "translate": translate, "units": units}
