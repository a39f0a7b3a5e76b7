"""Describe data sets for `python -m bundle fetch`; read their images and compare them with known checksums.

The lists of checksums are in `bundle/datasets/checksums`. A checksum is that of the pixels, not of the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from bundle.running.errors import RunError

CHECKSUMS = Path(__file__).parent / "checksums"


@dataclass(frozen=True)
class Checked:
    """Data that passed every check, ready to be written."""

    write: Callable[[Path], None]  # writes the data into an empty folder, in the layout of the workflows
    content: str  # the data in words
    verified: str  # the comparison with the checksums in words
    notes: tuple[str, ...] = ()  # further lines for the user, for example about files without a checksum


@dataclass(frozen=True)
class DataSet:
    """Describe a data set. The table of data sets is in `bundle.datasets.fetch`.

    `check` takes a folder with the data at some depth and a source for messages. It raises RunError for wrong data.
    """

    name: str  # on the command line, and of the configuration to train with: configs/data_NAME.yaml
    mirrors: tuple[str, ...]  # public addresses in the order of trial, for `bundle.datasets.download.bring`
    files: tuple[str, ...]  # the publisher's own files below an address that ends in "/"
    by_hand: str  # instruction for a download by hand; a sentence that continues with a command
    folder: str  # default target; the configuration looks there, too
    parts: Collection[str]  # names of all entries that may be made in the target
    layout: Collection[str]  # folders of an earlier copy. A target without one of them is not examined
    check: Callable[[Path, str], Checked]
    terms: str  # conditions of use and citations


def known_digests(name: str) -> dict[str, Any]:
    """Read the checksums of a data set: folder in our layout -> digests, in order or by file name.

    Example:
        >>> {folder: len(digests) for folder, digests in known_digests("isbi2012").items()}
        {'train/images': 25, 'train/labels': 25, 'test/images': 30}
    """
    return json.loads((CHECKSUMS / f"{name}.json").read_text(encoding="utf-8"))["sha256"]


def pixel_digest(pixels: np.ndarray) -> str:
    """Compute a checksum of (H, W) pixels that is the same for PNG and TIFF, for any compression and byte order.

    Returns:
        sha256 in hexadecimal, of the line "uint8 H W" or "uint16 H W" and the pixels row by row, low byte first.

    Example:
        >>> pixel_digest(np.zeros((2, 3), np.uint8))[:12]
        'a96f51f8e7e1'
    """
    height, width = pixels.shape
    rows = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes("C")
    return hashlib.sha256(f"{pixels.dtype.name} {height} {width}\n".encode() + rows).hexdigest()


def check_pixels(name: str, source: str, pixels: np.ndarray, digest: str, remedy: str = "") -> None:
    """Raise RunError, with both checksums, unless an image is as published.

    Args:
        name, source: the file and its origin, for the message.
        pixels: (H, W) uint8 or uint16.
        digest: expected `pixel_digest`.
        remedy: further advice.

    Example:
        >>> image = np.zeros((2, 3), np.uint8)
        >>> check_pixels("00.png", "data.zip", image, pixel_digest(image))
    """
    found = pixel_digest(pixels)
    if found != digest:
        raise RunError(
            f"{name} of {source} is not as published: sha256 of its pixels {found}, expected {digest}; "
            f"nothing was written, get it anew or elsewhere{remedy}"
        )


def read_pages(path: Path, modes: Collection[str], expected: str) -> list[np.ndarray]:
    """Read all pages of a grey PNG or TIFF file, with 0 as black.

    Args:
        path: the file.
        modes: accepted image modes of Pillow: "1" and "L" give uint8, "I;16" and "I;16B" uint16.
        expected: the accepted kinds in words, for the message.

    Returns:
        one array (H, W) per page.

    Raises:
        RunError: the file cannot be read as an image, or has another mode.

    Example:
        >>> Image.new("L", (3, 1), 7).save("grey.png")
        >>> read_pages(Path("grey.png"), ("L",), "8-bit grey")
        [array([[7, 7, 7]], dtype=uint8)]
    """
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                raise RunError(f"{path} is of kind {image.mode}, expected {expected}; get it anew")
            pages = ImageSequence.Iterator(image)
            return [np.array(page.convert("L") if page.mode == "1" else page) for page in pages]
    except RunError:
        raise
    except Exception as error:  # Pillow raises errors of a dozen kinds for damaged files
        raise RunError(f"{path} cannot be read as an image ({error}); get it anew") from error
