"""Compare the sizes that a TIFF file promises with the file and with the memory, before tifffile reserves memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from .declared import DEFLATE, LZW, PACKBITS, check_memory, check_stored, size_of
from .text_headers import beside

_IFD = 50  # bytes of a plane's directory in the file, at least
# largest ratios of the values of the tag Compression
_RATIOS = {1: 1.0, 5: LZW, 8: DEFLATE, 32946: DEFLATE, 32773: PACKBITS}


def check_promised(path: Path, tif: tifffile.TiffFile) -> None:
    """Check the number of planes in OME and tifffile's metadata, and the names of other files of an OME series.

    tifffile makes a list entry for each promised plane.

    Raises:
        ImageFileError: more planes than the files can hold, or a file outside of the folder.

    Example:
        >>> tifffile.imwrite("cells.tif", np.zeros((5, 7), np.uint8))
        >>> with tifffile.TiffFile("cells.tif") as tif:
        ...     check_promised(Path("cells.tif"), tif)
    """
    files = {path, *(_named(path, tif) if tif.is_ome else ())}
    stored = size_of(file for file in files if file.exists())
    for shape, least in _promised_shapes(tif):
        check_stored(path, shape, math.prod(shape[:-2]) * least, stored)


def check_series(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Check that the file can hold the planes, the plane and the tiles of a series.

    Raises:
        ImageFileError: the file is too small.

    Example:
        >>> tifffile.imwrite("cells.tif", np.zeros((5, 7), np.uint8))
        >>> with tifffile.TiffFile("cells.tif") as tif:
        ...     check_series(Path("cells.tif"), tif.series[0])
    """
    page = series.keyframe
    names = {one.parent.filehandle.path for one in series.pages if one is not None} if series.is_multifile else {path}
    stored, ratio = size_of(names), _RATIOS.get(int(page.compression), math.inf)
    bits = math.prod(page.shape) * page.bitspersample
    planes = math.prod(series.shape) / max(1, math.prod(page.shape))
    check_stored(path, series.shape, planes * min(_IFD, bits / 8), stored)
    if 0 not in page.databytecounts:  # empty parts of sparse files are zero
        check_stored(path, page.shape, bits / 8, stored, ratio)
        if page.tile:
            check_stored(path, page.tile, math.prod(page.tile) * page.bitspersample / 8, stored, ratio)
    if series.dataoffset is not None and page.is_memmappable:
        check_stored(path, series.shape, math.prod(series.shape) * page.bitspersample / 8, stored)


def check_plane_memory(path: Path, series: tifffile.TiffPageSeries, axes: str) -> None:
    """Check that the memory suffices for a plane with its channels, and for a tile.

    Raises:
        ImageFileError: too little memory is free.

    Example:
        >>> tifffile.imwrite("cells.tif", np.zeros((5, 7), np.uint8))
        >>> with tifffile.TiffFile("cells.tif") as tif:
        ...     check_plane_memory(Path("cells.tif"), tif.series[0], "YX")
    """
    page = series.keyframe
    shape = [n for axis, n in zip(axes, series.shape, strict=True) if axis in "CSYX"]
    tile = math.prod(page.tile) if page.tile else 0
    check_memory(path, shape, (math.prod(shape) + tile) * np.dtype(series.dtype).itemsize)


def _named(path: Path, tif: tifffile.TiffFile) -> Iterator[Path]:
    """Other files of an OME series. The file itself may have had another name or folder when it was written."""
    elements = list(_ome(tif))
    own = elements[0].get("UUID") if elements else None
    for element in elements:
        is_own = own is not None and element.text == own  # tifffile then opens no file
        if element.tag.endswith("UUID") and not is_own and (name := element.get("FileName")):
            yield beside(path, name, may_be_missing=True)


def _promised_shapes(tif: tifffile.TiffFile) -> Iterator[tuple[tuple[int, ...], float]]:
    """Shapes in the metadata, with the least number of bytes of a plane."""
    for element in _ome(tif) if tif.is_ome else ():
        if element.tag.endswith("Pixels"):
            sizes = tuple(int(element.get(f"Size{axis}", 1)) for axis in "TZCYX")
            yield sizes, min(_IFD, sizes[-1] * sizes[-2] / 8)
        if element.tag.endswith("TiffData"):
            yield (int(element.get("PlaneCount", element.get("NumPlanes", 1))), 1, 1), 1 / 8
    text = tif.pages.first.shaped_description
    if text:
        is_old = text.startswith("shape=")  # shape=(5, 7), of old versions of tifffile
        shape = tuple(int(n) for n in (text[7:-1].split(",") if is_old else json.loads(text)["shape"]))
        yield shape, min(_IFD, math.prod(shape[-2:]) / 8)


def _ome(tif: tifffile.TiffFile) -> Iterator[ElementTree.Element]:
    try:
        yield from ElementTree.fromstring(tif.ome_metadata or "<OME/>").iter()
    except ElementTree.ParseError:  # tifffile then reads the pages without OME
        return
