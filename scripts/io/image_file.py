"""Base classes of all formats: `ImageFile` reads planes of a file, `ResultFile` writes planes to a file.

Planes have rows first: (H, W), row 0 at the top.
"""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType

import numpy as np

from .names import shown


class ImageFileError(ValueError):
    """A file cannot be read as an image. The message names the file and the remedy, without control characters."""

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


def require(package: str, kind: str, path: str | os.PathLike[str]) -> ModuleType:
    """Import the library of a file format, at the first file of the format. PNG and most TIFF need no library.

    Args:
        package: name of the library for Python and pip: "itk", "nibabel", "imagecodecs".
        kind: kind of the file, in the plural: "NIfTI files".
        path: the file.

    Raises:
        ImageFileError: the library is not installed, or its import fails. The message names file, kind and remedy.

    Example:
        >>> require("numpy", "NPY files", "cells.npy").__name__
        'numpy'
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "" if absent else f", whose import failed ({' '.join(str(error).split())})"
        raise ImageFileError(f"{path}: {kind} need the package {package}{reason}: pip install {package}") from error


@dataclass(frozen=True)
class ImageHeader:
    """Size and pixel size of an image file, known before pixels are read."""

    planes: int  # number of 2-D planes; 1 for a plain image
    height: int  # rows of a plane
    width: int  # columns of a plane
    channels: int  # values per pixel, without alpha
    spacing: tuple[float, float] = (1.0, 1.0)  # pixel size (rows, columns) in `unit`; (1, 1) if unknown
    plane_distance: float = 1.0  # distance between neighbouring planes in `unit`; 1 if unknown
    unit: str = "pixel"  # "um", "mm", ..., or "pixel" if the pixel size is unknown
    # place in space: world @ (row, column, plane, 1) is (x, y, z, 1) in mm, x to the patient's left, y to the back, z
    # to the head (LPS, as in DICOM). None: the file states no place
    world: np.ndarray | None = field(default=None, compare=False)
    frames: int = 1  # points in time among the planes: plane = frame * (planes / frames) + slice
    frame_interval: float | None = None  # seconds between two frames; None if unknown


class ImageFile(ABC):
    """Read an image file plane by plane, as viewers show the image. Each format has a subclass.

    Args:
        path: the file.
        as_label: keep the stored values, which are classes or objects: indices of a palette, grey values with the
            minimum as white.

    Raises:
        ImageFileError: (header, plane) the file cannot be read. The message names the file and the remedy.
    """

    def __init__(self, path: str | os.PathLike[str], as_label: bool = False) -> None:
        self.path = Path(path)
        self.as_label = as_label

    @cached_property
    def header(self) -> ImageHeader:
        """Size, channels and pixel size. No pixels are read."""
        with naming_image(self.path):
            return self._read_header()

    def plane(self, index: int) -> np.ndarray:
        """Read plane `index`, 0 to header.planes - 1.

        Returns:
            (H, W) or (H, W, C) with several channels, in the file's dtype and native byte order. bool becomes uint8.
        """
        with naming_image(self.path):
            array = self._read_plane(index)
        return in_native_order(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)

    @abstractmethod
    def _read_header(self) -> ImageHeader: ...

    @abstractmethod
    def _read_plane(self, index: int) -> np.ndarray: ...


def in_native_order(array: np.ndarray) -> np.ndarray:
    """Copy pixels of a file to an array in C order with the machine's byte order. bool becomes uint8.

    Example:
        >>> in_native_order(np.array([True, False])), in_native_order(np.ones(1, ">u2")).dtype
        (array([1, 0], dtype=uint8), dtype('uint16'))
    """
    return np.array(array, dtype=np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="), order="C")


@contextmanager
def naming_image(path: Path) -> Iterator[None]:
    """Add the file's name and a remedy to errors of image libraries.

    Raises:
        ImageFileError: instead of any other error within the block.

    Example:
        >>> with naming_image(Path("cells.tif")):
        ...     int("x")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ImageFileError: cells.tif cannot be read as an image
    """
    try:
        yield
    except ImageFileError:
        raise
    except Exception as error:  # each library raises its own types (SyntaxError, zlib.error, struct.error, ...)
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ImageFileError(
            f"{path} cannot be read as an image ({type(error).__name__}: {reason}). The file may be damaged or of "
            "another format than its name says: open it in an image viewer, export it again, or take it out"
        ) from error


class ResultFile(ABC):
    """Write a result file plane by plane. Each format has a subclass.

    Planes are collected in memory and written after the last plane. TIFF is written at each plane.

    Args:
        path: the result file.
        source: the image file of the result, with the header `header`.
    """

    def __init__(self, path: Path, source: Path, header: ImageHeader) -> None:
        self.path = path
        self.source = source
        self.header = header
        self.missing: list[int] = []
        self._next = 0
        self._planes: list[np.ndarray] = []

    @property
    def complete(self) -> bool:
        """True after the last plane."""
        return self._next == self.header.planes

    def add(self, index: int, plane: np.ndarray) -> None:
        """Write one plane. Skipped planes become zeros and are listed in `missing`.

        Args:
            index: number of the plane, above the number of the previous plane.
            plane: (H, W) or (C, H, W).

        Raises:
            ValueError: planes come out of order, or their size is not the image's.
        """
        size = (self.header.height, self.header.width)
        if plane.shape[-2:] != size:
            raise ValueError(f"result for {self.source} has the size {plane.shape[-2:]}; expected the image's {size}")
        if not self._next <= index < self.header.planes:
            raise ValueError(
                f"plane {index} of {self.source} comes after plane {self._next - 1} of {self.header.planes}; "
                "expected the planes of a file in order: do not shuffle images for inference"
            )
        self._fill(index, plane)
        self._put(plane)
        self._next = index + 1

    def finish(self) -> None:
        """Write zeros for missing planes at the end, then give the file the final name."""
        self._fill(self.header.planes, self._last_plane)
        self._next = self.header.planes
        self._save()

    def discard(self) -> None:
        """Delete the unfinished result."""
        self._planes.clear()

    def _fill(self, end: int, like: np.ndarray) -> None:
        for number in range(self._next, end):
            self.missing.append(number)
            self._put(np.zeros_like(like))
        self._last_plane = like

    def _put(self, plane: np.ndarray) -> None:
        self._planes.append(plane)

    def _volume(self) -> np.ndarray:
        """(z, y, x), with several channels (z, y, x, c)."""
        planes = np.stack(self._planes)
        return planes if planes.ndim == 3 else np.moveaxis(planes, 1, -1)

    @abstractmethod
    def _save(self) -> None: ...
