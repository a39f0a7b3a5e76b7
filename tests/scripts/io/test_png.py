"""PNG, BMP and JPEG: modes, palettes, 16 bit, large images."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from scripts.io.reader import plane_size, read_header
from tests.scripts.io.made import numbered, read


@pytest.mark.parametrize(
    "mode, shape", [("1", (5, 7)), ("L", (5, 7)), ("P", (5, 7)), ("LA", (5, 7)), ("RGBA", (5, 7, 3))]
)
def test_png_modes_give_numbers_without_alpha(mode: str, shape: tuple[int, ...], tmp_path: Path):
    image = Image.fromarray((numbered(5, 7) % 2 * 255).astype(np.uint8)).convert(mode)
    image.save(tmp_path / "a.png")
    array = read(tmp_path / "a.png")
    assert array.shape == shape
    assert array.dtype == np.uint8
    assert read_header(tmp_path / "a.png").channels == (shape[2] if len(shape) == 3 else 1)
    np.testing.assert_array_equal(array.reshape(5, 7, -1)[..., 0] > 0, numbered(5, 7) % 2 == 1)


def test_a_palette_image_gives_its_indices(tmp_path: Path):
    image = Image.fromarray(numbered(5, 7) % 4)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), numbered(5, 7) % 4)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_16_bit_colour_png_keeps_its_16_bits(samples: int, tmp_path: Path):
    array = numbered(5, 7, samples, dtype=np.uint16) * 301
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    colours = array[..., 0] if samples == 2 else array[..., :3]
    np.testing.assert_array_equal(read(tmp_path / "a.png"), colours)
    assert read_header(tmp_path / "a.png").channels == (1 if samples == 2 else 3)


def test_a_section_larger_than_pillow_expects_is_no_error(tmp_path: Path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 30000, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    assert plane_size(tmp_path / "a.png") == (30000, 20000)
