"""Pictures in a page: sizes, transparency, and a limit of bytes."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from scripts.reporting.pictures import label_layer, map_layer, picture


def opened(address: object) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(str(address).partition(",")[2])))


def test_layers_have_the_size_of_the_image_and_labels_are_transparent_at_the_background() -> None:
    labels = np.zeros((40, 60), int)
    labels[10:20, 10:20] = 11
    drawn = picture(
        "a",
        np.random.default_rng(0).random((40, 60)),
        [label_layer("truth", labels), map_layer("p", labels / 11)],
        10**6,
    )
    assert drawn.size == drawn.shown == (40, 60)
    truth, probability = (opened(layer["src"]) for layer in drawn.layers)
    assert opened(drawn.base).size == truth.size == probability.size == (60, 40)
    opacity = np.asarray(truth.convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(opacity > 0, labels > 0)
    assert opacity[15, 15] < opacity[10, 10] == 255  # the outline is opaque


def test_a_large_image_is_reduced_until_it_fits_and_labels_keep_their_colours() -> None:
    image = np.random.default_rng(0).random((900, 1800)).astype(np.float32)
    labels = np.kron(np.arange(8).reshape(2, 4), np.ones((450, 450), int))
    drawn = picture("a", image, [label_layer("truth", labels, outline=False)], most_bytes=60_000)
    assert drawn.size == (900, 1800)
    assert drawn.size_bytes < 70_000
    height, width = drawn.shown
    assert width == 2 * height < 1800
    kept = np.asarray(opened(drawn.layers[0]["src"]).convert("RGBA")).reshape(-1, 4)
    assert len(np.unique(kept, axis=0)) == 8  # no mixed colours


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (5, 40, 30)])
def test_any_image_has_a_picture(shape: tuple[int, ...]) -> None:
    assert picture("a", np.zeros(shape), [], 10**5).shown == (shape[-2], shape[-1]) or max(shape) > 1024
