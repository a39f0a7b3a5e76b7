"""TIFF through tifffile: axes, planes, pixel size, and results for ImageJ.

Axes have tifffile's letters. Y and X span a plane. C and S (channels, samples) are channels. All other axes (Z, T, Q,
I, R, ...) count planes, the last axis fastest:

    YXS, SYX    RGB, contiguous or planar    1 plane, 3 channels
    QYX, IYX    30 pages                     30 planes, 1 channel
    TZCYX       hyperstack of ImageJ or OME  T x Z planes, C channels

Some files state too little: the 3 pages of a plain file may be channels. `tiff_axes` ("CYX") then overrides the file.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from .files import temporary_path
from .image_file import ImageFile, ImageFileError, ImageHeader, ResultFile, require
from .units import COARSEST_UM, UM_PER, unit_name

logger = logging.getLogger(__name__)

_CHANNEL_AXES = "CS"
_IN_PLANE = _CHANNEL_AXES + "YX"


class TiffPlanes(ImageFile):
    """Read TIFF, BigTIFF, ImageJ or OME. Of several image series only the first is read; the rest are thumbnails.

    Palette images give indices. A declared alpha sample is dropped. Python's zlib unpacks deflate; imagecodecs unpacks
    LZW, JPEG and all further compressions.

    Args:
        axes: letters of the first series, one for each axis, instead of the file's: "CYX", "ZYX", "YXS".

    Example:
        >>> from pathlib import Path
        >>> import tifffile
        >>> tifffile.imwrite("stack.tif", np.zeros((3, 5, 7), np.uint8), photometric="minisblack")
        >>> TiffPlanes(Path("stack.tif")).header.planes, TiffPlanes(Path("stack.tif"), axes="CYX").header.planes
        (3, 1)
    """

    def __init__(self, path: str | os.PathLike[str], axes: str | None = None) -> None:
        super().__init__(path)
        self._given_axes = axes.upper() if axes else None

    @contextmanager
    def _open(self) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPageSeries, str]]:
        """The open file, its first series and the axes of this series."""
        with tifffile.TiffFile(self.path) as tif:
            with _refusing_damage(self.path):
                series = tif.series[0]
            axes = self._given_axes or series.axes
            if len(axes) != len(series.shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
                raise ImageFileError(
                    f"{self.path} has the shape {series.shape} (axes {series.axes}), which the axes {axes!r} do not "
                    "describe. Set tiff_axes to one letter for each axis, with Y and X"
                )
            yield tif, series, axes

    def _read_header(self) -> ImageHeader:
        with self._open() as (tif, series, axes):
            if len(tif.series) > 1:
                logger.warning("%s holds %d series of images; only the first is read", self.path, len(tif.series))
            sizes = dict(zip(axes, series.shape, strict=True))
            channels = math.prod(n for axis, n in sizes.items() if axis in _CHANNEL_AXES) - _alpha(series, axes)
            planes = math.prod(n for axis, n in sizes.items() if axis not in _IN_PLANE)
            spacing, distance, unit = _pixel_size(tif, series)
            return ImageHeader(planes, sizes["Y"], sizes["X"], channels, spacing, distance, unit)

    def _read_plane(self, index: int) -> np.ndarray:
        with self._open() as (tif, series, axes):
            counts = [n for axis, n in zip(axes, series.shape, strict=True) if axis not in _IN_PLANE]
            position = iter(np.unravel_index(index, counts) if counts else ())
            wanted = tuple(slice(None) if axis in _IN_PLANE else int(next(position)) for axis in axes)
            with _naming_codec(self.path, series.keyframe):
                block = _read(tif, series, wanted)
            left = "".join(axis for axis in axes if axis in _IN_PLANE)
            block = tifffile.transpose_axes(block, left, "YX" + left.replace("Y", "").replace("X", ""))
            channels = math.prod(block.shape[2:]) - _alpha(series, axes)
            return block.reshape(*block.shape[:2], -1)[..., :channels]


def _read(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, wanted: tuple[int | slice, ...]) -> np.ndarray:
    """Read the part `wanted` of a series. Only its pages are read."""
    if series.dataoffset is not None and series.keyframe.is_memmappable:  # one block, as ImageJ writes stacks
        dtype = tif.byteorder + series.dtype.char
        return np.array(tif.filehandle.memmap_array(dtype, series.shape, series.dataoffset)[wanted])
    page_shape = series.keyframe.shape
    leading = series.shape[: len(series.shape) - len(page_shape)]  # the axes of the pages
    if math.prod(leading) != len(series):
        raise ValueError(f"{len(series)} pages, but its metadata promise {math.prod(leading)}")
    numbers = np.arange(len(series)).reshape(leading)[wanted[: len(leading)]]
    pages = [page for number in np.ravel(numbers) if (page := series[int(number)]) is not None]
    if len(pages) < np.size(numbers):
        raise ValueError("a page that its metadata promise is missing")
    block = np.stack([page.asarray() for page in pages]).reshape(*np.shape(numbers), *page_shape)
    return block[(slice(None),) * np.ndim(numbers) + wanted[len(leading) :]]


def _alpha(series: tifffile.TiffPageSeries, axes: str) -> int:
    """1 if the last sample is declared as alpha (extra sample 1 or 2), else 0."""
    extra = [int(sample) for sample in series.keyframe.extrasamples]
    return int("S" in axes and "C" not in axes and extra[-1:] in ([1], [2]))


def _pixel_size(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[tuple[float, float], float, str]:
    """Pixel size (rows, columns), plane distance, unit: from OME, else ImageJ, else resolution tags."""
    unknown = ((1.0, 1.0), 1.0, "pixel")
    if tif.ome_metadata:
        pixels = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
        x, y, z = (_length(pixels, axis) if pixels is not None else None for axis in "XYZ")
        return ((y, x), z or 1.0, "um") if x and y else unknown
    per_x, per_y = (float(value) for value in series.keyframe.get_resolution())
    if not (0 < per_x < math.inf and 0 < per_y < math.inf):
        return unknown
    if tif.imagej_metadata:
        unit = unit_name(str(tif.imagej_metadata.get("unit", "pixel")))
        if unit.startswith("pixel"):
            return unknown
        return (1 / per_y, 1 / per_x), float(tif.imagej_metadata.get("spacing", 1.0)), unit
    um = {2: 25400.0, 3: 10000.0}.get(int(series.keyframe.resolutionunit))
    if um is None or um / max(per_x, per_y) > COARSEST_UM:
        return unknown
    return (um / per_y, um / per_x), 1.0, "um"


def _length(pixels: ElementTree.Element, axis: str) -> float | None:
    """OME's PhysicalSize of an axis in micrometres (OME's default unit), or None for a value that is no length."""
    value, unit = pixels.get(f"PhysicalSize{axis}", "nan"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
    try:
        length = float(value) * UM_PER.get(unit_name(unit), math.nan)
    except ValueError:
        return None
    return length if 0 < length < math.inf else None


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Raise an error for damage in tifffile's log. A stack cut short would be read as a shorter stack."""
    listener, source = BufferingHandler(capacity=10**6), logging.getLogger("tifffile")
    listener.setLevel(logging.WARNING)
    source.addHandler(listener)
    try:
        yield
    finally:
        source.removeHandler(listener)
    complaints = [record.getMessage() for record in listener.buffer if record.thread == threading.get_ident()]
    if any("invalid page offset" in text or "corrupted" in text or "failed to reshape" in text for text in complaints):
        raise ImageFileError(f"{path} is damaged or was cut short ({complaints[0]}); copy or export the file again")


@contextmanager
def _naming_codec(path: Path, page: tifffile.TiffPage) -> Iterator[None]:
    """Name the missing package if tifffile needs imagecodecs for a compression."""
    try:
        yield
    except Exception as error:  # ValueError or NotImplementedError with the name imagecodecs
        if "imagecodecs" in str(error) or isinstance(error, ModuleNotFoundError):  # for example Python's zstd
            codec, predictor = (getattr(tag, "name", tag) for tag in (page.compression, page.predictor))
            kind = f"TIFF files with compression {codec}" + (f", predictor {predictor}" if page.predictor != 1 else "")
            require("imagecodecs", kind, path)
        raise


_BIGTIFF_BYTES = 2**32 - 2**25
_WORTH_DEFLATING = 0.8  # compressed size / size, at most; less compressible probabilities are stored as they are
_SAMPLED = 32  # every 32nd row is compressed as a sample


class TiffResult(ResultFile):
    """Write deflate TIFF plane by plane: an ImageJ hyperstack with channels, slices and pixel size.

    The first plane decides the dtype. If a later plane needs uint32 instead of uint16, the stack is written anew.
    """

    _tif: tifffile.TiffWriter | None = None

    def _put(self, plane: np.ndarray) -> None:
        pages = plane.reshape(-1, *plane.shape[-2:])  # (C, H, W)
        if self._tif is None:
            self._open(pages.shape[0], pages.dtype)
        elif pages.dtype.itemsize > self._dtype.itemsize:
            self._tif.close()
            with tifffile.TiffFile(self._temporary) as written:
                earlier = [page.asarray() for page in written.pages]
            self._open(pages.shape[0], pages.dtype)
            for page in earlier:
                self._write(page[None])
        self._write(pages)

    def _open(self, channels: int, dtype: np.dtype) -> None:
        header = self.header
        known = header.unit != "pixel"
        shape = (header.planes, channels, header.height, header.width)
        unit = header.unit.encode("ascii", "backslashreplace").decode()  # as ImageJ writes µ
        calibration: dict[str, Any] = {"unit": unit, "spacing": header.plane_distance} if known else {}
        self._description: str | None = tifffile.imagej_description(shape, axes="ZCYX", **calibration)
        self._resolution = (1 / header.spacing[1], 1 / header.spacing[0]) if known else None
        self._dtype = dtype
        self._temporary = temporary_path(self.path)
        big = int(np.prod(shape)) * dtype.itemsize > _BIGTIFF_BYTES
        self._tif = tifffile.TiffWriter(self._temporary, bigtiff=big)

    def _write(self, pages: np.ndarray) -> None:
        assert self._tif is not None  # opened by the first plane
        self._tif.write(
            pages.astype(self._dtype, copy=False),
            contiguous=False,
            compression="zlib",  # at level 0, too: ImageJ reads uncompressed pages as one block
            compressionargs={"level": _level(pages)},
            photometric="minisblack",
            metadata=None,  # the description below replaces tifffile's
            description=self._description,
            resolution=self._resolution,
            resolutionunit=1,  # none: ImageJ reads the unit from its description
        )
        self._description = None  # only the first page has a description

    def _save(self) -> None:
        assert self._tif is not None  # opened by the first plane
        self._tif.close()
        os.replace(self._temporary, self.path)

    def discard(self) -> None:
        """Close and delete the temporary file."""
        if self._tif is not None:
            with suppress(OSError):  # a full disk
                self._tif.close()
            self._temporary.unlink(missing_ok=True)


def _level(pages: np.ndarray) -> int:
    """Choose the level of deflate for pages (C, H, W). 0: stored without compression.

    Probabilities in float32 shrink by only a tenth to a fifth, and compressing 2 x 512 x 512 takes 75 ms (1 core of a
    2-core cloud machine). Probabilities in bfloat16 shrink to a third, saturated probabilities (0 and 1) to 3 %. A
    sample of rows decides.
    """
    if pages.dtype.kind != "f":
        return 6
    sample = pages[:, ::_SAMPLED].tobytes()
    return 1 if len(zlib.compress(sample, 1)) < _WORTH_DEFLATING * len(sample) else 0
