"""Compare the declared size of an image with the size of the file and with the free memory.

Readers of image formats reserve memory for the size in the header before pixels are read. A damaged header of a few
bytes could then take all memory of the machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

from .image_file import ImageFileError
from .memory import available_memory

DEFLATE = 1032.0  # the most bytes from one byte by deflate (zlib, gzip): 258 bytes from two bits
LZW = 2731.0  # 4096 bytes from 12 bits
JPEG = 512.0  # pixels from one byte: a bit at least for a block of 8 x 8
PACKBITS = 64.0  # 128 bytes from two


def check_stored(path: Path, shape: Iterable[int], size: float, stored: float, ratio: float = 1.0) -> None:
    """Check that a file can hold the pixels that its header declares.

    Args:
        path: the file.
        shape: declared shape, for the message.
        size: bytes of the declared pixels without compression.
        stored: bytes in the file, or in all files with pixels.
        ratio: largest ratio of the compression, 1 without compression. `math.inf`: unknown, nothing is checked.

    Raises:
        ImageFileError: the pixels do not fit in the file.

    Example:
        >>> check_stored(Path("cells.mha"), (5, 7), size=35, stored=300)
    """
    if math.isfinite(ratio) and size > stored * ratio:
        raise ImageFileError(
            f"{path} declares {_shape(shape)} values ({_bytes(size)}), but the file has {_bytes(stored)}"
            f"{f', and its compression reaches at most {ratio:.0f} to 1' if ratio > 1 else ''}. The file is damaged or "
            "was cut short: copy or export it again"
        )


def check_memory(path: Path, shape: Iterable[int], size: float) -> None:
    """Check that the memory suffices to read pixels.

    Args:
        path: the file.
        shape: declared shape, for the message.
        size: bytes of the pixels in memory. Reading takes twice as much: decoded pixels, and a copy.

    Raises:
        ImageFileError: less memory is free than reading takes.

    Example:
        >>> check_memory(Path("cells.mha"), (5, 7), size=35)
    """
    if 2 * size < 2**20:
        return
    free = available_memory()
    if 2 * size > free:
        raise ImageFileError(
            f"{path} declares {_shape(shape)} values. Reading takes {_bytes(2 * size)} of memory, but "
            f"{_bytes(free)} are available. If the size is right, cut the image into parts or use a machine with "
            "more memory"
        )


def size_of(paths: Iterable[str | os.PathLike[str]]) -> int:
    """Add up the bytes of files.

    Example:
        >>> _ = Path("a.raw").write_bytes(bytes(3))
        >>> size_of(["a.raw", "a.raw"])
        6
    """
    return sum(os.stat(path).st_size for path in paths)


def _shape(shape: Iterable[int]) -> str:
    return " x ".join(f"{n:,}" for n in shape)


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, {"bytes": "kB", "kB": "MB", "MB": "GB", "GB": "TB"}[unit]
    return f"{size:.3g} {unit}"
