"""The paper's augmentation (Ronneberger 2015, Sec. 3.1): sample displacements, apply displacements.

Smooth elastic deformation from random vectors on a coarse 3 x 3 grid, Gaussian with 10 pixels standard deviation,
bicubic interpolation, together with rotation, shift and mirroring in ONE resampling.

Random transforms have the interface of MONAI's `Rand2DElastic` for an image, of `Rand2DElasticd` for a dictionary.
`apply_displacements` and `extract_tile` are their deterministic twins and agree with
`elasticdeform.deform_grid(image, displacements, order=1, mode="mirror")`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, Rand2DElastic, Rand2DElasticd, RandAffineGrid, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple, ensure_tuple_rep, fall_back_tuple

from scripts.networks import geometry
from scripts.transforms.displacements import CoarseField, Field, SimardField
from scripts.transforms.resampling import (
    affine_matrix,
    centre_start,
    check_image,
    crop,
    sample,
    sampling_coordinates,
    sampling_grid,
    tile_margin,
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
            field: draws the displacements, see `scripts.transforms.Field`.
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


class Rand2DElasticFieldd(Rand2DElasticd):
    """Dictionary version of `Rand2DElasticField`: all keys are moved by the same field.

    The images of all keys must have one height and width. What is drawn does not depend on which keys there are.
    """

    def __init__(
        self,
        keys: KeysCollection,
        field: Field,
        spatial_size: Sequence[int] | int | None = None,
        prob: float = 1.0,
        rotate_range: Range = None,
        shear_range: Range = None,
        translate_range: Range = None,
        scale_range: Range = None,
        flip_prob: float = 0.0,
        mode: Sequence[str] | str = "bilinear",
        padding_mode: Sequence[str] | str = "reflection",
        device: torch.device | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        """Declare the random transform.

        Args:
            keys: items to transform, each (C, H, W).
            field, spatial_size, prob, rotate_range, shear_range, translate_range, scale_range, flip_prob, device: as in
                `Rand2DElasticField`.
            mode: "bilinear", or "nearest" for labels: one for all keys or one for each.
            padding_mode: one for all keys or one for each.
            allow_missing_keys: pass over keys that an item lacks.
        """
        # not Rand2DElasticd.__init__, for the reason given in Rand2DElasticField
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.rand_2d_elastic: Rand2DElasticField = Rand2DElasticField(
            field,
            prob=1.0,  # the probability is drawn by this class
            rotate_range=rotate_range,
            shear_range=shear_range,
            translate_range=translate_range,
            scale_range=scale_range,
            flip_prob=flip_prob,
            spatial_size=spatial_size,
            device=device,
        )
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.padding_mode = ensure_tuple_rep(padding_mode, len(self.keys))

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> Rand2DElasticFieldd:
        """Seed the transform; all its parts draw from one state."""
        RandomizableTransform.set_random_state(self, seed, state)
        self.rand_2d_elastic.set_random_state(state=self.R)
        return self

    def set_device(self, device: torch.device | None) -> None:
        """Compute sampling grids on `device`; None: where the image lies."""
        self.rand_2d_elastic.set_device(device)

    def randomize(self, data: Any = None) -> None:
        """Draw whether to transform and, if so, the transform of a tile of (h, w) = `data`."""
        RandomizableTransform.randomize(self, None)
        self.rand_2d_elastic.displacements = self.rand_2d_elastic.affine = None
        if self._do_transform:
            self.rand_2d_elastic.randomize(data)

    def draw(self, image_size: tuple[int, ...]) -> DrawnTile:
        """Draw a tile from images of (H, W) = `image_size`."""
        size = fall_back_tuple(self.rand_2d_elastic.spatial_size, image_size)
        self.randomize(size)
        return DrawnTile(self.rand_2d_elastic, image_size, size, centre_start(image_size, size))

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Transform the items of `keys`, each (C, H, W), alike; other items are passed on.

        Raises:
            ValueError: an item is not (C, H, W), or differs in height or width from the first.
            KeyError: a key is missing and `allow_missing_keys` is off.
        """
        d = dict(data)
        images = {key: _as_tensor(d[key]) for key in self.key_iterator(d)}
        if not images:
            return d
        sizes = {key: _image_size(image, key) for key, image in images.items()}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{key!r} {height} x {width}" for key, (height, width) in sizes.items())
            raise ValueError(f"one field moves all keys, so their images must have one size; got {listed}")
        tile = self.draw(next(iter(sizes.values())))
        for key, mode, padding_mode in self.key_iterator(d, self.mode, self.padding_mode):
            d[key] = tile.read(images[key], mode, padding_mode, to_output=self.is_output(key))
        return d

    def is_output(self, key: Hashable) -> bool:
        """Whether `key` is cut to the network's output; never, where tile and output are one."""
        return False


class Rand2DElasticCoarsed(Rand2DElasticFieldd):
    """Dictionary version of `Rand2DElasticCoarse`, where it is told why MONAI's own does not serve as it is."""

    def __init__(
        self, keys: KeysCollection, points: int | Sequence[int] = (3, 3), sigma: float = 10.0, **kwargs: Any
    ) -> None:
        """Declare the random transform.

        Args:
            keys: items to transform, each (C, H, W).
            points, sigma: as in `Rand2DElasticCoarse`.
            kwargs: all other arguments of `Rand2DElasticFieldd`.
        """
        super().__init__(keys, CoarseField(points, sigma), **kwargs)


class Rand2DElasticSimardd(Rand2DElasticFieldd):
    """Dictionary version of `Rand2DElasticSimard` (doi 10.1109/ICDAR.2003.1227801)."""

    def __init__(
        self,
        keys: KeysCollection,
        alpha: float = 50.0,
        sigma: float = 5.0,
        kernel_size: int = 25,
        **kwargs: Any,
    ) -> None:
        """Declare the random transform.

        Args:
            keys: items to transform, each (C, H, W).
            alpha, sigma, kernel_size: as in `Rand2DElasticSimard`.
            kwargs: all other arguments of `Rand2DElasticFieldd`.
        """
        super().__init__(keys, SimardField(alpha, sigma, kernel_size), **kwargs)


class Rand2DElasticTiled(Rand2DElasticFieldd):
    """The training sample: draw a tile anywhere in the image, mirror beyond it, deform it; cut labels to the output.

    The *output* window (388 x 388 of 572 x 572) is placed anywhere inside the image with equal probability, so that the
    92 pixels of context may lie beyond it, mirrored (Fig. 2). Where the image is smaller than the output, it is placed
    anywhere inside the window instead. Then the whole input tile is mirrored, turned, shifted and deformed about its
    centre in one resampling straight from the image: no extended image is made, and labels are only computed where the
    network has an output. Turned and deformed, the window too may show mirrored context; labels are mirrored alike.

    Without the transform (`prob`) the tile is still drawn, and cut out by integer indices.

    `extract_tile` is the deterministic twin: with `start`, and `displacements` and `affine` of `rand_2d_elastic`, it
    repeats the last draw.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_keys: KeysCollection = (),
        input_size: Sequence[int] | int = 572,
        output_size: Sequence[int] | int | None = None,
        depth: int = 4,
        field: Field | None = None,
        rotate_range: Range = math.pi,
        flip_prob: float = 0.5,
        **kwargs: Any,
    ) -> None:
        """Declare the random tile.

        Args:
            keys: items to transform, each (C, H, W).
            output_keys: those of `keys` that are cut to the output: label and weight.
            input_size: pixels that the network takes in: (h, w), or one number for both.
            output_size: pixels that it puts out, in the centre of the input. None: of the unpadded network with `depth`
                poolings; for a padded network give the input size.
            depth: poolings of the network, used for `output_size=None` alone.
            field: draws the displacements. None: the paper's, `CoarseField(points=(3, 3), sigma=10.0)`;
                `SimardField()` for Simard's.
            rotate_range: radians as in MONAI's `Rand2DElastic`. Any angle by default: ours, the paper asks for
                "rotation invariance" without a range.
            flip_prob: probability of mirroring each axis. Ours: the paper does not name mirroring.
            kwargs: all other arguments of `Rand2DElasticFieldd` but `spatial_size`.

        Raises:
            ValueError: sizes that do not fit the network or each other, or an output key that is not among `keys`.
        """
        super().__init__(
            keys,
            field or CoarseField(),
            rotate_range=rotate_range,
            flip_prob=flip_prob,
            spatial_size=input_size,
            **kwargs,
        )
        self.output_keys = ensure_tuple(output_keys)
        unknown = [key for key in self.output_keys if key not in self.keys]
        if unknown:
            raise ValueError(f"output_keys {unknown} are not among keys {list(self.keys)}")
        self.input_size: tuple[int, int] = ensure_tuple_rep(input_size, 2)
        self.output_size: tuple[int, int]
        if output_size is None:
            height, width = self.input_size
            self.output_size = geometry.output_size(height, depth), geometry.output_size(width, depth)
        else:
            self.output_size = ensure_tuple_rep(output_size, 2)
        self.margin = tile_margin(self.input_size, self.output_size)
        self.start = (0, 0)

    def draw(self, image_size: tuple[int, ...]) -> DrawnTile:
        """Draw where the output window starts, then the transform of the tile around it."""
        spare = [image - window for image, window in zip(image_size, self.output_size, strict=True)]
        row, col = (int(self.R.randint(min(0, room), max(0, room) + 1)) for room in spare)
        self.start = (row, col)
        self.randomize(self.input_size)
        first = (row - self.margin[0], col - self.margin[1])
        return DrawnTile(self.rand_2d_elastic, image_size, self.input_size, first, self.margin)

    def is_output(self, key: Hashable) -> bool:
        """Whether `key` is cut to the network's output."""
        return key in self.output_keys


def _as_tensor(image: NdarrayOrTensor) -> torch.Tensor:
    """As MONAI's transforms take it; a tensor without metadata stays so, which saves a third of a tile's time."""
    plain = isinstance(image, torch.Tensor) and not isinstance(image, MetaTensor)
    return convert_to_tensor(image, track_meta=get_track_meta() and not plain)


def _image_size(image: torch.Tensor, key: Hashable) -> tuple[int, int]:
    check_image(image, f"item {key!r}")
    return image.shape[1], image.shape[2]


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
