"""What every image format has: a header, planes to read, planes to write."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np


class ImageFileError(ValueError):
    """A file that cannot be read as an image; the message names the file and the remedy."""


def require(package: str, kind: str, path: str | os.PathLike[str]) -> ModuleType:
    """Import the library of a file kind.

    Args:
        package: name of the library, in Python and for pip: "itk", "nibabel", "imagecodecs".
        kind: the kind of files, in the plural: "NIfTI files".
        path: the file at hand.

    Returns:
        the library.

    Raises:
        ImageFileError: the library is not installed or its import fails. The message names file, kind and remedy.

    Example:
        >>> require("itk", "MHA files", "cells.mha").imread("cells.mha")  # doctest: +SKIP
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "" if absent else f", whose import failed ({' '.join(str(error).split())})"
        raise ImageFileError(f"{path}: {kind} need the package {package}{reason}: pip install {package}") from error


@dataclass(frozen=True)
class ImageHeader:
    """What is known of an image file before its pixels are read.

    Args:
        planes: number of 2-D planes, 1 for a plain image.
        height: rows of a plane.
        width: columns of a plane.
        channels: values per pixel, an alpha channel not counted.
        spacing: size of a pixel (rows, columns) in `unit`; (1, 1) where the file states none.
        plane_distance: distance of neighbouring planes in `unit`; 1 where the file states none.
        unit: "um", "mm", ..., or "pixel" where the size of a pixel is not known.
    """

    planes: int
    height: int
    width: int
    channels: int
    spacing: tuple[float, float] = (1.0, 1.0)
    plane_distance: float = 1.0
    unit: str = "pixel"


class ImageFile(ABC):
    """One image file of any format."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def header(self) -> ImageHeader:
        """What the file says of itself, without reading pixels."""

    @abstractmethod
    def plane(self, index: int) -> np.ndarray:
        """Plane `index` in [0, header.planes), rows first: (H, W) or (H, W, C), native byte order."""


def tidy(array: np.ndarray) -> np.ndarray:
    """A plane as torch takes it: channel axis only where there are several, no bool, native byte order, own memory."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


class ResultFile(ABC):
    """One result file in the making.

    Args:
        path: where it shall be.
        source: the image file that it belongs to.
        header: of that image.
    """

    def __init__(self, path: Path, source: Path, header: ImageHeader) -> None:
        self.path = path
        self.source = source
        self.header = header
        self.missing: list[int] = []
        self._next = 0
        self._unfinished: ExitStack | None = None  # what is open until the last plane

    @property
    def complete(self) -> bool:
        """Whether the last plane has arrived."""
        return self._next == self.header.planes

    def add(self, index: int, plane: np.ndarray) -> None:
        """Take plane `index`, (H, W) or (C, H, W); those between it and the one before are missing.

        Raises:
            ValueError: planes out of order, or a size other than the image's.
        """
        size = (self.header.height, self.header.width)
        if plane.shape[-2:] != size:
            raise ValueError(
                f"the result for {self.source} has the size {plane.shape[-2:]}; expected the image's {size}"
            )
        if not self._next <= index < self.header.planes:
            raise ValueError(
                f"plane {index} of {self.source} comes after plane {self._next - 1} of {self.header.planes}; "
                "expected the planes of one file in order: do not shuffle images for inference"
            )
        self._skip_to(index, plane)
        self._put(plane)
        self._next = index + 1

    def finish(self) -> None:
        """Fill what is missing at the end with zeros and put the file in its place."""
        self._skip_to(self.header.planes, self._last_plane)
        self._next = self.header.planes
        self._save()

    def discard(self) -> None:
        """Give up and leave nothing behind."""
        if self._unfinished is not None:
            stopped = InterruptedError(f"{self.path} was given up")
            self._unfinished.__exit__(type(stopped), stopped, None)  # an error: not renamed but removed
            self._unfinished = None

    def _skip_to(self, index: int, like: np.ndarray) -> None:
        for number in range(self._next, index):
            self.missing.append(number)
            self._put(np.zeros_like(like))
        self._last_plane = like

    @abstractmethod
    def _put(self, plane: np.ndarray) -> None:
        """Take the next plane."""

    @abstractmethod
    def _save(self) -> None:
        """Put the file in its place, after the last plane."""


class VolumeResult(ResultFile):
    """Planes collected in memory until the volume is whole."""

    def __init__(self, path: Path, source: Path, header: ImageHeader) -> None:
        super().__init__(path, source, header)
        self._planes: list[np.ndarray] = []

    def _put(self, plane: np.ndarray) -> None:
        self._planes.append(plane)

    def _volume(self) -> np.ndarray:
        """(z, y, x), with several channels (z, y, x, c)."""
        planes = np.stack(self._planes)
        return planes if planes.ndim == 3 else np.moveaxis(planes, 1, -1)
