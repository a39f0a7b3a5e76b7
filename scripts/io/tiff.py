"""TIFF through tifffile: which axes are planes and which are channels, one plane read without the rest, the size of a
pixel.

Rule for axes, in tifffile's letters: Y and X span the plane, C and S (channels, samples) are channels, every other
axis (Z, T, Q, I, R, ...) counts planes, the last one fastest. So RGB (YXS), planar RGB (SYX), an ImageJ or OME
hyperstack (TZCYX) and a plain multi-page file (QYX or IYX: 30 slices, not 30 channels) are all told apart by what the
file says. Where it says too little, as a plain file of 3 pages that are channels, `axes` overrides it ("CYX").
"""

from __future__ import annotations

import logging
import math
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from scripts.io.files import replacing
from scripts.io.image_file import ImageFile, ImageFileError, ImageHeader, ResultFile, require, tidy

logger = logging.getLogger(__name__)

COARSEST_UM = 20.0  # 72 to 1200 dpi (353 to 21 um) are print settings and say nothing about the specimen
_CHANNEL_AXES = "CS"
_UM_PER = {"um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "pm": 1e-6, "inch": 25400.0}
_UNIT_NAMES = {
    "µm": "um",
    "\u03bcm": "um",
    "micron": "um",
    "microns": "um",
    "micrometer": "um",
    "\\u00b5m": "um",
    "in": "inch",
}


class TiffPlanes(ImageFile):
    """A TIFF, BigTIFF, ImageJ or OME file; of several image series the first is read (others: thumbnails, pyramid
    levels).

    Palette images give indices; a declared alpha sample is dropped; deflate is unpacked by
    Python's zlib, LZW, JPEG and other compressions by `imagecodecs`.

    Args:
        path: the file.
        axes: letters for the first series, one per axis, in place of what the file says ("CYX", "ZYX", "YXS").
    """

    def __init__(self, path: Path, axes: str | None = None) -> None:
        super().__init__(path)
        self._given_axes = axes.upper() if axes else None

    @contextmanager
    def _open(self) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPageSeries, str]]:
        """The open file, its first series and that series' axes."""
        with tifffile.TiffFile(self.path) as tif:
            with _refusing_damage(self.path):
                series = tif.series[0]
            axes = self._given_axes or series.axes
            if len(axes) != len(series.shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
                raise ImageFileError(
                    f"{self.path} has the shape {series.shape} (axes {series.axes}), which the axes {axes!r} do not "
                    "describe: give one letter per axis, among them Y and X"
                )
            yield tif, series, axes

    @cached_property
    def header(self) -> ImageHeader:
        """Planes, size, channels and the size of a pixel, from the tags alone."""
        with self._open() as (tif, series, axes):
            if len(tif.series) > 1:
                logger.warning("%s holds %d series of images; only the first is read", self.path, len(tif.series))
            sizes = dict(zip(axes, series.shape, strict=True))
            channels = math.prod(n for axis, n in sizes.items() if axis in _CHANNEL_AXES) - _alpha(series, axes)
            planes = math.prod(n for axis, n in sizes.items() if axis not in _CHANNEL_AXES + "YX")
            spacing, distance, unit = _pixel_size(tif, series)
            return ImageHeader(planes, sizes["Y"], sizes["X"], channels, spacing, distance, unit)

    def plane(self, index: int) -> np.ndarray:
        """Plane `index`; of a stack only the pages that hold it are read."""
        with self._open() as (tif, series, axes):
            plane_axes = [n for axis, n in zip(axes, series.shape, strict=True) if axis not in _CHANNEL_AXES + "YX"]
            position = iter(np.unravel_index(index, plane_axes) if plane_axes else ())
            wanted = tuple(slice(None) if axis in _CHANNEL_AXES + "YX" else int(next(position)) for axis in axes)
            with _naming_codec(self.path, series.keyframe):
                block = _read(tif, series, wanted)
            left = [axis for axis in axes if axis in _CHANNEL_AXES + "YX"]
            order = [left.index("Y"), left.index("X"), *(i for i, axis in enumerate(left) if axis in _CHANNEL_AXES)]
            block = block.transpose(order)  # (H, W[, C][, S])
            channels = math.prod(block.shape[2:]) - _alpha(series, axes)
            return tidy(block.reshape(*block.shape[:2], -1)[..., :channels])


def _read(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, wanted: tuple[int | slice, ...]) -> np.ndarray:
    """The part `wanted` of a series, touching no other page."""
    if series.dataoffset is not None and series.keyframe.is_memmappable:  # one block, as ImageJ writes it
        dtype = tif.byteorder + series.dtype.char
        return np.array(tif.filehandle.memmap_array(dtype, series.shape, series.dataoffset)[wanted])
    page_shape = series.keyframe.shape
    leading = series.shape[: len(series.shape) - len(page_shape)]  # axes that run over pages
    if math.prod(leading) != len(series):
        raise ValueError(f"{len(series)} pages, but its metadata promise {math.prod(leading)}")
    numbers = np.arange(len(series)).reshape(leading)[wanted[: len(leading)]]
    pages = [series[int(number)] for number in np.ravel(numbers)]
    present = [page for page in pages if page is not None]
    if len(present) < len(pages):
        raise ValueError("a page that its metadata promise is missing")
    block = np.stack([page.asarray() for page in present]).reshape(*np.shape(numbers), *page_shape)
    return block[(slice(None),) * np.ndim(numbers) + wanted[len(leading) :]]


def _alpha(series: tifffile.TiffPageSeries, axes: str) -> int:
    """1 where the last sample is declared as alpha (extra sample 1 or 2), else 0."""
    extra = [int(sample) for sample in series.keyframe.extrasamples]
    return int("S" in axes and "C" not in axes and extra[-1:] in ([1], [2]))


def _pixel_size(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[tuple[float, float], float, str]:
    """Size of a pixel (rows, columns), distance of planes, unit; from OME, ImageJ or resolution tags, in this order."""
    unknown = ((1.0, 1.0), 1.0, "pixel")
    if tif.ome_metadata:
        pixels = next((e for e in ElementTree.fromstring(tif.ome_metadata).iter() if e.tag.endswith("}Pixels")), None)
        x, y, z = (_length(pixels, axis) for axis in "XYZ")
        return ((y, x), z or 1.0, "um") if x and y else unknown
    per_x, per_y = (float(value) for value in series.keyframe.get_resolution())
    if not (0 < per_x < math.inf and 0 < per_y < math.inf):
        return unknown
    if tif.imagej_metadata:
        unit = str(tif.imagej_metadata.get("unit", "pixel"))
        unit = _UNIT_NAMES.get(unit.lower(), unit)
        if unit.startswith("pixel"):
            return unknown
        return (1 / per_y, 1 / per_x), float(tif.imagej_metadata.get("spacing", 1.0)), unit
    um = {2: 25400.0, 3: 10000.0}.get(int(series.keyframe.resolutionunit))
    if um is None or um / max(per_x, per_y) > COARSEST_UM:
        return unknown
    return (um / per_y, um / per_x), 1.0, "um"


def _length(pixels: ElementTree.Element | None, axis: str) -> float | None:
    """OME's PhysicalSize of an axis in micrometres (its default unit), or None."""
    if pixels is None:
        return None
    value, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
    factor = _UM_PER.get(_UNIT_NAMES.get(unit, unit))
    return float(value) * factor if value and factor else None


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Turn what tifffile only logs of a file cut short into an error: it would be read as a stack of fewer planes."""
    complaints: list[str] = []
    thread = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                complaints.append(record.getMessage())

    listener, source = Listener(logging.WARNING), logging.getLogger("tifffile")
    source.addHandler(listener)
    try:
        yield
    finally:
        source.removeHandler(listener)
    if any("invalid page offset" in text or "corrupted" in text or "failed to reshape" in text for text in complaints):
        raise ImageFileError(f"{path} is damaged or was cut short ({complaints[0]}); copy or export it again")


@contextmanager
def _naming_codec(path: Path, page: tifffile.TiffPage) -> Iterator[None]:
    """Name the package where tifffile lacks imagecodecs for a compression."""
    try:
        yield
    except Exception as error:  # ValueError, NotImplementedError: what tifffile has in place of imagecodecs says so
        if "imagecodecs" in str(error) or isinstance(error, ModuleNotFoundError):  # of Python's own zstd, say
            codec, predictor = (getattr(tag, "name", tag) for tag in (page.compression, page.predictor))
            kind = f"TIFF files with compression {codec}" + (f", predictor {predictor}" if page.predictor != 1 else "")
            require("imagecodecs", kind, path)
        raise


_BIGTIFF_BYTES = 2**32 - 2**25
_WORTH_DEFLATING = 0.8  # of the size, at most: otherwise probabilities are stored as they are
_SAMPLED = 32  # of so many rows one is compressed to know


class TiffResult(ResultFile):
    """A deflate-compressed TIFF that ImageJ opens as a hyperstack with channels, slices and the size of a pixel.

    The first plane decides the number type; a stack of uint16 that meets a larger label is rewritten as uint32.
    """

    def _put(self, plane: np.ndarray) -> None:
        pages = plane if plane.ndim == 3 else plane[None]  # (C, H, W)
        if self._unfinished is None:
            self._open(pages.shape[0], pages.dtype)
        elif pages.dtype.itemsize > self._dtype.itemsize:
            self._widen(pages.shape[0], pages.dtype)
        self._write(pages)

    def _open(self, channels: int, dtype: np.dtype) -> None:
        header = self.header
        known = header.unit != "pixel"
        shape = (header.planes, channels, header.height, header.width)
        unit = header.unit.encode("ascii", "backslashreplace").decode()  # as ImageJ itself writes µ
        calibration: dict[str, Any] = {"unit": unit, "spacing": header.plane_distance} if known else {}
        self._description: str | None = tifffile.imagej_description(shape, axes="ZCYX", **calibration)
        self._resolution = (1 / header.spacing[1], 1 / header.spacing[0]) if known else None
        self._dtype = dtype
        self._unfinished = ExitStack()
        self._temporary = self._unfinished.enter_context(replacing(self.path))
        big = int(np.prod(shape)) * dtype.itemsize > _BIGTIFF_BYTES
        self._tif = self._unfinished.enter_context(tifffile.TiffWriter(self._temporary, bigtiff=big))

    def _write(self, pages: np.ndarray) -> None:
        self._tif.write(
            pages.astype(self._dtype, copy=False),
            contiguous=False,
            compression="zlib",  # of all levels: what is not compressed ImageJ takes for one block of planes
            compressionargs={"level": _level(pages)},
            photometric="minisblack",
            metadata=None,  # the description is ours
            description=self._description,
            resolution=self._resolution,
            resolutionunit=1,  # none: ImageJ takes the unit from its description
        )
        self._description = None  # it belongs to the first page

    def _widen(self, channels: int, dtype: np.dtype) -> None:
        self._tif.close()
        with tifffile.TiffFile(self._temporary) as written:
            pages = [page.asarray() for page in written.pages]
        self.discard()
        self._open(channels, dtype)
        for page in pages:
            self._write(page[None])

    def _save(self) -> None:
        if self._unfinished is not None:
            self._unfinished.close()
            self._unfinished = None


def _level(pages: np.ndarray) -> int:
    """The level of deflate for pages (C, H, W); 0 stores them as they are.

    The digits of a probability are noise to it. It takes a tenth off those of a network in float32, in more time than
    any other file of an image takes; a third off those in bfloat16, of which many are alike, and nearly all off those
    of a certain network. Some rows tell which.
    """
    if pages.dtype.kind != "f":
        return 6
    some = pages[:, ::_SAMPLED].tobytes()
    return 1 if len(zlib.compress(some, 1)) < _WORTH_DEFLATING * len(some) else 0
