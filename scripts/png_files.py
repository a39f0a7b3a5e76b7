"""PNG files without filters, written by Python's own zlib.

Pillow filters every row. The overlay of an ISBI 2012 section (512 x 512) then takes 436 kB and 15 ms, without filters
376 kB and 7 ms (one core of a 2-core cloud machine).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

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
