"""Inference of images of several sizes with the overlap-tile inferer, and of one image in eight orientations.

Ours: the settings of `configs/inference.yaml`. Baseline, after the paper's figures: the image mirrored by 92 pixels,
tiles of 572 in sequence, float32, NCHW. Limit: products of large matrices with as many operations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import product
from statistics import median

import numpy as np
import torch

from benchmarks.measure import Goal, Row, Setup, Times, Way, matrix_products, take_turns
from benchmarks.step import operations_of
from scripts.inferers.memory import keep_freed_memory
from scripts.inferers.orientations import ORIENTATIONS, Orientation, turn
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.inferers.precision import computes_in_bfloat16
from scripts.inferers.tiling import plan_tiles
from scripts.networks.unet import RonnebergerUNet

TILE, OUTPUT, STEP, MARGIN = 572, 388, 384, 92  # 384, not 388: a multiple of 16 leaves no seams
SAMPLED = 8  # the baseline measures at most 8 tiles of an image, and scales the time up


def rows(setup: Setup) -> Iterator[Row]:
    """Measure one image (in the configuration's precision and in float32), larger images, and orientations."""
    with torch.inference_mode():
        yield from _one_image(setup)
        yield from _sizes(setup)
        yield from _orientations(setup)


def as_in_a_run(ways: Mapping[str, Way]) -> dict[str, Way]:
    """Functions to call before each way: keep freed memory for our ways, as in a run of `configs/inference.yaml`."""
    return {name: partial(keep_freed_memory, name == "ours" or name == "passes") for name in ways}


def _one_image(setup: Setup) -> Iterator[Row]:
    size = 128 if setup.quick else 512
    ours, plain = networks(setup)
    x = image(size, setup.device)
    native = computes_in_bfloat16(setup.device)
    for amp_dtype in ("bfloat16", "float32") if native else ("float32",):
        inferer = OverlapTileInferer(amp_dtype=amp_dtype)
        products = matrix_products(setup, amp_dtype)
        ways: dict[str, Way] = {
            "ours": partial(inferer, x, ours),
            "plain": partial(tile_by_tile, x, plain),
            "products": products,
        }
        times = take_turns(ways, setup.repeats, before=as_in_a_run(ways))
        operations = operations_of(ways["ours"])
        height, width = plan_tiles((size, size)).tile_size
        yield Row(
            f"image of {size} x {size}, {amp_dtype}",
            Times(f"one tile of {height} x {width}, channels-last, {amp_dtype}", times["ours"]),
            Times(f"{tiles_of(size)} tiles of {TILE}, one by one, float32, NCHW", times["plain"]),
            products.limit(times["products"], operations),
            (Goal("times", 7.5), Goal("share", 0.95)) if amp_dtype == "bfloat16" else (Goal("share", 0.95),),
            f"{operations / 1e12:.3g} TFLOP; {size**2 / 1e6 / median(times['ours']):.3g} megapixels/s",
        )


def _sizes(setup: Setup) -> Iterator[Row]:
    """Measure the time per pixel that the network reads. The mirrored border then does not count."""
    ours, plain = networks(setup)
    inferer = OverlapTileInferer(amp_dtype="auto")
    dtype = torch.bfloat16 if computes_in_bfloat16(setup.device) else torch.float32
    products = matrix_products(setup, dtype)
    per_pixel: list[float] = []
    for size in (128, 400) if setup.quick else (512, 2048, 8192):
        x = image(size, setup.device)
        repeats = 1 if size > 4096 else min(setup.repeats, 3)
        share = min(1.0, SAMPLED / tiles_of(size))
        ways: dict[str, Way] = {
            "ours": partial(inferer, x, ours),
            "plain": partial(tile_by_tile, x, plain, SAMPLED),
            "products": products,
        }
        turns = 1 if size > 4096 else repeats + 1  # the first warms up
        with tiles_seen(ours) as shapes:
            times = take_turns(ways, repeats, warm_up=turns - repeats, before=as_in_a_run(ways))
        operations = operations_on(shapes, setup.features) / turns
        read = sum(shape.numel() for shape in shapes) / turns
        per_pixel.append(median(times["ours"]) / read)
        deviation = max(abs(value / per_pixel[0] - 1) for value in per_pixel)
        sampled = f", from the time of {SAMPLED}" if share < 1 else ""
        yield Row(
            f"image of {size} x {size}",
            Times(f"tiles within 3 GiB, {dtype}".replace("torch.", ""), times["ours"]),
            Times(
                f"{tiles_of(size)} tiles of {TILE}, one by one, float32, NCHW{sampled}",
                [second / share for second in times["plain"]],
            ),
            products.limit(times["products"], operations),
            () if len(per_pixel) == 1 else (Goal("deviation", 0.10),),
            f"{size**2 / 1e6 / median(times['ours']):.3g} megapixels/s; {read / size**2:.2f} pixels read for one; "
            f"{1e9 * per_pixel[-1]:.0f} ns for one read",
            {"deviation": deviation},
        )


def _orientations(setup: Setup) -> Iterator[Row]:
    size = 128 if setup.quick else 512
    ours, _ = networks(setup)
    x = image(size, setup.device)
    single = OverlapTileInferer(amp_dtype="auto")
    averaging = OverlapTileInferer(amp_dtype="auto", orientations=8)
    dtype = torch.bfloat16 if computes_in_bfloat16(setup.device) else torch.float32
    products = matrix_products(setup, dtype)
    ways: dict[str, Way] = {
        "ours": partial(averaging, x, ours),
        "passes": partial(turned_passes, x, ours, single),
        "products": products,
    }
    times = take_turns(ways, setup.repeats, before=as_in_a_run(ways))
    yield Row(
        f"mean over 8 orientations, {size} x {size}",
        Times("one call, tiles gathered from the one image", times["ours"]),
        Times("8 passes over turned images, turned back and averaged", times["passes"]),
        products.limit(times["products"], operations_of(ways["ours"])),
        (Goal("not_slower", 0.02),),
    )


def networks(setup: Setup) -> tuple[RonnebergerUNet, RonnebergerUNet]:
    """The same network twice: channels-last, and as torch makes it."""
    torch.manual_seed(0)
    ours, plain = (RonnebergerUNet(features=setup.features).eval().to(setup.device) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    return ours.to(memory_format=torch.channels_last), plain  # type: ignore[call-overload]  # torch's stub lacks it


def image(size: int, device: torch.device) -> torch.Tensor:
    """Noise (1, 1, size, size), normalised as images are."""
    return torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(2)).to(device)


def starts_of(length: int) -> list[int]:
    """First output pixels of the tiles of 572 along an axis.

    Example:
        >>> starts_of(512)
        [0, 384]
    """
    return list(range(0, max(length - OUTPUT, 0) + STEP, STEP))


def tiles_of(size: int) -> int:
    """Number of tiles of 572 of a square image.

    Example:
        >>> tiles_of(388), tiles_of(512)
        (1, 4)
    """
    return len(starts_of(size)) ** 2


def tile_by_tile(x: torch.Tensor, network: torch.nn.Module, at_most: int | None = None) -> torch.Tensor:
    """Compute scores from tiles of 572 of a mirrored copy of the image, in sequence.

    Args:
        x: image (1, C, H, W).
        network: unpadded network with four poolings.
        at_most: number of tiles to compute; scores of the remaining tiles are 0. None: all tiles.

    Returns:
        Scores (1, K, H, W).
    """
    size = x.shape[2:]
    beyond = [starts_of(n)[-1] + OUTPUT + MARGIN - n for n in size]
    widths = ((0, 0), (0, 0), (MARGIN, beyond[0]), (MARGIN, beyond[1]))
    padded = torch.from_numpy(np.pad(x.cpu().numpy(), widths, mode="reflect")).to(x.device)
    scores: torch.Tensor | None = None
    for row, column in list(product(*map(starts_of, size)))[:at_most]:
        part = network(padded[:, :, row : row + TILE, column : column + TILE])
        if scores is None:
            scores = part.new_zeros(1, part.shape[1], *size)
        target = scores[:, :, row : row + OUTPUT, column : column + OUTPUT]
        target.copy_(part[:, :, : target.shape[2], : target.shape[3]])
    assert scores is not None  # an image has at least one tile
    return scores


def turned_passes(x: torch.Tensor, network: torch.nn.Module, inferer: OverlapTileInferer) -> torch.Tensor:
    """Mean of the scores of 8 turned images. The scores are turned back before the mean."""
    views = [turn_back(inferer(turn(x, view).contiguous(), network), view) for view in ORIENTATIONS[8]]
    return torch.stack(views).mean(dim=0)


def turn_back(turned: torch.Tensor, orientation: Orientation) -> torch.Tensor:
    """Undo `scripts.inferers.turn`: first the flips, then the transposition."""
    axes = [axis for axis, flip in ((-2, orientation.flip_rows), (-1, orientation.flip_columns)) if flip]
    image = turned.flip(axes) if axes else turned
    return image.transpose(-2, -1) if orientation.transpose else image


@contextmanager
def tiles_seen(network: torch.nn.Module) -> Iterator[list[torch.Size]]:
    """List the shapes of all tiles that a network receives inside a `with` block."""
    shapes: list[torch.Size] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    try:
        yield shapes
    finally:
        hook.remove()


def operations_on(shapes: Iterable[torch.Size], features: tuple[int, ...]) -> float:
    """Count floating point operations of the paper's network on tiles, on torch's meta device.

    Args:
        shapes: shapes (B, 1, H, W) of the tiles.
        features: features of the network.

    Example:
        >>> round(operations_on([torch.Size((1, 1, 572, 572))], (64, 128, 256, 512, 1024)) / 1e9)  # GFLOP
        301
    """
    network = RonnebergerUNet(features=features).eval().to("meta")
    total = 0
    for shape, count in Counter(shapes).items():
        total += count * operations_of(partial(network, torch.empty(shape, device="meta")))
    return float(total)
