"""Augment images with the paper's random elastic deformation (Ronneberger 2015, Sec. 3.1).

Random vectors on a coarse 3 x 3 grid, Gaussian with 10 pixels standard deviation, are interpolated bicubically.
Deformation, rotation, shift and mirroring are ONE resampling.

The transforms have the interface of MONAI's `Rand2DElastic` (for an image) and `Rand2DElasticd` (for a dictionary).
`apply_displacements` and `extract_tile` are the deterministic versions.
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
from monai.utils import convert_to_tensor, ensure_tuple, ensure_tuple_rep, fall_back_tuple

from ..networks import geometry
from .displacements import CoarseField, Field, SimardField
from .resampling import DrawnTile, affine_matrix, centre_start, check_image, tile_margin

Range = Sequence[tuple[float, float] | float] | float | None
Size = Sequence[int] | int | None


class Rand2DElasticField(Rand2DElastic):
    """Deform an image by any random displacement field, with MONAI's affine map and mirroring, in one resampling.

    Without the transform (probability 1 - `prob`), the tile is cut out by integer indices, mirrored beyond the image.
    As in MONAI, there is no inverse, and the `affine` in a MetaTensor's metadata is not updated.

    Args:
        field: draws the displacements, see `scripts.transforms.Field`.
        prob: probability of the transform. Otherwise the centre is cut out.
        rotate_range, shear_range, translate_range, scale_range: as in MONAI's `Rand2DElastic`. Units: radians
            (positive turns the picture clockwise), factors, pixels, and a number added to 1. A sequence has one
            entry per parameter (one angle, two of the rest). Each entry is x for uniform in [-x, x], or a pair
            (low, high): angles from 0 to 1 are `((0, 1),)`. A single number x means `(x,)`, the first parameter.
        flip_prob: probability of mirroring each axis independently. MONAI's transform has no mirroring.
        spatial_size: (h, w) of the tile in the middle of the image. None or not positive: the image's.
        mode: "bilinear" or "nearest".
        padding_mode: "reflection" (without the edge pixel), "border" or "zeros".
        device: where the sampling grid is computed. None: where the image lies.
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
        spatial_size: Size = None,
        mode: str = "bilinear",
        padding_mode: str = "reflection",
        device: torch.device | None = None,
    ) -> None:
        # without Rand2DElastic.__init__, which would build a control grid of absolute coordinates
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
        """Seed the transform. All parts share one random state, because equal seeds would give equal streams."""
        RandomizableTransform.set_random_state(self, seed, state)
        self.rand_affine_grid.set_random_state(state=self.R)
        return self

    def set_device(self, device: torch.device | None) -> None:
        """Compute sampling grids on `device`. None: where the image lies."""
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

    def tile(
        self, image_size: tuple[int, ...], size: Sequence[int], start: Sequence[int], margin: Sequence[int] = (0, 0)
    ) -> DrawnTile:
        """Return the tile with the displacements and the affine map of the last draw. Arguments as in `DrawnTile`."""
        return DrawnTile(self.displacements, self.affine, image_size, size, start, margin, self.device)

    def __call__(
        self,
        img: torch.Tensor,
        spatial_size: Size = None,
        mode: str | int | None = None,
        padding_mode: str | None = None,
        randomize: bool = True,
    ) -> torch.Tensor:
        """Deform one image. Arguments that are None are taken from the constructor.

        Args:
            img: (C, H, W).
            spatial_size: (h, w) of the tile.
            mode: "bilinear" or "nearest".
            padding_mode: "reflection", "border" or "zeros" beyond the image.
            randomize: draw anew. False: repeat the previous draw.

        Returns:
            (C, h, w). "nearest" and floating types are kept, interpolated integers become float32.
        """
        img = convert_to_tensor(img, track_meta=get_track_meta())
        check_image(img)
        image_size = tuple(img.shape[1:])
        size = fall_back_tuple(self.spatial_size if spatial_size is None else spatial_size, image_size)
        if randomize:
            self.randomize(size)
        tile = self.tile(image_size, size, centre_start(image_size, size))
        return tile.read(img, self.mode if mode is None else mode, padding_mode or self.padding_mode)


class Rand2DElasticCoarse(Rand2DElasticField):
    """Deform an image as in the paper: Gaussian displacements on a coarse grid, bicubic interpolation (Sec. 3.1).

    MONAI's own `Rand2DElastic` is not used, for five reasons:

    - Its control grid always has points beyond the image (6 x 6 for a 572 tile at spacing 256): 3 x 3 is impossible.
    - It interpolates absolute coordinates. The image moves even without displacement, by up to 4.8 % of the spacing:
      12.3 pixels at spacing 256 and magnitude 0 (a test measures it). Here displacements are interpolated.
    - Its reflection repeats the edge pixel. The authors' mirroring does not.
    - It is slower, because it resamples in float64.
    - Its parts get the same seed and draw equal random numbers.

    Args:
        points, sigma: as in `scripts.transforms.sample_displacements`.
        kwargs: arguments of `Rand2DElasticField` except `field`.

    Example:
        >>> transform = Rand2DElasticCoarse(rotate_range=np.pi, flip_prob=0.5).set_random_state(0)
        >>> transform(torch.rand(1, 64, 64)).shape
        torch.Size([1, 64, 64])
    """

    def __init__(self, points: int | Sequence[int] = (3, 3), sigma: float = 10.0, **kwargs: Any) -> None:
        super().__init__(CoarseField(points, sigma), **kwargs)


class Rand2DElasticSimard(Rand2DElasticField):
    """Deform an image by blurred noise (Simard 2003, Sec. 2, doi 10.1109/ICDAR.2003.1227801).

    Args:
        alpha, sigma, kernel_size: as in `scripts.transforms.sample_simard_displacements`.
        kwargs: arguments of `Rand2DElasticField` except `field`.
    """

    def __init__(self, alpha: float = 50.0, sigma: float = 5.0, kernel_size: int = 25, **kwargs: Any) -> None:
        super().__init__(SimardField(alpha, sigma, kernel_size), **kwargs)


class Rand2DElasticFieldd(Rand2DElasticd):
    """Deform all keys of a dictionary by the same field. Dictionary version of `Rand2DElasticField`.

    The images of all keys must have the same height and width. The random draw does not depend on the
    keys present, but without any key nothing is drawn.

    Args:
        keys: items to transform, each (C, H, W).
        field, spatial_size, prob: as in `Rand2DElasticField`.
        mode: "bilinear", or "nearest" for labels. A single mode, or one per key.
        padding_mode: as in `Rand2DElasticField`. A single mode, or one per key.
        allow_missing_keys: skip missing keys.
        kwargs: `rotate_range`, `shear_range`, `translate_range`, `scale_range`, `flip_prob` and `device` of
            `Rand2DElasticField`.
    """

    output_keys: tuple[Hashable, ...] = ()

    def __init__(
        self,
        keys: KeysCollection,
        field: Field,
        spatial_size: Size = None,
        prob: float = 1.0,
        mode: Sequence[str] | str = "bilinear",
        padding_mode: Sequence[str] | str = "reflection",
        allow_missing_keys: bool = False,
        **kwargs: Any,
    ) -> None:
        # without Rand2DElasticd.__init__, as in Rand2DElasticField
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        # its probability stays 1, since this class draws whether to transform
        self.rand_2d_elastic: Rand2DElasticField = Rand2DElasticField(field, spatial_size=spatial_size, **kwargs)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.padding_mode = ensure_tuple_rep(padding_mode, len(self.keys))

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> Rand2DElasticFieldd:
        """Seed the transform. All parts share one random state."""
        RandomizableTransform.set_random_state(self, seed, state)
        self.rand_2d_elastic.set_random_state(state=self.R)
        return self

    def set_device(self, device: torch.device | None) -> None:
        """Compute sampling grids on `device`. None: where the image lies."""
        self.rand_2d_elastic.set_device(device)

    def randomize(self, data: Any = None) -> None:
        """Draw whether to transform, then the transform of a tile of (h, w) = `data`."""
        RandomizableTransform.randomize(self, None)
        self.rand_2d_elastic.displacements = self.rand_2d_elastic.affine = None
        if self._do_transform:
            self.rand_2d_elastic.randomize(data)

    def draw(self, image_size: tuple[int, ...]) -> DrawnTile:
        """Draw a tile from images of (H, W) = `image_size`."""
        size = fall_back_tuple(self.rand_2d_elastic.spatial_size, image_size)
        self.randomize(size)
        return self.rand_2d_elastic.tile(image_size, size, centre_start(image_size, size))

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Transform the items of `keys`, each (C, H, W). Other items are not changed.

        Raises:
            ValueError: an item is not (C, H, W), or differs in height or width from the first.
            KeyError: a key is missing and `allow_missing_keys` is off.
        """
        d = dict(data)
        images = {key: _as_tensor(d[key]) for key in self.key_iterator(d)}
        if not images:
            return d
        for key, image in images.items():
            check_image(image, f"item {key!r}")
        sizes = {key: tuple(image.shape[1:]) for key, image in images.items()}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{key!r} {height} x {width}" for key, (height, width) in sizes.items())
            raise ValueError(f"the images of all keys must have one size, got {listed}")
        tile = self.draw(next(iter(sizes.values())))
        for key, mode, padding_mode in self.key_iterator(d, self.mode, self.padding_mode):
            d[key] = tile.read(images[key], mode, padding_mode, to_output=key in self.output_keys)
        return d


class Rand2DElasticCoarsed(Rand2DElasticFieldd):
    """Deform all keys of a dictionary as in the paper. Dictionary version of `Rand2DElasticCoarse`.

    Args:
        keys: items to transform, each (C, H, W).
        points, sigma: as in `Rand2DElasticCoarse`.
        kwargs: arguments of `Rand2DElasticFieldd` except `field`.
    """

    def __init__(
        self, keys: KeysCollection, points: int | Sequence[int] = (3, 3), sigma: float = 10.0, **kwargs: Any
    ) -> None:
        super().__init__(keys, CoarseField(points, sigma), **kwargs)


class Rand2DElasticSimardd(Rand2DElasticFieldd):
    """Deform all keys of a dictionary by blurred noise. Dictionary version of `Rand2DElasticSimard`.

    Args:
        keys: items to transform, each (C, H, W).
        alpha, sigma, kernel_size: as in `Rand2DElasticSimard`.
        kwargs: arguments of `Rand2DElasticFieldd` except `field`.
    """

    def __init__(
        self, keys: KeysCollection, alpha: float = 50.0, sigma: float = 5.0, kernel_size: int = 25, **kwargs: Any
    ) -> None:
        super().__init__(keys, SimardField(alpha, sigma, kernel_size), **kwargs)


class Rand2DElasticTiled(Rand2DElasticFieldd):
    """Draw a training tile anywhere in the image and deform it. Labels are cut to the network's output.

    1. The *output* window (388 x 388 of 572 x 572) is placed anywhere inside the image with equal probability. The 92
       pixels of context may lie beyond the image, mirrored (Fig. 2). If the image is smaller than the window, the image
       is placed anywhere inside the window.
    2. The input tile is mirrored, rotated, shifted and deformed about its centre, in one resampling of the image. No
       extended image is made, and labels are computed only in the output window. After rotation and deformation, the
       window may show mirrored context too, with mirrored labels.

    Without the transform (probability 1 - `prob`), the tile is drawn and cut out by integer indices. `extract_tile`
    repeats the last draw, if called with `start`, and with `displacements` and `affine` of `rand_2d_elastic`.

    Args:
        keys: items to transform, each (C, H, W).
        output_keys: of `keys`, cut to the output: label and weight.
        input_size: pixels of the network's input: (h, w), or one number for both.
        output_size: pixels of the network's output, in the centre of the input. None: of the unpadded network with
            `depth` poolings. For a padded network, give the input size.
        depth: poolings of the network, used only for `output_size=None`.
        field: draws the displacements. None: the paper's, `CoarseField(points=(3, 3), sigma=10.0)`. For Simard's,
            give `SimardField()`.
        rotate_range: radians, as in MONAI's `Rand2DElastic`. The default, any angle, is ours: the paper asks for
            "rotation invariance" without a range.
        flip_prob: probability of mirroring each axis. Ours: the paper does not mention mirroring.
        kwargs: arguments of `Rand2DElasticFieldd` except `spatial_size`.

    Raises:
        ValueError: the sizes do not fit the network or each other, or `keys` lacks an output key.

    Example:
        >>> tile = Rand2DElasticTiled(["image", "label"], output_keys="label", mode=["bilinear", "nearest"])
        >>> out = tile({"image": torch.rand(1, 512, 512), "label": torch.ones(1, 512, 512)})
        >>> out["image"].shape, out["label"].shape
        (torch.Size([1, 572, 572]), torch.Size([1, 388, 388]))
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_keys: KeysCollection = (),
        input_size: Sequence[int] | int = 572,
        output_size: Size = None,
        depth: int = 4,
        field: Field | None = None,
        rotate_range: Range = math.pi,
        flip_prob: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            keys, field or CoarseField(), input_size, rotate_range=rotate_range, flip_prob=flip_prob, **kwargs
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
        """Draw where the output window starts, then the transform of the tile around the window."""
        spare = [image - window for image, window in zip(image_size, self.output_size, strict=True)]
        row, col = (int(self.R.randint(min(0, room), max(0, room) + 1)) for room in spare)
        self.start = (row, col)
        self.randomize(self.input_size)
        first = (row - self.margin[0], col - self.margin[1])
        return self.rand_2d_elastic.tile(image_size, self.input_size, first, self.margin)


def _as_tensor(image: NdarrayOrTensor) -> torch.Tensor:
    """Convert as MONAI's transforms do, but keep tensors without metadata plain: a third less time for a tile."""
    plain = isinstance(image, torch.Tensor) and not isinstance(image, MetaTensor)
    return convert_to_tensor(image, track_meta=get_track_meta() and not plain)
