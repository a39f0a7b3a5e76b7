"""Read regions of images larger than memory: OME-Zarr, TIFF, and all other formats plane by plane."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..io.files import file_state
from ..io.image_file import ImageFile, ImageFileError, ImageHeader, in_native_order, require
from ..io.memory import available_memory
from ..io.names import TIFF_SUFFIXES, PathLike, image_suffix, split_address
from ..io.reader import open_image
from ..io.tiff import OpenedTiff, TiffPlanes
from .grid import Span
from .ngff import Layout, image_layout, seconds, spatial_size

_METADATA = (".zgroup", ".zarray", ".zattrs", "zarr.json")
_KEPT = 0.25  # of the free memory, at most, for decoded rows
_LISTED = 5  # names in a message


def open_source(path: PathLike, tiff_axes: str | None = None) -> LargeImage:
    """Open an image of any format, to read regions of its planes.

    Args:
        path: an image file, or the folder of an OME-Zarr image (0.4 or 0.5) or of a Zarr array.
        tiff_axes: axes of TIFF files with wrong axes in the file, see `scripts.io.tiff`, or of a Zarr array without
            axes: one letter for each axis, "CYX".

    Raises:
        FileNotFoundError: there is no such file or folder.
        ImageFileError: not an image, a Zarr group without a single image (plate, labels), or unknown axes. The message
            names the file and the remedy.

    Example:
        >>> import tifffile
        >>> tifffile.imwrite("section.tif", np.zeros((96, 64), np.uint8), tile=(16, 16), compression="zlib")
        >>> with open_source("section.tif") as image:
        ...     image.read(0, (90, 96), (0, 64)).shape
        (1, 6, 64)
    """
    path = Path(path)
    file, page = split_address(path)
    if page is not None and not path.exists():
        raise ImageFileError(f"{path} is a plane; give the whole file {file}, or save the plane as a file")
    if path.is_dir():
        return _ZarrImage(path, tiff_axes)
    if image_suffix(path) in TIFF_SUFFIXES and path.is_file():
        return _TiffImage(path, tiff_axes)
    return _PlanesImage(path, tiff_axes)


class LargeImage(ABC):
    """Read regions of the planes of an image. `open_source` chooses the subclass of a file's format.

    Several threads may read. Copies by pickle open the file again.

    Args:
        path: file or folder of the image.
        tiff_axes: as in `open_source`.
    """

    def __init__(self, path: Path, tiff_axes: str | None = None) -> None:
        self.path = path
        self.tiff_axes = tiff_axes
        self._lock = threading.RLock()
        self._rows: tuple[int, Span, np.ndarray] | None = None  # plane, rows, decoded pixels (C, rows, W)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_source, (self.path.absolute(), self.tiff_axes)

    def __enter__(self) -> LargeImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    @abstractmethod
    def header(self) -> ImageHeader:
        """Number and size of planes, channels, and pixel size. No pixels are read."""

    @cached_property
    def axes(self) -> dict[str, int]:
        """Lengths of the axes with several planes, the slowest first: {"t": 3, "z": 5}, or {} for one plane.

        For this example, plane = t * 5 + z.
        """
        slices = self.header.planes // self.header.frames
        return {axis: n for axis, n in (("t", self.header.frames), ("z", slices)) if n > 1}

    @cached_property
    def dtype(self) -> np.dtype:
        """Type of the pixels, in native byte order. bool is read as uint8."""
        return self.read(0, (0, 1), (0, 1)).dtype

    def state(self) -> list[str]:
        """Describe size and time of the last change of the file, to notice changes without reading the pixels.

        Of a Zarr image: of the files with metadata. Changes of its chunks are not noticed.
        """
        return [file_state(self.path)]

    def read(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        """Read a region of a plane.

        Args:
            plane: number of the plane.
            rows, columns: pixels [start, stop) within the plane.

        Returns:
            (C, h, w) in the image's dtype, contiguous.

        Raises:
            IndexError: no such plane or region.
            ImageFileError: the pixels cannot be read. The message names file, plane and region.

        Example:
            >>> from PIL import Image
            >>> from scripts.large import open_source
            >>> Image.new("RGB", (7, 5)).save("cells.png")
            >>> open_source("cells.png").read(0, rows=(0, 2), columns=(4, 7)).shape
            (3, 2, 3)
        """
        header = self.header
        if not 0 <= plane < header.planes:
            raise IndexError(f"plane {plane} of {header.planes}")
        for (start, stop), length in ((rows, header.height), (columns, header.width)):
            if not 0 <= start <= stop <= length:
                raise IndexError(f"pixels {start} to {stop} along an axis of {length}")
        with self._naming_region(plane, rows, columns):
            decoded = self._decoded_rows(rows)
            if decoded is None:
                return np.ascontiguousarray(self._region(plane, rows, columns))
            with self._lock:
                kept = self._rows
                if kept is None or kept[0] != plane or not kept[1][0] <= rows[0] <= rows[1] <= kept[1][1]:
                    self._rows = None  # frees the memory
                    self._rows = kept = (plane, decoded, self._region(plane, decoded, (0, header.width)))
            top = kept[1][0]
            return kept[2][:, rows[0] - top : rows[1] - top, slice(*columns)].copy()

    def close(self) -> None:
        """Close the file and free the kept rows. The next `read` opens the file again."""
        self._rows = None

    def _decoded_rows(self, rows: Span) -> Span | None:
        """Rows to decode with `rows`, and to keep. None: a region is decoded alone."""
        return None

    @abstractmethod
    def _region(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        """Read (C, h, w) from the file."""

    @contextmanager
    def _naming_region(self, plane: int, rows: Span, columns: Span) -> Iterator[None]:
        where = f"{self.path}, plane {plane}, rows {rows[0]} to {rows[1]}, columns {columns[0]} to {columns[1]}"
        try:
            yield
        except ImageFileError as error:
            raise ImageFileError(f"{where}: {str(error).removeprefix(str(self.path)).lstrip(': ')}") from error
        except Exception as error:  # codecs raise types of their own
            reason = next(iter(str(error).strip().splitlines()), "")
            raise ImageFileError(
                f"{where}: cannot be read ({type(error).__name__}: {reason}). Copy or write the image again"
            ) from error


class _PlanesImage(LargeImage):
    """Any format, plane by plane. The last plane is kept."""

    @cached_property
    def _file(self) -> ImageFile:
        return open_image(self.path, self.tiff_axes)

    @cached_property
    def header(self) -> ImageHeader:
        return self._file.header

    def _decoded_rows(self, rows: Span) -> Span:
        return 0, self.header.height

    def _region(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        return np.moveaxis(np.atleast_3d(self._file.plane(plane)), -1, 0)

    def close(self) -> None:
        super().close()
        self.__dict__.pop("_file", None)  # may hold all planes


class _OpenTiff(TiffPlanes):
    """An open TIFF file."""

    def __init__(self, path: Path, axes: str | None) -> None:
        super().__init__(path, axes)
        self._lock = threading.RLock()
        self._opened: OpenedTiff | None = None

    @contextmanager
    def _open(self) -> Iterator[OpenedTiff]:
        with self._lock:
            if self._opened is None:
                self._opened = self._opened_file()
                self._opened[0].filehandle.set_lock(True)
            opened = self._opened
        yield opened

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened[0].close()
            self._opened = None

    __del__ = close


class _TiffImage(LargeImage):
    """TIFF, region by region. For files with strips, the rows of the last region are kept at full width."""

    def __init__(self, path: Path, tiff_axes: str | None = None) -> None:
        super().__init__(path, tiff_axes)
        self._file = _OpenTiff(path, tiff_axes)

    @cached_property
    def header(self) -> ImageHeader:
        return self._file.header

    @cached_property
    def _strip(self) -> int:
        return self._file.decoded_rows()

    def _decoded_rows(self, rows: Span) -> Span | None:
        header, strip = self.header, self._strip
        if not strip:
            return None
        top, bottom = rows[0] // strip * strip, min(math.ceil(rows[1] / strip) * strip, header.height)
        size = (bottom - top) * header.width * header.channels * 8
        fits = strip >= header.height or size <= available_memory() * _KEPT  # a whole plane is checked by its reader
        return (top, bottom) if fits else None

    def _region(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        return np.moveaxis(self._file.region(plane, rows, columns), -1, 0)

    def close(self) -> None:
        super().close()
        self._file.close()


class _ZarrImage(LargeImage):
    """The full resolution of an OME-Zarr image, or a Zarr array."""

    def __init__(self, path: Path, tiff_axes: str | None = None) -> None:
        super().__init__(path, tiff_axes)
        self._array, self._layout = self._open()
        self._at = {axis.lower(): place for place, axis in enumerate(self._layout.axes)}

    @cached_property
    def axes(self) -> dict[str, int]:
        return {axis: self._array.shape[self._at[axis]] for axis in "tz" if axis in self._at}

    @cached_property
    def header(self) -> ImageHeader:
        layout, sizes = self._layout, self._array.shape
        size, distance, unit = spatial_size(tuple(self._at), layout.scale, layout.units)
        time = self._at.get("t")
        return ImageHeader(
            planes=math.prod(self.axes.values()),
            height=sizes[-2],
            width=sizes[-1],
            channels=sizes[self._at["c"]] if "c" in self._at else 1,
            spacing=size,
            plane_distance=distance,
            unit=unit,
            frames=1 if time is None else sizes[time],
            frame_interval=None if time is None else seconds(layout.scale[time], layout.units[time]),
        )

    @cached_property
    def dtype(self) -> np.dtype:
        return in_native_order(np.empty(0, self._array.dtype)).dtype

    def state(self) -> list[str]:
        folders = dict.fromkeys((self.path, self.path / self._layout.path))
        return [file_state(folder / name) for folder in folders for name in _METADATA if (folder / name).is_file()]

    def _region(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        numbers = dict(zip(self.axes, np.unravel_index(plane, tuple(self.axes.values())), strict=True))
        wanted: list[int | slice] = [int(numbers[axis]) if axis in numbers else slice(None) for axis in self._at]
        wanted[-2:] = slice(*rows), slice(*columns)
        pixels = in_native_order(np.asarray(self._array[tuple(wanted)]))
        return pixels if pixels.ndim == 3 else pixels[None]

    def _open(self) -> tuple[Any, Layout]:
        """Open the array of the full resolution, and read its axes and pixel size."""
        if not any((self.path / name).is_file() for name in _METADATA):
            raise ImageFileError(
                f"{self.path} is a folder without the metadata of Zarr ({', '.join(_METADATA)}); expected an image "
                "file, or the folder of an OME-Zarr image"
            )
        zarr = require("zarr", "Zarr images", self.path)
        try:
            opened = zarr.open(self.path, mode="r", use_consolidated=False)
        except Exception as error:  # each version of zarr raises its own types
            raise ImageFileError(f"{self.path} cannot be opened as Zarr ({error}): write it again") from error
        array, layout = (opened, self._plain_layout(opened)) if isinstance(opened, zarr.Array) else self._level(opened)
        self._check(array, layout)
        return array, layout

    def _level(self, group: Any) -> tuple[Any, Layout]:
        attributes = group.attrs.asdict()
        ome = attributes.get("ome", attributes)
        for key, text in (
            ("plate", "is a plate: give one of its images, as {}/A/1/0"),
            ("well", "is the well of a plate: give one of its images, as {}/0"),
            ("labels", "is a group of labels: give the image above it"),
            ("image-label", "holds labels: give their image"),
            ("bioformats2raw.layout", "is a collection of images: give one of them, as {}/0"),
        ):
            if key in ome and not (key == "labels" and "multiscales" in ome):
                raise ImageFileError(f"{self.path} {text.format(self.path)}")
        try:
            layout = image_layout(attributes)
        except ValueError as error:
            inside = sorted(name for name, _ in group.arrays())[:_LISTED] if "multiscales" not in ome else []
            hint = f". To read one of its arrays, give {self.path / inside[0]}" if inside else ""
            raise ImageFileError(f"{self.path} {error}{hint}") from error
        try:
            array = group[layout.path]
            _ = array.shape
        except (KeyError, AttributeError):
            raise ImageFileError(
                f"{self.path}: the array '{layout.path}' of the full resolution is missing; copy the whole folder"
            ) from None
        except Exception as error:  # each version of zarr raises its own types
            raise ImageFileError(
                f"{self.path}: the array '{layout.path}' has damaged metadata ({error}); copy or write the image again"
            ) from error
        return array, layout

    def _plain_layout(self, array: Any) -> Layout:
        names = getattr(array.metadata, "dimension_names", None)
        stated = "".join(names) if names and all(names) else "yx" if array.ndim == 2 else ""
        axes = tuple((self.tiff_axes or stated).lower())
        if len(axes) != array.ndim or len(set(axes)) != array.ndim:
            raise ImageFileError(
                f"{self.path} is a Zarr array of the shape {array.shape} without OME metadata. Set tiff_axes to one "
                "letter for each axis, T, C or Z before Y and X (ZYX, for example)"
            )
        return Layout("", axes, (1.0,) * array.ndim, (None,) * array.ndim)

    def _check(self, array: Any, layout: Layout) -> None:
        axes = tuple(axis.lower() for axis in layout.axes)
        if (
            len(axes) != array.ndim
            or axes[-2:] != ("y", "x")
            or not set(axes[:-2]) <= {"t", "c", "z"}
            or len(set(axes)) < len(axes)
        ):
            raise ImageFileError(
                f"{self.path} has the axes {', '.join(layout.axes)} and the shape {array.shape}; expected t, c and z "
                "in any order, each at most once, then y and x: write the image with these axes"
            )
        if 0 in array.shape:
            raise ImageFileError(f"{self.path} has the shape {array.shape}, and so no pixels")
        if np.dtype(array.dtype).kind not in "biuf":
            raise ImageFileError(f"{self.path} has pixels of the type {array.dtype}, expected integers or real numbers")
