"""Checksums of pictures rather than of their files, and the lists of them in `bundle/datasets/checksums`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "checksums"


def pixel_digest(pixels: np.ndarray) -> str:
    """Checksum that PNG and TIFF, however compressed and in whatever byte order, agree on.

    Args:
        pixels: (H, W), whole numbers of any kind.

    Returns:
        sha256 in hexadecimal, of the line "uint8 H W" or "uint16 H W" and the pixels row by row, low byte first.
    """
    height, width = pixels.shape
    rows = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes("C")
    return hashlib.sha256(f"{pixels.dtype.name} {height} {width}\n".encode() + rows).hexdigest()


def known_digests(name: str) -> dict[str, Any]:
    """The checksum list of a data set: folder in our layout -> digests, in order or by file name."""
    digests: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["sha256"]
    return digests
