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
    CONFUSED,
    CORRECT,
    FALSE_BACKGROUND,
    MISSED_BACKGROUND,
    PALETTE,
    UNKNOWN,
    class_key,
    displayable,
    error_map,
    fill,
    outlines,
    overlay_image,
    save_image,
)


def test_error_map_names_every_kind_of_pixel() -> None:
    label = np.array([[0, 1, 0, 2, 1, -1, -1]])
    found = np.array([[0, 0, 1, 1, 1, 0, 1]])
    expected = [CORRECT, FALSE_BACKGROUND, MISSED_BACKGROUND, CONFUSED, CORRECT, UNKNOWN, UNKNOWN]
    assert error_map(found, label).tolist() == [expected]
    weight = np.array([[1.0, 0.0, 2.0, 0.0, 1.0, 1.0, 1.0]])
    expected[1] = expected[3] = UNKNOWN
    assert error_map(found, label, weight).tolist() == [expected]


def test_error_map_marks_exactly_the_wrong_pixels() -> None:
    generator = np.random.default_rng(0)
    label, found = generator.integers(0, 3, (2, 30, 40))
    np.testing.assert_array_equal(error_map(found, label) != CORRECT, found != label)


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
