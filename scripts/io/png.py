"""PNG, BMP and JPEG."""

from __future__ import annotations

import struct
import zlib
from functools import cached_property

import numpy as np
from PIL import Image

from scripts.io.files import replacing
from scripts.io.image_file import ImageFile, ImageHeader, ResultFile, require, tidy

Image.MAX_IMAGE_PIXELS = None  # Pillow takes more than 179 megapixels for an attack; a large section has more


class PillowFile(ImageFile):
    """PNG, BMP, JPEG through Pillow, in the pixel order that is stored (an EXIF orientation is not applied).

    Palette images give the *indices*, which is what label images mean by them; an alpha channel is dropped. 16-bit
    colour PNGs, which Pillow cuts to 8 bit, are decoded by imagecodecs. Print resolutions (pHYs, JFIF) say nothing
    about the specimen and are not taken for the size of a pixel.
    """

    @cached_property
    def header(self) -> ImageHeader:
        """Size and channels; Pillow opens without decoding."""
        with Image.open(self.path) as image:
            mode = "RGB" if image.mode in _CONVERTED else image.mode
            deep_grey_alpha = image.mode == "RGBA" and "LA" in str(image.tile)  # how Pillow opens 16-bit grey + alpha
            channels = 1 if deep_grey_alpha else len(Image.new(mode, (1, 1)).getbands()) - (mode in _WITH_ALPHA)
            return ImageHeader(planes=1, height=image.height, width=image.width, channels=channels)

    def plane(self, index: int) -> np.ndarray:
        """The image: uint8, uint16, int32 or float32; 1-bit images as uint8 0 and 1."""
        with Image.open(self.path) as image:
            if image.format == "PNG" and image.mode in ("RGB", "RGBA") and "16" in str(image.tile):
                imagecodecs = require("imagecodecs", "16-bit colour PNG files", self.path)
                array = np.asarray(imagecodecs.png_decode(self.path.read_bytes()))
                array = array[..., : 1 if array.shape[2] == 2 else 3]
            else:
                array = np.asarray(image.convert("RGB") if image.mode in _CONVERTED else image)
                array = array[..., :-1] if image.mode in _WITH_ALPHA else array
        return tidy(array)


_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_CONVERTED = ("CMYK", "YCbCr", "LAB", "HSV")


class PngResult(ResultFile):
    """An 8-bit greyscale PNG.

    Of a class map all but runs of one value is taken for noise: the file is no larger than with a search for repeated
    parts and with filters, and takes an eighth of the time.
    """

    def _put(self, plane: np.ndarray) -> None:
        self._plane = plane

    def _save(self) -> None:
        content = png_bytes(self._plane.astype(np.uint8), strategy=zlib.Z_RLE)
        with replacing(self.path) as temporary:
            temporary.write_bytes(content)


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST = 2**30  # bytes of a chunk; the format allows twice as many
_COLOUR_TYPES = {1: 0, 3: 2}  # channels: the number of PNG for grey values and for colours


def png_bytes(image: np.ndarray, level: int = 1, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """Encode an 8-bit image as PNG, every row as it is (filter 0).

    Args:
        image: uint8, (H, W) in grey or (H, W, 3) in colour.
        level: of zlib's compression, 0 to 9.
        strategy: of zlib; `zlib.Z_RLE` searches only for runs of a value: fast and small for class maps.

    Returns:
        the content of the file.

    Raises:
        ValueError: not uint8, an unknown number of channels, or no pixels.

    References:
        PNG specification, third edition, W3C 2025, sections 5 (chunks), 9 (filters) and 10 (compression).
    """
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in _COLOUR_TYPES or 0 in image.shape:
        raise ValueError(f"expected uint8 (H, W) or (H, W, 3), got {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # the first byte of a row names its filter
    rows[:, 1:] = image.reshape(height, -1)
    compressor = zlib.compressobj(level, strategy=strategy)
    header = struct.pack(">2I5B", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    pixels = compressor.compress(rows.data) + compressor.flush()
    parts = (pixels[first : first + _LARGEST] for first in range(0, len(pixels), _LARGEST))
    return b"".join(
        [_SIGNATURE, _chunk(b"IHDR", header), *(_chunk(b"IDAT", part) for part in parts), _chunk(b"IEND", b"")]
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
