"""PNG files: other decoders read the same pixels, rows are stored as they are, runs take little space."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from scripts.io.png import png_bytes


@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_RLE])
@pytest.mark.parametrize("shape", [(1, 1), (9, 14), (40, 3, 3), (1, 70, 3)], ids=str)
def test_other_decoders_read_the_same_pixels(shape: tuple[int, ...], strategy: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    content = png_bytes(image, strategy=strategy)
    with Image.open(io.BytesIO(content)) as found:
        found.verify()  # the checksums
    with Image.open(io.BytesIO(content)) as found:
        assert found.mode == ("L" if len(shape) == 2 else "RGB")
        np.testing.assert_array_equal(np.asarray(found), image)
    np.testing.assert_array_equal(imagecodecs.png_decode(content).reshape(shape), image)


def test_rows_are_stored_without_a_filter() -> None:
    image = np.arange(9 * 14 * 3).astype(np.uint8).reshape(9, 14, 3)
    content = png_bytes(image)
    start = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[start - 4 : start])
    rows = np.frombuffer(zlib.decompress(content[start + 4 : start + 4 + length]), np.uint8).reshape(9, -1)
    assert (rows[:, 0] == 0).all()
    np.testing.assert_array_equal(rows[:, 1:], image.reshape(9, -1))


def test_other_memory_layouts_give_the_same_file() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    assert png_bytes(np.asfortranarray(image)) == png_bytes(image)
    assert png_bytes(image[::-1, ::2]) == png_bytes(image[::-1, ::2].copy())


def test_a_class_map_is_as_small_as_libpng_makes_it() -> None:
    """With runs alone and without filters, too."""
    classes = (np.random.default_rng(0).random((64, 64)) > 0.5).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    libpng = imagecodecs.png_encode(classes, strategy=imagecodecs.PNG.STRATEGY.RLE, filter=imagecodecs.PNG.FILTER.NO)
    assert len(png_bytes(classes, strategy=zlib.Z_RLE)) < 1.05 * len(libpng)


@pytest.mark.parametrize("shape, dtype", [((4, 4), np.uint16), ((4, 4, 2), np.uint8), ((0, 4), np.uint8)])
def test_other_images_are_refused(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match=rf"got {np.dtype(dtype)} \({shape[0]}, 4"):
        png_bytes(np.zeros(shape, dtype))
