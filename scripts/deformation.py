"""The paper's augmentation (Ronneberger 2015, Sec. 3.1): sample displacements, apply displacements.

Smooth elastic deformation from random vectors on a coarse 3 x 3 grid, Gaussian with 10 pixels standard deviation,
bicubic interpolation, together with rotation, shift and mirroring in ONE resampling. Here are the two pure functions
that pin down what a random transform does; the random transforms of `scripts.elastic_transforms` and
`scripts.elastic_dictionary` can be named from here as well.

The result agrees with `elasticdeform.deform_grid(image, displacements, order=1, mode="mirror")`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.utils import convert_to_dst_type, convert_to_tensor

from scripts.displacements import (
    CoarseField,
    SimardField,
    dense_displacements,
    sample_displacements,
    sample_simard_displacements,
)
from scripts.elastic_dictionary import Rand2DElasticCoarsed, Rand2DElasticSimardd, Rand2DElasticTiled
from scripts.elastic_transforms import Rand2DElasticCoarse, Rand2DElasticSimard
from scripts.resampling import (
    affine_matrix,
    centre_start,
    check_image,
    sample,
    sampling_coordinates,
    sampling_grid,
    tile_margin,
)

__all__ = [
    "CoarseField",
    "Rand2DElasticCoarse",
    "Rand2DElasticCoarsed",
    "Rand2DElasticSimard",
    "Rand2DElasticSimardd",
    "Rand2DElasticTiled",
    "SimardField",
    "affine_matrix",
    "apply_displacements",
    "dense_displacements",
    "extract_tile",
    "sample_displacements",
    "sample_simard_displacements",
]


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
    """Deform an image, or a tile of it, in one resampling.

    The tile's pixel x reads the image at `start + c + affine (x - c) + d(x)`, c being the centre of the tile.

    Args:
        image: (C, H, W), any real type, any device; an array gives an array, a MetaTensor keeps its meta data.
        displacements: pixels, (rows, columns): coarse (2, m, n) with the corner points on the tile's corner pixels, or
            dense (2, h, w); None: none.
        affine: (2, 3) or (3, 3), output to input about the tile's centre, see `affine_matrix`. None: identity.
        size: (h, w) of the tile. None: the image's.
        start: (row, column) of the tile's first pixel in the image; the tile may lie beyond it. None: centred.
        mode: "bilinear", or "nearest" for labels, which keeps type and values.
        padding_mode: beyond the image: "reflection" mirrors without repeating the edge pixel; "border"; "zeros".

    Returns:
        (C, h, w); "bilinear" makes float32 of integers, all other types are kept.

    Raises:
        ValueError: an argument of another shape, an empty image or tile, an unknown mode, displacements not finite.
    """
    source = convert_to_tensor(image)
    check_image(source)
    image_size = tuple(source.shape[1:])
    size = image_size if size is None else tuple(size)
    start = centre_start(image_size, size) if start is None else start
    coordinates = sampling_coordinates(size, displacements, affine, source.device)
    window, grid = sampling_grid(coordinates, start, image_size, padding_mode)
    out = sample(source, window, grid, mode, padding_mode)
    return convert_to_dst_type(out, image, dtype=out.dtype)[0]


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
    """One training tile: the deterministic twin of `Rand2DElasticTiled`.

    Args:
        image: (C, H, W).
        displacements: of the whole input tile, as in `apply_displacements`.
        start: (row, column) in the image of the first pixel of the *output* window, before the deformation.
        input_size: (h, w) of the tile that the network takes in; it is deformed about its centre.
        output_size: (h, w) of the window in its centre that the network puts out. None: the whole tile.
        crop_to_output: return only that window, as for labels and weights.
        affine, mode, padding_mode: as in `apply_displacements`.

    Returns:
        (C, *input_size), or (C, *output_size) with `crop_to_output`.

    Raises:
        ValueError: the output is larger than the input or cannot lie in its centre; and as `apply_displacements`.
    """
    margin = tile_margin(input_size, input_size if output_size is None else output_size)
    tile = apply_displacements(
        image,
        displacements,
        affine=affine,
        size=input_size,
        start=(start[0] - margin[0], start[1] - margin[1]),
        mode=mode,
        padding_mode=padding_mode,
    )
    if not crop_to_output:
        return tile
    return tile[:, margin[0] : input_size[0] - margin[0], margin[1] : input_size[1] - margin[1]]
