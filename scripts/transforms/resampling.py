"""Read a deformed tile from an image: affine map and displacement in one resampling.

Pixel i of an axis lies at coordinate i. A tile of h x w pixels that starts at pixel `start` of the image reads, at its
pixel x, the image at

    start + c + A (x - c) + d(x),     c = ((h - 1) / 2, (w - 1) / 2) the centre of the tile,

with A the affine map (output to input, as in MONAI) and d the displacement in image pixels (as in `elasticdeform`).
The result agrees with `elasticdeform.deform_grid(image, displacements, order=1, mode="mirror")`. Reflection at the
image edge does not repeat the edge pixel (numpy's `reflect`, torch's "reflection" with `align_corners=True`). MONAI's
transforms use `align_corners=False`, so they repeat the edge pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms.utils import create_rotate, create_translate
from monai.utils import convert_to_dst_type, convert_to_tensor
from torch.nn.functional import grid_sample

from ..checks import check_choice
from ..networks.geometry import reflect_index
from .displacements import dense_displacements

MODES = ("bilinear", "nearest")
PADDING_MODES = ("reflection", "border", "zeros")
_EXACT_IN_FLOAT32 = 2**24


def affine_matrix(
    rotate: float = 0.0, translate: Sequence[float] = (0.0, 0.0), flip: Sequence[bool] = (False, False)
) -> np.ndarray:
    """Compute the affine map about the tile's centre, output to input: rotation @ translation @ flip.

    Args:
        rotate: radians. Positive turns the picture clockwise, as in MONAI: pi / 2 is `torch.rot90(x, -1, (1, 2))`.
        translate: pixels (rows, columns) added to the reading place, as in MONAI: (5, 0) moves the picture up by 5.
        flip: mirror the rows, the columns: `torch.flip` of the finished tile.

    Returns:
        float64 (3, 3), in the order (rows, columns).

    Example:
        >>> affine_matrix(translate=(5, 0), flip=(False, True)).tolist()
        [[1.0, 0.0, 5.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    mirrored = np.diag([-1.0 if flip[0] else 1.0, -1.0 if flip[1] else 1.0, 1.0])
    return np.asarray(create_rotate(2, rotate)) @ np.asarray(create_translate(2, translate)) @ mirrored


def apply_displacements(
    image: NdarrayOrTensor,
    displacements: np.ndarray | torch.Tensor | None,
    *,
    affine: np.ndarray | torch.Tensor | None = None,
    size: Sequence[int] | None = None,
    start: Sequence[int] | None = None,
    mode: str = "bilinear",
    padding_mode: str = "reflection",
) -> NdarrayOrTensor:
    """Deform an image, or a tile of an image, in one resampling. The module's docstring has the formula.

    Args:
        image: (C, H, W), any real type, any device. An array gives an array, a MetaTensor keeps its metadata.
        displacements: pixels, (rows, columns). Coarse (2, m, n) with the corner points on the tile's corner pixels, or
            dense (2, h, w). None: none.
        affine: (2, 3) or (3, 3), output to input about the tile's centre, see `affine_matrix`. None: identity.
        size: (h, w) of the tile. None: the image's.
        start: (row, column) of the tile's first pixel in the image. The tile may lie beyond the image. None: centred.
        mode: "bilinear", or "nearest" for labels, which keeps type and values.
        padding_mode: beyond the image: "reflection" mirrors without repeating the edge pixel, "border" repeats the edge
            pixel, "zeros" gives 0.

    Returns:
        (C, h, w). "bilinear" makes float32 of integers, all other types are kept.

    Raises:
        ValueError: an argument of another shape, an empty image or tile, an unknown mode, displacements not finite.

    Example:
        >>> from scripts.transforms import affine_matrix
        >>> image = np.arange(6.0).reshape(1, 2, 3)
        >>> apply_displacements(image, None, affine=affine_matrix(flip=(False, True))).round(4)
        array([[[2., 1., 0.],
                [5., 4., 3.]]])
    """
    check_image(image)
    image_size = tuple(image.shape[1:])
    size = image_size if size is None else size
    start = centre_start(image_size, size) if start is None else start
    return DrawnTile(displacements, affine, image_size, size, start).read(image, mode, padding_mode)


def extract_tile(
    image: NdarrayOrTensor,
    displacements: np.ndarray | torch.Tensor | None,
    *,
    start: Sequence[int],
    input_size: Sequence[int],
    output_size: Sequence[int] | None = None,
    crop_to_output: bool = False,
    affine: np.ndarray | torch.Tensor | None = None,
    mode: str = "bilinear",
    padding_mode: str = "reflection",
) -> NdarrayOrTensor:
    """Read one training tile: the deterministic version of `Rand2DElasticTiled`.

    Args:
        image: (C, H, W).
        displacements: of the whole input tile, as in `apply_displacements`.
        start: (row, column) in the image of the first pixel of the *output* window, before the deformation.
        input_size: (h, w) of the network's input. The deformation is about its centre.
        output_size: (h, w) of the network's output, in the centre of the input. None: the whole tile.
        crop_to_output: return only the output window, as for labels and weights.
        affine, mode, padding_mode: as in `apply_displacements`.

    Returns:
        (C, *input_size), or (C, *output_size) with `crop_to_output`.

    Raises:
        ValueError: the output is larger than the input or cannot lie in its centre, and as `apply_displacements`.

    Example:
        >>> image = torch.rand(1, 512, 512)
        >>> extract_tile(image, None, start=(0, 0), input_size=(572, 572), output_size=(388, 388)).shape
        torch.Size([1, 572, 572])
    """
    check_image(image)
    margin = tile_margin(input_size, input_size if output_size is None else output_size)
    first = (start[0] - margin[0], start[1] - margin[1])
    tile = DrawnTile(displacements, affine, tuple(image.shape[1:]), input_size, first, margin)
    return tile.read(image, mode, padding_mode, crop_to_output)


@dataclass
class DrawnTile:
    """Read the same tile from several images. The sampling grid is computed once for each padding mode.

    Attributes:
        displacements, affine: as in `apply_displacements`. Both None: the tile is cut out without interpolation.
        image_size: (H, W) of all images.
        size: (h, w) of the tile.
        start: (row, column) of the tile's first pixel in the image, negative allowed.
        margin: pixels (rows, columns) between the tile and its output window, on each side.
        device: where the sampling grid is computed. None: where the image lies.

    Example:
        >>> tile = DrawnTile(None, None, image_size=(9, 9), size=(4, 4), start=(0, 0), margin=(1, 1))
        >>> tile.read(torch.zeros(1, 9, 9), "bilinear", "reflection", to_output=True).shape
        torch.Size([1, 2, 2])
    """

    displacements: np.ndarray | torch.Tensor | None
    affine: np.ndarray | torch.Tensor | None
    image_size: tuple[int, ...]
    size: Sequence[int]
    start: Sequence[int]
    margin: Sequence[int] = (0, 0)
    device: torch.device | None = None
    _grids: dict[str, tuple[tuple[slice, slice], torch.Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"a tile needs at least 1 x 1 pixel, got {self.size[0]} x {self.size[1]}")

    def read(self, image: NdarrayOrTensor, mode: str | int, padding_mode: str, to_output: bool = False) -> Any:
        """Read the tile from `image` (C, H, W). With `to_output`, read only the output window inside the margin.

        Returns:
            (C, h, w), array, tensor or MetaTensor as `image`. "nearest" and floating types are kept, interpolated
            integers become float32.
        """
        check_choice("mode", mode, MODES)
        check_choice("padding_mode", padding_mode, PADDING_MODES)
        (top, left), (height, width) = self.margin if to_output else (0, 0), self.size
        plain = convert_to_tensor(image)
        if self.displacements is None and self.affine is None:
            start = (self.start[0] + top, self.start[1] + left)
            out = _crop(plain, start, (height - 2 * top, width - 2 * left), padding_mode)
        else:
            if padding_mode not in self._grids:
                self._grids[padding_mode] = self._sampling_grid(padding_mode, self.device or plain.device)
            window, grid = self._grids[padding_mode]
            part = plain[:, window[0], window[1]]
            out = _sample(part, grid[:, top : height - top, left : width - left], str(mode), padding_mode)
        dtype = plain.dtype if mode == "nearest" or plain.dtype.is_floating_point else torch.float32
        return convert_to_dst_type(out.to(dtype), image, dtype=dtype)[0]

    def _sampling_grid(self, padding_mode: str, device: torch.device) -> tuple[tuple[slice, slice], torch.Tensor]:
        """Find the part of the image that the tile reads, and compute torch's normalised grid into this part.

        Coordinates are relative to the tile, and the grid to the part, so float32 is precise to 1e-4 pixel in images of
        any size. Only this part is converted to a floating type.

        Returns:
            The two slices, and the grid, float32 (1, h, w, 2) in torch's order (x, y), stored plane by plane.
        """
        planes = self._coordinates(device)
        window = []
        for plane, first_pixel, length in zip(planes.unbind()[::-1], self.start, self.image_size, strict=True):
            lowest, highest = (float(value) for value in plane.aminmax())
            if not (math.isfinite(lowest) and math.isfinite(highest)):
                raise ValueError("the sampling coordinates are not finite. Check displacements and affine for NaN.")
            low, high = math.floor(lowest) + first_pixel, math.ceil(highest) + first_pixel
            first, last = _touched(low, high, length, padding_mode == "reflection")
            # reflection is about the centres of the edge pixels; with a single pixel, half an interval is 0
            half = (last - first) / 2 if padding_mode == "reflection" else (last - first + 1) / 2
            plane += first_pixel - first - (last - first) / 2
            plane *= 1 / half if half else 0.0
            window.append(slice(first, last + 1))
        return (window[0], window[1]), planes.permute(1, 2, 0)[None]

    def _coordinates(self, device: torch.device) -> torch.Tensor:
        """Compute the places that the tile's pixels read, relative to the tile's first pixel.

        Returns:
            float32 (2, h, w), pixels, in torch's order: along the columns (x), along the rows (y).
        """
        matrix = np.eye(3) if self.affine is None else np.asarray(torch.as_tensor(self.affine).cpu(), dtype=np.float64)
        if matrix.shape not in ((2, 3), (3, 3)):
            raise ValueError(f"affine must be (2, 3) or (3, 3), output to input about the centre, got {matrix.shape}")
        centre = (np.array(self.size) - 1) / 2
        rows, columns = (
            torch.arange(length, dtype=torch.float32, device=device) - middle
            for length, middle in zip(self.size, centre, strict=True)
        )
        offset = matrix[:2, 2] + centre
        if self.displacements is None:
            planes = torch.zeros((2, *self.size), dtype=torch.float32, device=device)
        else:
            flipped = torch.as_tensor(self.displacements, dtype=torch.float32, device=device).flip(0)  # a copy
            planes = dense_displacements(flipped, self.size, device)
        for axis, plane in enumerate((planes[1], planes[0])):  # in place: allocating memory takes most of the time
            plane += (rows * matrix[axis, 0] + offset[axis])[:, None]
            plane += columns * matrix[axis, 1]
        return planes


def _sample(part: torch.Tensor, grid: torch.Tensor, mode: str, padding_mode: str) -> torch.Tensor:
    """Read a part of an image (C, H, W) at a grid (1, h, w, 2). Gives (C, h, w), float32 or float64."""
    working = torch.float64 if part.dtype == torch.float64 else torch.float32
    if part.dtype in (torch.int32, torch.int64, torch.uint32, torch.uint64):
        low, high = torch.aminmax(part.to(torch.int64))
        if int(low) < -_EXACT_IN_FLOAT32 or int(high) > _EXACT_IN_FLOAT32:
            working = torch.float64
    return grid_sample(
        part[None].to(working),
        grid.to(part.device, working),
        mode=mode,
        padding_mode=padding_mode,
        align_corners=padding_mode == "reflection",
    )[0]


def _crop(image: torch.Tensor, start: Sequence[int], size: Sequence[int], padding_mode: str) -> torch.Tensor:
    """Cut a tile (C, h, w), partly or wholly beyond the image, by integer indices. No interpolation, exact."""
    out = image
    for axis in (1, 2):
        length = image.shape[axis]
        wanted = np.arange(start[axis - 1], start[axis - 1] + size[axis - 1])
        index = reflect_index(wanted, length) if padding_mode == "reflection" else np.clip(wanted, 0, length - 1)
        out = out.index_select(axis, torch.from_numpy(index).to(image.device))
        if padding_mode == "zeros":
            first, last = np.searchsorted(wanted, (0, length))
            out.narrow(axis, 0, first).zero_()
            out.narrow(axis, last, len(wanted) - last).zero_()
    return out


def _touched(low: int, high: int, length: int, reflecting: bool) -> tuple[int, int]:
    """Find the first and last pixel of an axis that coordinates within [low, high] read, reflected or clamped.

    The part of the image between both pixels is reflected at its own ends. A reflected end must be the image's edge,
    and the other end must be out of reach.
    """
    end = length - 1
    if not reflecting:
        return min(max(low, 0), end), max(min(high, end), 0)
    if (low < 0 and high > end) or -low > end or high - end > end:
        return 0, end
    if low < 0:
        return 0, max(high, -low)
    if high > end:
        return min(low, 2 * end - high), end
    return low, high


def centre_start(image_size: Sequence[int], size: Sequence[int]) -> tuple[int, int]:
    """Compute the first pixel (row, column) of a tile in the middle of the image, negative if the tile is larger.

    Example:
        >>> centre_start((512, 512), (572, 388))
        (-30, 62)
    """
    return (image_size[0] - size[0]) // 2, (image_size[1] - size[1]) // 2


def tile_margin(input_size: Sequence[int], output_size: Sequence[int]) -> tuple[int, int]:
    """Compute the pixels (rows, columns) between a tile and its output window.

    Raises:
        ValueError: the window is larger than the tile or cannot lie in its centre.

    Example:
        >>> tile_margin((572, 572), (388, 388))
        (92, 92)
    """
    for wide, narrow in zip(input_size, output_size, strict=True):
        if not 1 <= narrow <= wide or (wide - narrow) % 2:
            raise ValueError(
                f"the output {tuple(output_size)} must lie in the centre of the input {tuple(input_size)}: "
                "at least 1 pixel, not larger than the input, and smaller by an even number"
            )
    return (input_size[0] - output_size[0]) // 2, (input_size[1] - output_size[1]) // 2


def check_image(image: NdarrayOrTensor, name: str = "image") -> None:
    """Raise a ValueError unless `image` is (C, H, W) with at least one pixel.

    Example:
        >>> check_image(np.zeros((1, 512, 512)))
    """
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"{name} must be (C, H, W) with at least one pixel, got {tuple(image.shape)}")
