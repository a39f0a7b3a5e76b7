"""Where a deformed tile reads its image, and the reading itself: affine and displacement in one resampling.

Pixel i of an axis lies at coordinate i. A tile of h x w pixels that starts at pixel `start` of the image reads, at its
pixel x, the image at

    start + c + A (x - c) + d(x),     c = ((h - 1) / 2, (w - 1) / 2) the centre of the tile,

with A the affine map (output to input, as MONAI's) and d the displacement in image pixels (as `elasticdeform`'s).
Beyond the image the reflection leaves out the edge pixel (numpy's `reflect`), which is torch's "reflection" with
`align_corners=True`; MONAI's transforms use `align_corners=False` and so repeat the edge pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms.utils import create_rotate, create_translate
from torch.nn.functional import grid_sample

from scripts.checks import check_choice
from scripts.networks.geometry import reflect_index
from scripts.transforms.displacements import dense_displacements

MODES = ("bilinear", "nearest")
PADDING_MODES = ("reflection", "border", "zeros")
_EXACT_IN_FLOAT32 = 2**24


def affine_matrix(
    rotate: float = 0.0, translate: Sequence[float] = (0.0, 0.0), flip: Sequence[bool] = (False, False)
) -> np.ndarray:
    """Affine map about the tile's centre, output to input, in (rows, columns): rotation @ translation @ flip.

    Args:
        rotate: radians; positive turns the picture clockwise, as MONAI's: pi / 2 is `torch.rot90(x, -1, (1, 2))`.
        translate: pixels by which the reading place moves, as MONAI's: (5, 0) moves the picture up by 5.
        flip: mirror the rows, the columns: `torch.flip` of the otherwise finished tile.

    Returns:
        float64 (3, 3).
    """
    mirrored = np.diag([-1.0 if flip[0] else 1.0, -1.0 if flip[1] else 1.0, 1.0])
    return np.asarray(create_rotate(2, rotate)) @ np.asarray(create_translate(2, translate)) @ mirrored


def sampling_coordinates(
    size: Sequence[int],
    displacements: np.ndarray | torch.Tensor | None = None,
    affine: np.ndarray | torch.Tensor | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Places where the pixels of a tile read the image, relative to the tile's first pixel.

    They stay relative so that float32 is precise to 1e-4 pixel wherever the tile lies in an image of any size.

    Args:
        size: (h, w) of the tile in pixels.
        displacements: (2, h, w), or coarse (2, m, n) with corner points on the corner pixels, which are interpolated by
            cubic splines; pixels, (rows, columns). None: none.
        affine: (2, 3) or (3, 3), output to input about the tile's centre, see `affine_matrix`. None: identity.
        device: where the coordinates are computed.

    Returns:
        float32 (2, h, w), pixels, in torch's order: along the columns (x), along the rows (y). New memory each time.

    Raises:
        ValueError: a tile without pixels, or displacements or an affine map of another shape.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"a tile needs at least 1 x 1 pixel, got {height} x {width}")
    matrix = np.eye(3) if affine is None else np.asarray(torch.as_tensor(affine).cpu(), dtype=np.float64)
    if matrix.shape not in ((2, 3), (3, 3)):
        raise ValueError(f"affine must be (2, 3) or (3, 3), output to input about the centre, got {matrix.shape}")
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    rows = torch.arange(height, dtype=torch.float32, device=device) - centre[0]
    cols = torch.arange(width, dtype=torch.float32, device=device) - centre[1]
    offset = matrix[:2, 2] + centre
    if displacements is None:
        planes = torch.zeros((2, height, width), dtype=torch.float32, device=device)
    else:
        flipped = torch.as_tensor(displacements, dtype=torch.float32, device=device).flip(0)  # a copy, small if coarse
        planes = dense_displacements(flipped, size, device)
    for axis, plane in enumerate((planes[1], planes[0])):  # in place: memory is what this takes time for
        plane += (rows * matrix[axis, 0] + offset[axis])[:, None]
        plane += cols * matrix[axis, 1]
    return planes


def sampling_grid(
    coordinates: torch.Tensor, start: Sequence[int], image_size: Sequence[int], padding_mode: str = "reflection"
) -> tuple[tuple[slice, slice], torch.Tensor]:
    """The part of the image that `coordinates` touch, and torch's normalised grid into that part.

    A cut-out keeps float32 precise in large images, and only what is read is converted to a floating type.

    Args:
        coordinates: float32 (2, h, w) from `sampling_coordinates`; they become the grid, in place.
        start: (row, column) of the tile's first pixel in the image, negative allowed.
        image_size: (H, W).
        padding_mode: "reflection", "border" or "zeros".

    Returns:
        the two slices, and the grid float32 (1, h, w, 2) in torch's order (x, y), stored plane by plane.

    Raises:
        ValueError: unknown padding mode, or displacements that are not finite.
    """
    check_choice("padding_mode", padding_mode, PADDING_MODES)
    reflecting = padding_mode == "reflection"
    window = []
    for plane, first_pixel, length in zip(coordinates.unbind()[::-1], start, image_size, strict=True):
        lowest, highest = (float(value) for value in plane.aminmax())
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise ValueError("the sampling coordinates are not finite: check the displacements and the affine for NaN")
        low, high = math.floor(lowest) + first_pixel, math.ceil(highest) + first_pixel
        first, last = _touched(low, high, length, reflecting)
        # reflection mirrors about the centres of the edge pixels; half an interval is 0 where there is only one pixel
        half = (last - first) / 2 if reflecting else (last - first + 1) / 2
        plane += first_pixel - first - (last - first) / 2
        plane *= 1 / half if half else 0.0
        window.append(slice(first, last + 1))
    return (window[0], window[1]), coordinates.permute(1, 2, 0)[None]


def sample(
    image: torch.Tensor, window: tuple[slice, slice], grid: torch.Tensor, mode: str, padding_mode: str
) -> torch.Tensor:
    """Read `image` (C, H, W) at a grid of `sampling_grid`.

    Args:
        image: any real type.
        window, grid: from `sampling_grid` with the same `padding_mode`; the grid may be cut.
        mode: "bilinear", or "nearest" for labels.
        padding_mode: "reflection", "border" or "zeros".

    Returns:
        (C, h, w); "nearest" keeps the type and exact values, "bilinear" makes float32 of integers (see `output_dtype`).
    """
    wanted = output_dtype(image.dtype, mode)
    part = image[:, window[0], window[1]]
    working = torch.float32 if _fits_float32(part) else torch.float64
    out = grid_sample(
        part[None].to(working),
        grid.to(part.device, working),
        mode=mode,
        padding_mode=padding_mode,
        align_corners=padding_mode == "reflection",
    )
    return out[0].to(wanted)


def crop(
    image: torch.Tensor, start: Sequence[int], size: Sequence[int], mode: str, padding_mode: str = "reflection"
) -> torch.Tensor:
    """Cut a tile that may lie partly or wholly beyond the image, by integer indices: no interpolation, exact.

    Args:
        image: (C, H, W).
        start: (row, column) of the first pixel, negative allowed.
        size: (h, w) of the tile.
        mode: decides the type only, so that a tile has the same type whether it was deformed or not.
        padding_mode: what lies beyond the image.

    Returns:
        (C, h, w).
    """
    check_choice("padding_mode", padding_mode, PADDING_MODES)
    wanted_dtype = output_dtype(image.dtype, mode)
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
    return out.to(wanted_dtype)


def output_dtype(dtype: torch.dtype, mode: str) -> torch.dtype:
    """Type after resampling: "nearest" and floating types keep theirs, interpolated integers become float32."""
    check_choice("mode", mode, MODES)
    return dtype if mode == "nearest" or dtype.is_floating_point else torch.float32


def centre_start(image_size: Sequence[int], size: Sequence[int]) -> tuple[int, int]:
    """First pixel (row, column) of a tile in the middle of the image; negative where the tile is larger."""
    return (image_size[0] - size[0]) // 2, (image_size[1] - size[1]) // 2


def tile_margin(input_size: Sequence[int], output_size: Sequence[int]) -> tuple[int, int]:
    """Pixels (rows, columns) between a tile and its output window: (92, 92) for 572 and 388.

    Raises:
        ValueError: the window is larger than the tile or cannot lie in its centre.
    """
    for wide, narrow in zip(input_size, output_size, strict=True):
        if not 1 <= narrow <= wide or (wide - narrow) % 2:
            raise ValueError(
                f"the output {tuple(output_size)} must lie in the centre of the input {tuple(input_size)}: "
                "at least 1 pixel, not larger than the input, and smaller by an even number"
            )
    return (input_size[0] - output_size[0]) // 2, (input_size[1] - output_size[1]) // 2


def check_image(image: torch.Tensor, name: str = "image") -> None:
    """Raise a ValueError unless `image` is (C, H, W) with at least one pixel."""
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"{name} must be (C, H, W) with at least one pixel, got {tuple(image.shape)}")


def _touched(low: int, high: int, length: int, reflecting: bool) -> tuple[int, int]:
    """First and last pixel of an axis that coordinates within [low, high] read, reflected or clamped.

    Where the cut-out is reflected, its edge must be the image's own; the other edge must be out of reach.
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


def _fits_float32(part: torch.Tensor) -> bool:
    """Whether float32 holds the values as they are (float16 and bfloat16 are computed in float32, too)."""
    if part.dtype in (torch.int32, torch.int64, torch.uint32, torch.uint64):
        low, high = torch.aminmax(part.to(torch.int64))
        return int(low) >= -_EXACT_IN_FLOAT32 and int(high) <= _EXACT_IN_FLOAT32
    return part.dtype != torch.float64
