"""Writing planes of a segmentation in the format of the image they belong to; each file appears complete or not at all.

    image            class map                                      scores, instances
    PNG, BMP, JPEG   PNG (lossless; a JPEG of labels would not be)  TIFF
    TIFF             TIFF                                           TIFF
    NIfTI            as the image, with its affine and header       same
    MHA, NRRD        as the image, with spacing, origin, direction  same
    DICOM            MHA with spacing, origin, direction            same
                     (no other tag: patient data stay behind)

Planes arrive one by one in the order of the file. A plane that is skipped is written as zeros and listed in `missing`.
TIFF stacks are streamed (`scripts.tiff_results`); volumes of the other formats are collected and written at the end.
"""

from __future__ import annotations

import gzip
import zlib
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from scripts.atomic_files import replacing
from scripts.image_files import ITK_SUFFIXES, NIFTI_SUFFIXES, PILLOW_SUFFIXES, ImageHeader, ItkFile, NiftiFile
from scripts.png_files import png_bytes
from scripts.readers import image_suffix

_DETACHED = {".mhd": ".mha", ".nhdr": ".nrrd"}  # header and pixels in two files cannot be renamed as one


def result_suffix(source: Path, as_image: bool) -> str:
    """Ending of the result for an image: see the table above.

    Args:
        source: the image.
        as_image: the result holds small whole numbers, which PNG takes (class maps).
    """
    suffix = image_suffix(source)
    if suffix in PILLOW_SUFFIXES and as_image:
        return ".png"
    if suffix in NIFTI_SUFFIXES:
        return suffix
    if suffix in ITK_SUFFIXES:
        return _DETACHED.get(suffix, suffix if suffix in (".mha", ".nrrd") else ".mha")
    return ".tif"


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


class PngResult(ResultFile):
    """An 8-bit greyscale PNG.

    Of a class map all but runs of one value is taken for noise: the file is no larger than with a search for repeated
    parts and with filters, and takes an eighth of the time.
    """

    def _put(self, plane: np.ndarray) -> None:
        self._plane = plane

    def _save(self) -> None:
        content = png_bytes(self._plane.astype(np.uint8), strategy=zlib.Z_RLE)
        with replacing(self.path) as temporary:
            temporary.write_bytes(content)


class _Volume(ResultFile):
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


class NiftiResult(_Volume):
    """NIfTI with the affine and header of the image; stored (x, y, z), several channels as a fourth axis."""

    def _save(self) -> None:
        volume = self._volume()
        stored = np.moveaxis(volume, (2, 1, 0), (0, 1, 2))  # (x, y, z[, c])
        source = NiftiFile(self.source).image
        if len(source.shape) == 2 and volume.ndim == 3:
            stored = stored[..., 0]
        header = source.header.copy()
        header.set_data_dtype(stored.dtype)
        header.set_slope_inter(1, 0)
        header["cal_min"] = header["cal_max"] = 0  # the display window of the image would hide labels
        content = type(source)(stored, source.affine, header).to_bytes()
        with replacing(self.path) as temporary:
            temporary.write_bytes(gzip.compress(content, mtime=0) if self.path.name.endswith(".gz") else content)


class ItkResult(_Volume):
    """MHA or NRRD with the spacing, origin and direction of the image; several channels as components of a pixel."""

    def _save(self) -> None:
        volume = self._volume()
        source = ItkFile(self.source)
        itk, io = source.itk, source.io
        rank = io.GetNumberOfDimensions()
        array = np.ascontiguousarray(volume[0] if rank == 2 else volume)
        image = itk.image_from_array(array, is_vector=volume.ndim == 4)
        image.SetSpacing([io.GetSpacing(axis) for axis in range(rank)])
        image.SetOrigin([io.GetOrigin(axis) for axis in range(rank)])
        directions = np.array([io.GetDirection(axis) for axis in range(rank)])  # a row per axis of the image
        image.SetDirection(itk.matrix_from_array(directions.T.copy()))
        with replacing(self.path) as temporary:
            itk.imwrite(image, str(temporary), compression=True)
