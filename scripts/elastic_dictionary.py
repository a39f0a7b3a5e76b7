"""Random elastic transforms of dictionaries with the interface of MONAI's `Rand2DElasticd`, and the training tile."""

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
from monai.transforms import MapTransform, Rand2DElasticd, RandomizableTransform
from monai.utils import convert_to_tensor, ensure_tuple, ensure_tuple_rep, fall_back_tuple

from scripts import geometry
from scripts.displacements import CoarseField, Field, SimardField
from scripts.elastic_transforms import DrawnTile, Rand2DElasticField, Range
from scripts.resampling import centre_start, check_image, tile_margin


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

    `extract_tile` in `scripts.deformation` is the deterministic twin: with `start`, and `displacements` and `affine` of
    `rand_2d_elastic`, it repeats the last draw.
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
