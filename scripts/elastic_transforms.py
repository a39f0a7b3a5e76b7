"""Random elastic transforms of one image with the interface of MONAI's `Rand2DElastic`.

The random part is here, what it does to an image in `scripts.resampling`; the dictionary versions are in
`scripts.elastic_dictionary`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_obj import get_track_meta
from monai.transforms import Rand2DElastic, RandAffineGrid, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor, fall_back_tuple

from scripts.displacements import CoarseField, Field, SimardField
from scripts.resampling import (
    affine_matrix,
    centre_start,
    check_image,
    crop,
    sample,
    sampling_coordinates,
    sampling_grid,
)

Range = Sequence[tuple[float, float] | float] | float | None


class Rand2DElasticField(Rand2DElastic):
    """Displacements of any random field with MONAI's affine map and mirroring, in one resampling: the common base.

    Without the transform (probability 1 - `prob`) the tile is cut out by integer indices, mirrored beyond the image.
    As with MONAI's there is no inverse, and the `affine` in a MetaTensor's meta data is left as it was.
    """

    def __init__(
        self,
        field: Field,
        prob: float = 1.0,
        rotate_range: Range = None,
        shear_range: Range = None,
        translate_range: Range = None,
        scale_range: Range = None,
        flip_prob: float = 0.0,
        spatial_size: Sequence[int] | int | None = None,
        mode: str = "bilinear",
        padding_mode: str = "reflection",
        device: torch.device | None = None,
    ) -> None:
        """Declare the random transform.

        Args:
            field: draws the displacements, see `scripts.displacements.Field`.
            prob: probability of the transform; else the centre is cut out.
            rotate_range, shear_range, translate_range, scale_range: as in MONAI's `Rand2DElastic` (radians, positive
                turns the picture clockwise; factors; pixels; added to 1). A sequence has one entry per parameter (one
                angle, two of the others), each x for uniform in [-x, x] or a pair (low, high): angles from 0 to 1 are
                `((0, 1),)`. A single number x stands for `(x,)`, the first parameter alone.
            flip_prob: probability of mirroring each axis, independently of the other; MONAI's has no mirroring.
            spatial_size: (h, w) of the tile in the middle of the image; None or not positive: the image's.
            mode: "bilinear" or "nearest".
            padding_mode: "reflection" (without the edge pixel), "border" or "zeros".
            device: where the sampling grid is computed. None: where the image lies.
        """
        # not Rand2DElastic.__init__: it would build the control grid of absolute coordinates that does not serve
        RandomizableTransform.__init__(self, prob)
        self.field = field
        self.rand_affine_grid = RandAffineGrid(rotate_range, shear_range, translate_range, scale_range, lazy=True)
        self.flip_prob = flip_prob
        self.spatial_size = spatial_size  # type: ignore[assignment]  # MONAI's annotation has no sequences
        self.mode = mode
        self.padding_mode = padding_mode
        self.device = device
        self.displacements: np.ndarray | None = None
        self.affine: np.ndarray | None = None

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> Rand2DElasticField:
        """Seed the transform. All its parts draw from one state: equal seeds for each would repeat one stream."""
        RandomizableTransform.set_random_state(self, seed, state)
        self.rand_affine_grid.set_random_state(state=self.R)
        return self

    def set_device(self, device: torch.device | None) -> None:
        """Compute sampling grids on `device`; None: where the image lies."""
        self.device = device

    def randomize(self, spatial_size: Sequence[int]) -> None:
        """Draw whether to transform, then mirroring, affine map and displacements of a tile of `spatial_size`."""
        RandomizableTransform.randomize(self, None)
        self.displacements = self.affine = None
        if not self._do_transform:
            return
        flip = [bool(chance < self.flip_prob) for chance in self.R.random_sample(2)]
        self.rand_affine_grid(spatial_size)
        drawn = self.rand_affine_grid.get_transformation_matrix()
        self.affine = np.asarray(torch.as_tensor(drawn).cpu(), dtype=np.float64) @ affine_matrix(flip=flip)
        self.displacements = self.field(spatial_size, self.R)

    def __call__(
        self,
        img: torch.Tensor,
        spatial_size: Sequence[int] | int | None = None,
        mode: str | int | None = None,
        padding_mode: str | None = None,
        randomize: bool = True,
    ) -> torch.Tensor:
        """Deform one image; an argument that is None is taken from the constructor.

        Args:
            img: (C, H, W).
            spatial_size: (h, w) of the tile.
            mode: "bilinear" or "nearest".
            padding_mode: what lies beyond the image.
            randomize: draw anew; False: as in the call before.

        Returns:
            (C, h, w); "nearest" and floating types are kept, interpolated integers become float32.
        """
        img = convert_to_tensor(img, track_meta=get_track_meta())
        check_image(img)
        image_size = tuple(img.shape[1:])
        size = fall_back_tuple(self.spatial_size if spatial_size is None else spatial_size, image_size)
        if randomize:
            self.randomize(size)
        tile = DrawnTile(self, image_size, size, centre_start(image_size, size))
        return tile.read(img, self.mode if mode is None else mode, padding_mode or self.padding_mode)


class Rand2DElasticCoarse(Rand2DElasticField):
    """The paper's random elastic deformation: Gaussian displacements on a coarse grid, bicubic in between (Sec. 3.1).

    Why MONAI's own `Rand2DElastic` does not serve as it is:

    - Its control grid always has points beyond the image (6 x 6 for a 572 tile at spacing 256): 3 x 3 is impossible.
    - It interpolates absolute coordinates, which moves the image even without displacement, by up to 4.8 % of the
      spacing: 12.3 pixels at spacing 256 and magnitude 0 (a test measures it). Here displacements are interpolated.
    - Its reflection repeats the edge pixel; the authors' mirroring does not.
    - It interpolates a grid of coordinates for every pixel and resamples in float64: `python -m benchmarks.deformation`
      compares the times.
    - A seed is given to each of its parts alike, so that they draw from equal streams of random numbers.

    In all else it is MONAI's transform with mirroring added.
    """

    def __init__(self, points: int | Sequence[int] = (3, 3), sigma: float = 10.0, **kwargs: Any) -> None:
        """Declare the random transform.

        Args:
            points: control points along the rows and the columns; the corners lie on the tile's corner pixels.
            sigma: standard deviation of the displacements in pixels.
            kwargs: all arguments of `Rand2DElasticField` but `field`, from `prob` on.
        """
        super().__init__(field=CoarseField(points, sigma), **kwargs)


class Rand2DElasticSimard(Rand2DElasticField):
    """Elastic deformation by blurred noise (Simard 2003, Sec. 2, doi 10.1109/ICDAR.2003.1227801).

    Uniform noise in [-1, 1] for every pixel, Gaussian blur, times `alpha`; the image is interpolated linearly.
    """

    def __init__(self, alpha: float = 50.0, sigma: float = 5.0, kernel_size: int = 25, **kwargs: Any) -> None:
        """Declare the random transform.

        Args:
            alpha: factor after the blur, in pixels.
            sigma: standard deviation of the blur in pixels.
            kernel_size: width of the blur's kernel in pixels, odd.
            kwargs: all arguments of `Rand2DElasticField` but `field`, from `prob` on.
        """
        super().__init__(field=SimardField(alpha, sigma, kernel_size), **kwargs)


class DrawnTile:
    """What a transform has drawn for one tile, to be read from one image after the other.

    The sampling grid is computed once for all images of one padding mode.
    """

    def __init__(
        self,
        drawn: Rand2DElasticField,
        image_size: tuple[int, ...],
        size: Sequence[int],
        start: Sequence[int],
        margin: Sequence[int] = (0, 0),
    ) -> None:
        """Take what was drawn.

        Args:
            drawn: its `displacements` and `affine`; both None: the tile is cut out and not resampled.
            image_size: (H, W) of all images.
            size: (h, w) of the tile.
            start: (row, column) of the tile's first pixel in the image, negative allowed.
            margin: pixels (rows, columns) on each side of the tile that belong to the input alone.
        """
        self.drawn = drawn
        self.image_size = image_size
        self.size = size
        self.start = start
        self.margin = margin
        self._grids: dict[str, tuple[tuple[slice, slice], torch.Tensor]] = {}

    def read(self, image: torch.Tensor, mode: str | int, padding_mode: str, to_output: bool = False) -> torch.Tensor:
        """Read the tile from `image` (C, H, W); with `to_output` only its window inside the margin."""
        (top, left), (height, width) = self.margin if to_output else (0, 0), self.size
        plain = torch.Tensor.as_subclass(image, torch.Tensor)
        if self.drawn.displacements is None and self.drawn.affine is None:
            start = (self.start[0] + top, self.start[1] + left)
            out = crop(plain, start, (height - 2 * top, width - 2 * left), str(mode), padding_mode)
        else:
            window, grid = self._grid(padding_mode, plain.device)
            grid = grid[:, top : height - top, left : width - left]
            out = sample(plain, window, grid, str(mode), padding_mode)
        return convert_to_dst_type(out, image, dtype=out.dtype)[0]

    def _grid(self, padding_mode: str, device: torch.device) -> tuple[tuple[slice, slice], torch.Tensor]:
        if padding_mode not in self._grids:
            device = self.drawn.device or device
            coordinates = sampling_coordinates(self.size, self.drawn.displacements, self.drawn.affine, device)
            self._grids[padding_mode] = sampling_grid(coordinates, self.start, self.image_size, padding_mode)
        return self._grids[padding_mode]
