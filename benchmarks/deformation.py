"""Times of the elastic deformation of one 572 x 572 training tile: `python -m benchmarks.deformation`.

All methods move an image and a weight map (bilinear) and a label (nearest) by one random field; all but Simard's recipe
turn them by a random angle as well. They take turns in one run, so that other load on the machine meets all of them
alike. The last column is the time as a multiple of ours for the same keys and recipe (the paper's or Simard's). "tile"
is what training asks for: label and weight of 388 x 388 only.

    python -m benchmarks.deformation [REPEATS [THREADS]]

Torch gets one thread unless told otherwise, which is what it has in the workers of a data loader.
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Compose, Rand2DElasticd, RandAffined, RandFlipd
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates

from scripts.deformation import Rand2DElasticCoarsed, Rand2DElasticSimardd, Rand2DElasticTiled

SIZE = 572
KEYS = ("image", "label", "weight")
MODES = ("bilinear", "nearest", "bilinear")
OURS = "ours: Rand2DElasticCoarsed"
OURS_SIMARD = "ours: Rand2DElasticSimardd"


def sample_item(size: int) -> dict[Hashable, NdarrayOrTensor]:
    """A dictionary of image, label and weight map (1, size, size) with values as in training."""
    random_state = np.random.RandomState(0)
    image = gaussian_filter(random_state.normal(size=(1, size, size)), (0, 2, 2)).astype(np.float32)
    label = (image > 0).astype(np.uint8)
    arrays = (image, label, 1.0 + np.abs(image))
    return {key: MetaTensor(torch.from_numpy(array)) for key, array in zip(KEYS, arrays, strict=True)}


def training_ways() -> dict[str, Callable[[], object]]:
    """Name -> rotation by any angle, mirroring and elastic deformation of one training tile; the first is ours.

    All move image, label and weight alike, and interpolate linearly, labels by the nearest pixel. Ours does it in one
    resampling, and cuts label and weight to the 388 x 388 pixels that training asks for; that is part of the method.
    """
    item = sample_item(SIZE)
    planes = [np.asarray(item[key])[0] for key in KEYS]
    random_state = np.random.RandomState(1)
    tiled = Rand2DElasticTiled(KEYS, output_keys=KEYS[1:], mode=MODES)
    monai = Compose(
        [
            Rand2DElasticd(
                KEYS, spacing=SIZE / 2, magnitude_range=(10, 10), prob=1, mode=MODES, padding_mode="reflection"
            ),
            RandAffined(KEYS, prob=1, rotate_range=math.pi, mode=MODES, padding_mode="reflection"),
            RandFlipd(KEYS, prob=0.5, spatial_axis=0),
            RandFlipd(KEYS, prob=0.5, spatial_axis=1),
        ]
    )
    return {
        "ours: Rand2DElasticTiled": lambda: tiled(item),
        "scipy: affine, then Simard's field": lambda: scipy_affine_and_simard(planes, random_state),
        "scipy: the same, a call per image": lambda: scipy_call_per_image(planes, random_state),
        "MONAI: Rand2DElasticd, RandAffined, RandFlipd": lambda: monai(item),
    }


def scipy_affine_and_simard(
    planes: Sequence[np.ndarray], random_state: np.random.RandomState, orders: Sequence[int] = (1, 0, 1)
) -> list[np.ndarray]:
    """The published recipe: turn and mirror each image (H, W), then move it by blurred noise, the same for all.

    Noise in [-1, 1] for each pixel, blurred (sigma 5, kernel 25), times 50 px. Two resamplings, as it is published.
    """
    shape = planes[0].shape
    angle = random_state.uniform(-math.pi, math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turn = turn @ np.diag(random_state.choice([-1, 1], 2))
    centre = (np.array(shape) - 1) / 2
    place = np.indices(shape, dtype=np.float64)
    for axis in range(2):
        noise = random_state.uniform(-1, 1, shape)
        place[axis] += 50 * gaussian_filter(noise, 5, mode="constant", truncate=12 / 5)
    moved = []
    for plane, order in zip(planes, orders, strict=True):
        turned = affine_transform(plane, turn, centre - turn @ centre, order=order, mode="mirror")
        moved.append(map_coordinates(turned, place, order=order, mode="mirror"))
    return moved


def scipy_call_per_image(planes: Sequence[np.ndarray], random_state: np.random.RandomState) -> list[np.ndarray]:
    """The recipe as it is mostly found: a function of one image and a seed, called for each with the same seed."""
    seed = random_state.randint(2**31)
    return [
        scipy_affine_and_simard([plane], np.random.RandomState(seed), [order])[0]
        for plane, order in zip(planes, (1, 0, 1), strict=True)
    ]


def methods() -> dict[str, Callable[[], object]]:
    """Name -> one draw and its application to three keys."""
    item = sample_item(SIZE)
    planes = [np.asarray(item[key])[0] for key in KEYS]
    random_state = np.random.RandomState(1)
    coarse = Rand2DElasticCoarsed(KEYS, rotate_range=math.pi, flip_prob=0.5, mode=MODES)
    tiled = Rand2DElasticTiled(KEYS, output_keys=KEYS[1:], mode=MODES)
    simard = Rand2DElasticSimardd(KEYS, mode=MODES)
    monai = Rand2DElasticd(KEYS, spacing=SIZE / 2, magnitude_range=(10, 10), prob=1.0, rotate_range=math.pi, mode=MODES)

    def scipy_simard() -> list[np.ndarray]:
        """Simard's recipe as commonly written with scipy: blur noise, move each image by map_coordinates."""
        place = np.indices((SIZE, SIZE), dtype=np.float64)
        for axis in range(2):
            noise = random_state.uniform(-1, 1, (SIZE, SIZE))
            place[axis] += 50 * gaussian_filter(noise, 5, mode="constant", truncate=12 / 5)
        orders = (1, 0, 1)
        return [map_coordinates(p, place, order=k, mode="mirror") for p, k in zip(planes, orders, strict=True)]

    table: dict[str, Callable[[], object]] = {
        OURS: lambda: coarse(item),
        "ours: Rand2DElasticTiled (tile)": lambda: tiled(item),
        "MONAI: Rand2DElasticd": lambda: monai(item),
        OURS_SIMARD: lambda: simard(item),
        "scipy: Simard's recipe": scipy_simard,
    }
    try:
        elasticdeform = importlib.import_module("elasticdeform")
    except ImportError as error:  # the wheel on the index needs numpy 1; built from source it works with numpy 2
        print(f"elasticdeform is left out: {error}")
    else:
        table["elasticdeform: deform_random_grid"] = lambda: elasticdeform.deform_random_grid(
            planes, sigma=10, points=3, order=[1, 0, 1], mode="mirror", rotate=random_state.uniform(-180, 180)
        )
    return table


def measure(table: dict[str, Callable[[], object]], repeats: int, threads: int) -> dict[str, np.ndarray]:
    """Milliseconds (repeats,) of every method with that many torch threads; the methods take turns."""
    times: dict[str, list[float]] = {name: [] for name in table}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for turn in range(repeats + 2):
            for name, run in table.items():
                begin = time.perf_counter()
                run()
                if turn >= 2:  # the first two warm caches up
                    times[name].append(1e3 * (time.perf_counter() - begin))
    finally:
        torch.set_num_threads(before)
    return {name: np.array(values) for name, values in times.items()}


def main(repeats: int = 40, threads: int = 1) -> None:
    """Print the table of medians, quartiles and ratios."""
    times = measure(methods(), repeats, threads)
    print(f"{SIZE} x {SIZE}, keys {', '.join(KEYS)}, {repeats} repeats, {threads} torch thread(s)")
    print(f"{'method':36s} {'median':>9s} {'quartiles':>17s} {'x ours':>7s}")
    for name, values in times.items():
        low, median, high = np.percentile(values, (25, 50, 75))
        ours = np.median(times[OURS_SIMARD if "Simard" in name else OURS])
        print(f"{name:36s} {median:6.1f} ms {low:6.1f} - {high:6.1f} ms {median / ours:7.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
