"""All objects at once give what scikit-image measures one by one."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label, regionprops_table

from scripts.metrics.shapes import object_shapes

PROPERTIES = (
    "label",
    "area",
    "centroid",
    "bbox",
    "equivalent_diameter_area",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
)


def scattered(seed: int, size: tuple[int, int], share: float) -> np.ndarray:
    """Connected objects of every shape, from single pixels to a net over the whole image."""
    return label(np.random.default_rng(seed).random(size) < share, connectivity=1).astype(np.int32)


def lines() -> np.ndarray:
    """Objects without an extent along one of their axes, and numbers that are left out."""
    image = np.zeros((20, 20), np.int32)
    image[range(8), range(8)] = 3
    image[10, 3:9], image[12:19, 2], image[15, 15] = 5, 6, 900
    return image


IMAGES = {
    "dots": scattered(0, (80, 90), 0.1),
    "blobs": scattered(1, (90, 80), 0.5),
    "a net with islands in its holes": scattered(2, (70, 70), 0.7),
    "more pixels than are summed at once": scattered(3, (300, 300), 0.6),
    "objects in many parts that touch": np.random.default_rng(4).integers(0, 40, (60, 50)),
    "one object everywhere": np.ones((7, 9), np.uint16),
    "lines": lines(),
    "nothing": np.zeros((5, 6), np.int32),
}


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.25, 0.25), (4.0, 1.5)], ids=str)
@pytest.mark.parametrize("name", IMAGES)
def test_every_measure_is_that_of_scikit_image(name: str, spacing: tuple[float, float]) -> None:
    square = spacing[0] == spacing[1]
    expected = regionprops_table(
        IMAGES[name], properties=(*PROPERTIES, *(["perimeter"] if square else [])), spacing=spacing
    )
    shapes = object_shapes(IMAGES[name], spacing)
    assert shapes.keys() == expected.keys()
    for column, values in shapes.items():
        assert values.dtype == expected[column].dtype, column
        np.testing.assert_allclose(values, expected[column], rtol=1e-9, atol=1e-6, err_msg=column)


def test_the_image_is_left_as_it_was() -> None:
    image = lines()
    object_shapes(image)
    np.testing.assert_array_equal(image, lines())
