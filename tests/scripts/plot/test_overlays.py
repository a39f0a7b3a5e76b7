"""Colours of pixels and classes, also for colour-blind readers; polygons."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from bundle.datasets.synthetic_em import synthetic_section
from scripts.plot.overlays import (
    PALETTE,
    class_colours,
    class_key,
    displayable,
    fill,
    number_objects,
    outlines,
    overlay_image,
    save_image,
    spread_colours,
)


def test_an_image_is_stretched_between_its_percentiles() -> None:
    shown = displayable(np.linspace(100, 300, 1001).reshape(1, -1))
    assert shown.shape == (1, 1001, 3)
    assert shown[0, 0, 0] == 0
    assert shown[0, -1, 0] == 1
    assert shown[0, 500, 0] == pytest.approx(0.5, abs=1e-3)


def test_three_channels_are_colours_and_others_show_the_first() -> None:
    image = np.stack([np.eye(8), np.zeros((8, 8)), np.zeros((8, 8))])
    np.testing.assert_array_equal(displayable(image)[0, 0], [1, 0, 0])
    np.testing.assert_array_equal(displayable(image[:2])[0, 0], [1, 1, 1])
    assert displayable(np.full((8, 8), 7.0)).max() == 0  # a flat image does not divide by zero


def test_overlay_tints_by_number_and_leaves_the_background() -> None:
    image = np.tile(np.linspace(0, 1, 20), (20, 1))
    labels = np.zeros((20, 20), int)
    labels[4:10, 4:10], labels[12:18, 12:18] = 2, 2 + len(PALETTE)  # the colours repeat
    plain = (displayable(image) * 255).round().astype(np.uint8)
    overlay = overlay_image(image, labels, alpha=0.5)
    assert overlay.dtype == np.uint8
    np.testing.assert_array_equal(overlay[labels == 0], plain[labels == 0])
    colour = np.array(to_rgb(PALETTE[1])) * 255
    np.testing.assert_allclose(overlay[4, 6], colour, atol=1)  # the outline, inside, in full
    np.testing.assert_allclose(overlay[12, 14], colour, atol=1)
    np.testing.assert_allclose(overlay[6, 6], 0.5 * plain[6, 6] + 0.5 * colour, atol=1)
    np.testing.assert_allclose(
        overlay_image(image, labels, 0.5, outline=False)[4, 6], 0.5 * plain[4, 6] + 0.5 * colour, atol=1
    )


@pytest.mark.parametrize("highest", [1, 255, 256], ids=["fractions", "bytes", "more than bytes"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_every_pixel_is_its_image_its_tint_or_its_outline(channels: int, highest: int) -> None:
    """Compare with the definition, pixel by pixel."""
    generator = np.random.default_rng(channels)
    image = (generator.random((channels, 24, 30)) * highest).astype(np.float32)
    image = image if highest == 1 else image.round()
    labels = np.kron(generator.integers(0, 30, (4, 5)), np.ones((6, 6), int))
    plain, overlay = displayable(image), overlay_image(image, labels)
    for y, x in np.ndindex(labels.shape):
        beside = labels[max(y - 1, 0) : y + 2, x].tolist() + labels[y, max(x - 1, 0) : x + 2].tolist()
        colour = np.array(to_rgb(PALETTE[(labels[y, x] - 1) % len(PALETTE)]), np.float32)
        value = plain[y, x]
        if labels[y, x] > 0:
            on_edge = set(beside) != {labels[y, x]}
            value = colour if on_edge else np.float32(0.65) * value + np.float32(0.35) * colour
        np.testing.assert_array_equal(overlay[y, x], np.round(value * 255).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("size", [(1, 1), (3, 40, 30), (17, 19)], ids=str)
def test_images_are_stretched_between_two_percentiles(size: tuple[int, ...], dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, 256, size).astype(dtype)
    low, high = np.percentile(image, (0.5, 99.5))
    expected = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    shown = np.broadcast_to(expected, (3, *size[-2:])).transpose(1, 2, 0)
    np.testing.assert_allclose(displayable(image), shown, atol=1e-6)


def test_a_saved_image_is_read_as_it_was(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    save_image(image, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as found:
        assert found.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(found), image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_touching_instances_of_one_colour_have_outlines_between_them() -> None:
    labels = np.ones((10, 10), int)
    labels[:, 5:] = 1 + len(PALETTE)  # the same colour as 1
    overlay = overlay_image(np.arange(100.0).reshape(10, 10), labels)
    colour = np.array(to_rgb(PALETTE[0])) * 255
    np.testing.assert_allclose(overlay[5, 4:6], [colour, colour], atol=1)
    assert np.abs(overlay[5, 2] - colour).max() > 5


def test_no_two_classes_share_a_colour_or_nearly() -> None:
    names = ["background", *(f"class {k}" for k in range(30))]
    colours = rgb2lab([to_rgb(colour) for _, colour in class_key(names)])
    assert len(colours) == 30
    assert min(deltaE_ciede2000(one, two) for one, two in combinations(colours, 2)) > 9
    assert len(set(class_colours(1000))) == 1000


def test_many_classes_are_tinted_in_their_own_colours() -> None:
    labels = np.arange(21).repeat(3).reshape(1, -1)
    overlay = overlay_image(np.zeros(labels.shape), labels, alpha=1, outline=False, colours=class_colours(20))
    assert len(np.unique(overlay[0], axis=0)) == 21


def test_neighbouring_objects_never_share_a_colour() -> None:
    grid = np.arange(144).reshape(12, 12) * 10 + 1  # the same colour for all, by number
    instances = grid.repeat(4, axis=0).repeat(4, axis=1)
    colours = spread_colours(instances)[::4, ::4].astype(int)
    assert set(np.unique(colours)) <= set(range(1, 11))
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        beside = np.roll(colours, (-dy, -dx), axis=(0, 1))
        assert (colours != beside)[1:-1, 1:-1].all()
    assert spread_colours(np.zeros((4, 5), int)).max() == 0


def test_every_object_has_its_number_and_small_ones_are_enlarged() -> None:
    instances = np.zeros((40, 60), int)
    instances[4:36, 4:26], instances[4:36, 34:56] = 7, 8
    plain = np.full((40, 60, 3), 90, np.uint8)
    numbered = number_objects(plain, instances)
    assert numbered.shape == plain.shape
    changed = (numbered != plain).any(axis=-1)
    assert changed[instances == 7].any()
    assert changed[instances == 8].any()
    assert not changed[instances == 0].any()
    swapped = number_objects(plain, np.where(instances == 7, 9, instances))
    assert (swapped[:, :30] != numbered[:, :30]).any()
    np.testing.assert_array_equal(swapped[:, 30:], numbered[:, 30:])
    small = instances[::4, ::4]
    assert number_objects(plain[::4, ::4], small).shape == (40, 60, 3)
    np.testing.assert_array_equal(number_objects(plain, np.zeros((40, 60), int)), plain)


def test_the_number_of_an_object_at_the_border_is_whole() -> None:
    inner, cut = np.zeros((2, 60, 80), int)
    inner[20:40, 30:50] = 188
    cut[20:60, :10] = 188  # its middle is beside the border
    plain = np.zeros((60, 80, 3), np.uint8)
    whole, beside = ((number_objects(plain, labels) > 200).all(axis=-1).sum() for labels in (inner, cut))
    assert beside == pytest.approx(whole, rel=0.2)


# Machado, Oliveira and Fernandes 2009, doi 10.1109/TVCG.2009.113, severity 1.0, on linear RGB
EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _seen(colours: np.ndarray, eye: str) -> np.ndarray:
    """Convert sRGB colours (N, 3) to L*a*b*, as seen by an eye."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(EYES[eye]).T, 0, 1)
    return rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("eye", EYES)
def test_the_tints_of_five_classes_stay_apart_on_grey_for_every_eye(eye: str) -> None:
    grey = np.full((1, 3), 0.6)
    tints = _seen(np.vstack([grey, 0.4 * grey + 0.6 * np.array([to_rgb(c) for c in PALETTE[:4]])]), eye)
    for one, other in combinations(tints, 2):
        assert deltaE_ciede2000(one, other) > 10  # 1 is just noticeable side by side


def test_ten_classes_besides_the_background_have_ten_colours() -> None:
    key = class_key([f"class {k}" for k in range(11)])
    assert [name for name, _ in key] == [f"class {k}" for k in range(1, 11)]  # class 0 is untinted
    colours = _seen(np.array([to_rgb(colour) for _, colour in key]), "normal")
    assert min(deltaE_ciede2000(one, other) for one, other in combinations(colours, 2)) > 10


# Polygons


def area(polygon: list[list[float]]) -> float:
    """Compute the area of a polygon by the shoelace formula."""
    x, y = np.array(polygon).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def test_an_outline_runs_along_the_edges_of_the_pixels():
    instances = np.zeros((10, 12), np.int32)
    instances[3:6, 7:12] = 4  # rows 3 to 5, columns 7 to 11 (the last)
    instances[4, 9] = 0  # a hole
    (polygon,) = outlines(instances)
    assert np.min(polygon, axis=0).tolist() == [7, 3]
    assert np.max(polygon, axis=0).tolist() == [12, 6]
    assert area(polygon) == pytest.approx(15, abs=0.5)  # the hole is filled, each corner lacks an eighth of a pixel


def test_small_objects_get_no_outline():
    instances = np.zeros((8, 8), np.int32)
    instances[0, 0], instances[3:6, 3:6] = 1, 2
    assert len(outlines(instances)) == 2
    assert len(outlines(instances, min_area=5)) == 1


def test_polygons_filled_are_the_objects_again():
    _, cells = synthetic_section(np.random.default_rng(0), (96, 80))
    numbers = np.unique(cells)[1:]
    polygons = outlines(cells)
    assert len(polygons) == len(numbers)
    assert np.array_equal(fill(zip(numbers.tolist(), polygons, strict=True), cells.shape), cells)


def test_what_a_polygon_covers_is_counted_by_centres_and_cut_at_the_edge():
    triangle = [[0, 0], [3.9, 0], [0, 3.9]]
    assert fill([(7, triangle)], (3, 4)).tolist() == [[7, 7, 7, 0], [7, 7, 0, 0], [7, 0, 0, 0]]
    assert fill([], (2, 2)).tolist() == [[0, 0], [0, 0]]


def test_later_polygons_cover_earlier_ones():
    square = [[0, 0], [2, 0], [2, 2], [0, 2]]
    assert fill([(1, square), (2, [[1, 0], [2, 0], [2, 2], [1, 2]])], (2, 2)).tolist() == [[1, 2], [1, 2]]
