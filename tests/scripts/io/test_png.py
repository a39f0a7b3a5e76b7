"""PNG, BMP and JPEG: modes, palettes, 16 bit, large images."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from scripts.io.image_file import ImageFileError
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


def test_a_palette_image_is_read_as_shown_and_a_palette_label_gives_its_indices(tmp_path: Path):
    indices = numbered(5, 7) % 4
    for name, colours in (
        ("colour", [0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255]),
        ("grey", [250, 250, 250, 90, 90, 90, 20, 20, 20, 0, 0, 0]),
    ):
        image = Image.fromarray(indices)
        image.putpalette(colours)
        image.save(tmp_path / f"{name}.png")
        shown = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"))
        expected = shown if name == "colour" else shown[..., 0]
        np.testing.assert_array_equal(read(tmp_path / f"{name}.png"), expected)
        assert read_header(tmp_path / f"{name}.png").channels == (3 if name == "colour" else 1)
        np.testing.assert_array_equal(read(tmp_path / f"{name}.png", labels=True), indices)
        assert read_header(tmp_path / f"{name}.png", as_label=True).channels == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_images_and_labels_are_turned_by_their_orientation_as_in_viewers(orientation: int, ending: str, tmp_path: Path):
    file, exif = tmp_path / f"a.{ending}", Image.Exif()
    exif[274] = orientation
    for array in (numbered(16, 24), numbered(16, 24, 3)):
        Image.fromarray(array).save(file, exif=exif)
        shown = np.asarray(ImageOps.exif_transpose(Image.open(file)))
        for labels in (False, True):
            np.testing.assert_array_equal(read(file, labels=labels), shown)
        assert plane_size(file) == shown.shape[:2]


def test_an_orientation_after_the_pixels_and_for_16_bit_colour_counts_too(tmp_path: Path):
    exif = Image.Exif()
    exif[274] = 6
    chunk = b"eXIf" + exif.tobytes()[6:]
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    array = numbered(5, 7, 3, dtype=np.uint16) * 301
    content = imagecodecs.png_encode(array)
    (tmp_path / "a.png").write_bytes(content[:-12] + chunk + content[-12:])  # before IEND
    np.testing.assert_array_equal(read(tmp_path / "a.png"), np.rot90(array, -1))
    assert plane_size(tmp_path / "a.png") == (7, 5)


def test_damaged_exif_data_do_not_keep_an_image_from_being_read(tmp_path: Path):
    Image.fromarray(numbered(5, 7)).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), numbered(5, 7))


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

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 10000, 8, 0, 0, 0, 0))
    pixels = zlib.compress(bytes(20001 * 10000), 1)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    assert plane_size(tmp_path / "a.png") == (10000, 20000)
    assert read(tmp_path / "a.png").shape == (10000, 20000)


def test_bmp_of_16_bits_is_read(tmp_path: Path):
    red, green, blue = (numbered(60, 80, dtype=np.uint16) * k % 32 for k in (1, 3, 7))
    pixels = (red << 10 | green << 5 | blue).astype("<u2")[::-1].tobytes()  # from the lowest row
    head = struct.pack("<IiiHHIIiiII", 40, 80, 60, 1, 16, 0, len(pixels), 2835, 2835, 0, 0)
    (tmp_path / "a.bmp").write_bytes(struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54) + head + pixels)
    shown = np.stack([red, green, blue], axis=-1) * 255 // 31
    np.testing.assert_array_equal(read(tmp_path / "a.bmp"), shown)
    (tmp_path / "cut.bmp").write_bytes((tmp_path / "a.bmp").read_bytes()[:-50])
    with pytest.raises(ImageFileError, match=r"cut\.bmp"):
        read(tmp_path / "cut.bmp")
