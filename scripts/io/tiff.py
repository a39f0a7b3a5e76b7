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
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from scripts.io.image_files import ImageFile, ImageFileError, ImageHeader, require, tidy

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
