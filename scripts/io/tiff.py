"""TIFF through tifffile: axes, planes, pixel size, and results for ImageJ.

Axes have tifffile's letters. Y and X span a plane. C and S (channels, samples) are channels. All other axes (Z, T, Q,
I, R, ...) count planes, time slowest and the last axis fastest:

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
from functools import lru_cache
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from .files import temporary_path
from .image_file import ImageFile, ImageFileError, ImageHeader, ResultFile, in_native_order, naming_image, require
from .picture import ORIENTATION, cmyk_to_rgb, inverted, is_transposed, looked_up, shown_palette, turned
from .tiff_pages import has_regions, read_part, rows_of_strips
from .tiff_size import check_plane_memory, check_promised, check_series
from .units import COARSEST_UM, UM_PER, unit_name

logger = logging.getLogger(__name__)

_CHANNEL_AXES = "CS"
_IN_PLANE = _CHANNEL_AXES + "YX"
_MIN_IS_WHITE, _PALETTE, _SEPARATED = 0, 3, 5  # values of PhotometricInterpretation
_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}

OpenedTiff = tuple[tifffile.TiffFile, tifffile.TiffPageSeries, str]  # file, series to read, axes


class TiffPlanes(ImageFile):
    """Read TIFF, BigTIFF, ImageJ or OME as viewers show the picture, turned by the orientation tag.

    Of several image series the largest is read; the others, mostly thumbnails, are named in a warning. Grey values with
    the minimum as white are inverted. Palettes become grey if all colours are grey, else RGB. ImageJ and OME
    colour grey values with a palette: their indices are the grey values. CMYK becomes RGB. A declared alpha sample is
    dropped. Python's zlib unpacks deflate; imagecodecs unpacks LZW, JPEG and all further compressions.

    As a label, indices and grey values stay as stored, except of 1-bit masks.

    Args:
        path, as_label: as in `ImageFile`.
        axes: letters of the series, one for each axis, instead of the file's: "CYX", "ZYX", "YXS".

    Example:
        >>> from pathlib import Path
        >>> import tifffile
        >>> tifffile.imwrite("stack.tif", np.zeros((3, 5, 7), np.uint8), photometric="minisblack")
        >>> TiffPlanes(Path("stack.tif")).header.planes, TiffPlanes(Path("stack.tif"), axes="CYX").header.planes
        (3, 1)
    """

    def __init__(self, path: str | os.PathLike[str], axes: str | None = None, as_label: bool = False) -> None:
        super().__init__(path, as_label)
        self._given_axes = axes.upper() if axes else None

    @contextmanager
    def _open(self) -> Iterator[OpenedTiff]:
        """The open file, its largest series and the axes of this series."""
        opened = self._opened_file()
        with opened[0]:
            yield opened

    def _opened_file(self) -> OpenedTiff:
        tif = tifffile.TiffFile(self.path)
        try:
            check_promised(self.path, tif)
            with _refusing_damage(self.path):
                series = max(tif.series, key=lambda one: math.prod(one.shape))  # of equal series the first
            axes = self._given_axes or series.axes
            if len(axes) != len(series.shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
                raise ImageFileError(
                    f"{self.path} has the shape {series.shape} (axes {series.axes}), which the axes {axes!r} do not "
                    "describe. Set tiff_axes to one letter for each axis, with Y and X"
                )
        except BaseException:
            tif.close()
            raise
        return tif, series, axes

    def _read_header(self) -> ImageHeader:
        with self._open() as (tif, series, axes):
            check_series(self.path, series)
            if len(tif.series) > 1:
                _name_other_series(self.path, tif, series)
            if axes == "SYX" and not self._given_axes:
                _warn_once(
                    f"{self.path} states that its {series.shape[0]} planes are the colours of one image. If they are "
                    "planes of a stack, set --tiff_axes ZYX"
                )
            sizes = dict(zip(axes, series.shape, strict=True))
            height, width = sizes["Y"], sizes["X"]
            spacing, distance, unit = _pixel_size(tif, series)
            if is_transposed(_orientation(series)):
                height, width, spacing = width, height, spacing[::-1]
            channels = self._channels(tif, series, axes)
            planes = math.prod(n for _, n in _counted(series, axes))
            has_time = {axis for axis, _ in _counted(series, axes)} in ({"T"}, {"T", "Z"})
            frames, interval = (sizes["T"], _frame_interval(tif)) if has_time else (1, None)
            return ImageHeader(
                planes, height, width, channels, spacing, distance, unit, frames=frames, frame_interval=interval
            )

    def _channels(self, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, axes: str) -> int:
        stored = math.prod(n for axis, n in zip(axes, series.shape, strict=True) if axis in _CHANNEL_AXES)
        stored -= _alpha(series, axes)
        table = self._palette(tif, series) if stored == 1 else None
        if table is not None and table.ndim > 1:
            return 3
        return 3 if stored == 4 and _is_cmyk(series) else stored

    def _read_plane(self, index: int) -> np.ndarray:
        with self._open() as (tif, series, axes):
            check_plane_memory(self.path, series, axes)
            return turned(self._part(tif, series, axes, index), _orientation(series))

    def decoded_rows(self) -> int:
        """Get the number of rows to decode together.

        Returns:
            0: a region of any size is decoded alone. Otherwise the rows of a strip, or all rows of the plane: of files
            with an orientation, in several files, or inverted by the grey values of the whole plane.
        """
        with naming_image(self.path), self._open() as (_, series, _):
            page, needs_range = series.keyframe, not self.as_label and series.dtype.kind not in "ub"
            whole = series.is_multifile or _orientation(series) != 1
            if whole or (page.photometric == _MIN_IS_WHITE and needs_range):
                return self.header.height
            return 0 if has_regions(series) else rows_of_strips(series)

    def region(self, index: int, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        """Read rows and columns [start, stop) of plane `index`. Nothing else is decoded, see `decoded_rows`.

        Returns:
            (h, w, C), the pixels of `plane(index)` in the region.
        """
        with naming_image(self.path), self._open() as (tif, series, axes):
            if self.decoded_rows() == self.header.height:
                return np.atleast_3d(self.plane(index))[slice(*rows), slice(*columns)]
            return in_native_order(self._part(tif, series, axes, index, slice(*rows), slice(*columns)))

    def _part(
        self,
        tif: tifffile.TiffFile,
        series: tifffile.TiffPageSeries,
        axes: str,
        index: int,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> np.ndarray:
        """Pixels (h, w, C) of a plane as shown, before the orientation."""
        counted = _counted(series, axes)
        numbers = np.unravel_index(index, [n for _, n in counted]) if counted else ()
        position = {axis: int(number) for (axis, _), number in zip(counted, numbers, strict=True)}
        chosen: dict[str, int | slice] = {"Y": rows, "X": columns, **position}
        with _naming_codec(self.path, series.keyframe):
            block = read_part(tif, series, tuple(chosen.get(axis, slice(None)) for axis in axes))
        left = "".join(axis for axis in axes if axis in _IN_PLANE)
        block = tifffile.transpose_axes(block, left, "YX" + left.replace("Y", "").replace("X", ""))
        channels = math.prod(block.shape[2:]) - _alpha(series, axes)
        return self._shown(block.reshape(*block.shape[:2], -1)[..., :channels], tif, series)

    def _shown(self, pixels: np.ndarray, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> np.ndarray:
        """Pixels (H, W, C) as viewers show them, or as stored for labels."""
        page = series.keyframe
        if page.photometric == _MIN_IS_WHITE and (page.bitspersample == 1 or not self.as_label):
            return inverted(pixels, page.bitspersample)
        table = self._palette(tif, series) if pixels.shape[2] == 1 else None
        if table is not None:
            return looked_up(pixels[..., 0], table)
        return cmyk_to_rgb(pixels) if pixels.shape[2] == 4 and _is_cmyk(series) else pixels

    def _palette(self, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> np.ndarray | None:
        """Grey values or colours of the palette. None: the stored values count."""
        colours = series.keyframe.colormap
        if self.as_label or series.keyframe.photometric != _PALETTE or colours is None:
            return None
        table = shown_palette(np.asarray(colours).T)
        if table.ndim > 1 and (tif.is_imagej or tif.is_ome):
            return None
        return (table if table.max(initial=0) < 256 else table // 257).astype(np.uint8)


def _counted(series: tifffile.TiffPageSeries, axes: str) -> list[tuple[str, int]]:
    """Axes that count planes, with their lengths. Time comes first, as in ImageJ."""
    counted = [(axis, n) for axis, n in zip(axes, series.shape, strict=True) if axis not in _IN_PLANE]
    return sorted(counted, key=lambda pair: pair[0] != "T")


def _orientation(series: tifffile.TiffPageSeries) -> int:
    tag = series.keyframe.tags.get(ORIENTATION)
    return int(tag.value) if tag is not None else 1


def _is_cmyk(series: tifffile.TiffPageSeries) -> bool:
    page = series.keyframe
    return page.photometric == _SEPARATED and page.samplesperpixel == 4 and page.dtype in (np.uint8, np.uint16)


@lru_cache(maxsize=1024)  # a file is opened for its header and for each plane
def _warn_once(text: str) -> None:
    logger.warning("%s", text)


def _name_other_series(path: Path, tif: tifffile.TiffFile, read: tifffile.TiffPageSeries) -> None:
    others = [
        f"{series.name or f'number {number}'} ({' x '.join(map(str, series.shape))})"
        for number, series in enumerate(tif.series)
        if series is not read
    ]
    _warn_once(
        f"{path} holds {len(tif.series)} series of images. The largest is read: {' x '.join(map(str, read.shape))}. "
        f"Not read: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}"
    )


def _frame_interval(tif: tifffile.TiffFile) -> float | None:
    """Seconds between two points in time: from OME, else ImageJ."""
    value, unit = math.nan, "s"
    try:
        if tif.ome_metadata:
            pixels = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
            if pixels is not None:
                value, unit = float(pixels.get("TimeIncrement", "nan")), pixels.get("TimeIncrementUnit", "s")
        elif tif.imagej_metadata:
            value = float(tif.imagej_metadata.get("finterval", math.nan))
            unit = str(tif.imagej_metadata.get("tunit", "s"))
    except ValueError:
        return None
    seconds = value * _SECONDS.get(unit.lower(), math.nan)
    return seconds if 0 < seconds < math.inf else None


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
    ImageJ shows classes and objects from 0 to the largest number of the stack. Otherwise, small numbers look black.
    """

    _tif: tifffile.TiffWriter | None = None
    _largest = 0

    def _put(self, plane: np.ndarray) -> None:
        pages = plane.reshape(-1, *plane.shape[-2:])  # (C, H, W)
        if pages.dtype.kind == "u":
            self._largest = max(self._largest, int(pages.max()))
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
        shape = (header.frames, header.planes // header.frames, channels, header.height, header.width)
        unit = "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in header.unit)  # as ImageJ writes µ
        calibration: dict[str, Any] = {"unit": unit, "spacing": header.plane_distance} if known else {}
        if header.frame_interval is not None:
            calibration["finterval"] = header.frame_interval
        self._description: str | None = tifffile.imagej_description(shape, axes="TZCYX", **calibration)
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
        if self._largest:
            with tifffile.TiffFile(self._temporary, mode="r+") as written:
                described = written.pages.first.tags["ImageDescription"]
                described.overwrite(f"{described.value.rstrip()}\nmin=0.0\nmax={self._largest}.0\n")
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
