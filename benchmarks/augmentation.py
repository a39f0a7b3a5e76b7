"""Measure a training tile of 572 with elastic deformation, applied to image, label and weight map.

Baselines:

- scipy, as in write-ups of the paper: an affine map, then Simard's recipe. The blur is a convolution with 25 x 25 taps,
  as described there, or two convolutions with 25 taps.
- MONAI's own transforms, in sequence.

Torch uses one thread, as in the worker processes of a data loader. The limit is the time of the three resamplings, with
a ready grid. Further rows compare single recipes with other packages.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Compose, Rand2DElasticd, RandAffined, RandFlipd
from scipy.ndimage import affine_transform, convolve, gaussian_filter, map_coordinates
from torch.nn import functional as F

from benchmarks.measure import Goal, Row, Setup, Times, Way, take_turns, threads
from scripts.transforms.elastic import Rand2DElasticCoarsed, Rand2DElasticSimardd, Rand2DElasticTiled

SIZE, OUTPUT = 572, 388
KEYS = ("image", "label", "weight")
MODES = ("bilinear", "nearest", "bilinear")
ORDERS = (1, 0, 1)  # scipy's words for the modes
TILE, MONAI = "ours: Rand2DElasticTiled", "MONAI: Rand2DElasticd, RandAffined, RandFlipd"
WRITE_UP, SEPARABLE = "scipy: affine map, then Simard's recipe", "the same, its blur along each axis"


def rows(setup: Setup) -> Iterator[Row]:
    """Measure the training tile against the baselines, then single recipes."""
    table = methods()
    grids = {size: _grid(size) for size in (SIZE, OUTPUT)}
    with threads(1):
        times = take_turns({**table, "limit": partial(_resamplings, grids)}, setup.repeats * 4, warm_up=2)
    limit = Times("three grid_sample", times["limit"])

    def row(what: str, ours: str, baseline: str, *goals: Goal) -> Row:
        return Row(what, Times(ours, times[ours]), Times(baseline, times[baseline]), limit, goals)

    yield row(f"training tile of {SIZE}: image, label, weight", TILE, WRITE_UP, Goal("times", 40))
    yield row(f"training tile of {SIZE}: image, label, weight", TILE, SEPARABLE)
    yield row(f"training tile of {SIZE}: image, label, weight", TILE, MONAI, Goal("times", 8))
    yield row("elastic deformation alone, whole planes", "ours: Rand2DElasticCoarsed", "MONAI: Rand2DElasticd")
    yield row("Simard's recipe alone", "ours: Rand2DElasticSimardd", "scipy: Simard's recipe")
    elastic = "elasticdeform: deform_random_grid"
    if elastic in table:
        yield row("elastic deformation alone, whole planes", "ours: Rand2DElasticCoarsed", elastic)


def sample_item(size: int) -> dict[Hashable, NdarrayOrTensor]:
    """Make a dictionary of image, label and weight map (1, size, size) with values as in training."""
    random_state = np.random.RandomState(0)
    image = gaussian_filter(random_state.normal(size=(1, size, size)), (0, 2, 2)).astype(np.float32)
    label = (image > 0).astype(np.uint8)
    arrays = (image, label, 1.0 + np.abs(image))
    return {key: MetaTensor(torch.from_numpy(array)) for key, array in zip(KEYS, arrays, strict=True)}


def methods() -> dict[str, Way]:
    """Return {name: function}. Each function draws once and applies the draw to three keys."""
    item = sample_item(SIZE)
    planes = [np.asarray(item[key])[0] for key in KEYS]
    random_state = np.random.RandomState(1)
    turned: dict[str, Any] = {"rotate_range": math.pi, "prob": 1.0}
    table: dict[str, Way] = {
        TILE: partial(Rand2DElasticTiled(KEYS, output_keys=KEYS[1:], mode=MODES), item),
        MONAI: partial(
            Compose(
                [
                    Rand2DElasticd(KEYS, spacing=SIZE / 2, magnitude_range=(10, 10), prob=1.0, mode=MODES),
                    RandAffined(KEYS, translate_range=(20, 20), mode=MODES, padding_mode="reflection", **turned),
                    RandFlipd(KEYS, prob=0.5, spatial_axis=0),
                    RandFlipd(KEYS, prob=0.5, spatial_axis=1),
                ]
            ),
            item,
        ),
        WRITE_UP: lambda: scipy_simard(scipy_turned(planes, random_state), random_state, blur_by_kernel),
        SEPARABLE: lambda: scipy_simard(scipy_turned(planes, random_state), random_state),
        "ours: Rand2DElasticCoarsed": partial(
            Rand2DElasticCoarsed(KEYS, rotate_range=math.pi, flip_prob=0.5, mode=MODES), item
        ),
        "MONAI: Rand2DElasticd": partial(
            Rand2DElasticd(KEYS, spacing=SIZE / 2, magnitude_range=(10, 10), mode=MODES, **turned), item
        ),
        "ours: Rand2DElasticSimardd": partial(Rand2DElasticSimardd(KEYS, mode=MODES), item),
        "scipy: Simard's recipe": partial(scipy_simard, planes, random_state),
    }
    elasticdeform = _elasticdeform()
    if elasticdeform is not None:
        table["elasticdeform: deform_random_grid"] = lambda: elasticdeform.deform_random_grid(
            planes, sigma=10, points=3, order=list(ORDERS), mode="mirror", rotate=random_state.uniform(-180, 180)
        )
    return table


def scipy_turned(planes: list[np.ndarray], random_state: np.random.RandomState) -> list[np.ndarray]:
    """Rotate by any angle, shift by up to 20 pixels and mirror at random."""
    angle = random_state.uniform(0, 2 * np.pi)
    mirror = random_state.choice([-1.0, 1.0], 2)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * mirror
    centre = (np.array(planes[0].shape) - 1) / 2
    offset = centre - matrix @ centre + random_state.uniform(-20, 20, 2)
    return [
        affine_transform(plane, matrix, offset, order=order, mode="mirror")
        for plane, order in zip(planes, ORDERS, strict=False)
    ]


def blur_by_axes(noise: np.ndarray) -> np.ndarray:
    """Blur by a Gaussian of 5 pixels, 25 wide, along each axis separately."""
    return gaussian_filter(noise, 5, mode="constant", truncate=12 / 5)


def blur_by_kernel(noise: np.ndarray) -> np.ndarray:
    """Blur by the same Gaussian as a convolution with 25 x 25 taps."""
    tap = np.exp(-0.5 * (np.arange(-12, 13) / 5) ** 2)
    return convolve(noise, np.outer(tap, tap) / tap.sum() ** 2, mode="constant")


def scipy_simard(
    planes: list[np.ndarray],
    random_state: np.random.RandomState,
    blur: Callable[[np.ndarray], np.ndarray] = blur_by_axes,
) -> list[np.ndarray]:
    """Apply Simard's recipe (doi 10.1109/ICDAR.2003.1227801) as commonly written with scipy."""
    place = np.indices(planes[0].shape, dtype=np.float64)
    for axis in range(2):
        place[axis] += 50 * blur(random_state.uniform(-1, 1, planes[0].shape))
    return [map_coordinates(p, place, order=k, mode="mirror") for p, k in zip(planes, ORDERS, strict=False)]


def _elasticdeform() -> ModuleType | None:
    """Import the package if installed. The wheel needs numpy 1, a build from source works with numpy 2."""
    try:
        return importlib.import_module("elasticdeform")
    except ImportError:
        return None


def _resamplings(grids: dict[int, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Resample image, label and weight, the least work of any method."""
    for size, mode in ((SIZE, "bilinear"), (OUTPUT, "nearest"), (OUTPUT, "bilinear")):
        grid, plane = grids[size]
        F.grid_sample(plane, grid, mode=mode, padding_mode="reflection", align_corners=True)


def _grid(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a grid rotated by 45 degrees, and a plane to read."""
    half = math.sqrt(0.5)
    turned = torch.tensor([[[half, -half, 0.0], [half, half, 0.0]]])
    return F.affine_grid(turned, [1, 1, size, size], align_corners=True), torch.rand(1, 1, SIZE, SIZE)
