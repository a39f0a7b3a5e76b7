"""MHA, NRRD and DICOM through ITK."""

from __future__ import annotations

import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .declared import DEFLATE, check_memory, check_stored
from .files import replacing
from .image_file import ImageFile, ImageFileError, ImageHeader, ResultFile, require
from .text_headers import StoredPixels, check_checksum, stored_pixels

# number types without images in ITK's Python package: ITK converts them to short or double
_WIDER = {"char": "SS", "long": "D", "unsigned_long": "D", "long_long": "D", "unsigned_long_long": "D"}
_RATIOS = {"raw": 1.0, "zlib": DEFLATE}
_BITS_AND_SAMPLES = ("0028|0100", "0028|0002")  # tags of DICOM: bits of a sample in the file, samples of a pixel
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")  # transfer syntaxes of DICOM


class ItkFile(ImageFile):
    """Read MHA, NRRD, DICOM and all formats of ITK. Planes lie along the last axis (z).

    Grey values are rescaled by ITK. Several channels become float32. ITK reads whole volumes; the volume is kept in
    memory for the next planes. Spacing is in mm; exactly 1 along all axes means: not stated.
    """

    @property
    def itk(self) -> Any:
        """The library, imported at the first file."""
        return require("itk", "MHA, NRRD and DICOM files", self.path)

    @cached_property
    def io(self) -> Any:
        """ITK's ImageIO with the file's header: dimensions, spacing, origin, direction."""
        io = self._new_io()
        io.ReadImageInformation()
        return io

    @cached_property
    def stored(self) -> StoredPixels | None:
        """Files and encoding of the pixels of MHA and NRRD. Files of other folders raise an error."""
        return stored_pixels(self.path)

    def _new_io(self) -> Any:
        _ = self.stored  # before ITK opens the files that a header names
        itk = self.itk
        if self.path.suffix.lower() in (".mha", ".mhd"):
            io = itk.MetaImageIO.New()  # ITK recognises these endings only in lower case
        else:
            io = itk.ImageIOFactory.CreateImageIO(str(self.path), itk.CommonEnums.IOFileMode_ReadMode)
        if io is None:
            raise ImageFileError(f"{self.path}: no reader of ITK recognises the file; check that it is undamaged")
        io.SetFileName(str(self.path))
        return io

    @property
    def _sizes(self) -> list[int]:
        """Declared sizes, x first."""
        return [int(self.io.GetDimensions(axis)) for axis in range(self.io.GetNumberOfDimensions())]

    @property
    def _stored_bytes(self) -> int:
        """Bytes of the declared pixels without compression."""
        return math.prod(self._sizes) * int(self.io.GetNumberOfComponents()) * int(self.io.GetComponentSize())

    def _read_header(self) -> ImageHeader:
        sizes, rank = self._sizes, self.io.GetNumberOfDimensions()
        spacing = [float(self.io.GetSpacing(axis)) for axis in range(rank)]
        if rank not in (2, 3):
            raise ImageFileError(f"{self.path} has {rank} dimensions {sizes}; expected 2 or 3. Split the file")
        if self.stored is not None:
            ratio = _RATIOS.get(self.stored.encoding, math.inf)
            check_stored(self.path, sizes, self._stored_bytes, self.stored.size, ratio)
        elif _is_plain_dicom(self.path):  # ITK would fill missing rows with whatever the memory holds
            tags = self.io.GetMetaDataDictionary()
            bits = [int(tags[tag]) for tag in _BITS_AND_SAMPLES if tags.HasKey(tag)]
            check_stored(self.path, sizes, math.prod((*sizes, *bits)) / 8, self.path.stat().st_size)
        x, y, z = (*sizes, 1)[:3]
        unit = "pixel" if set(spacing) == {1.0} else "mm"
        distance = spacing[2] if rank == 3 else 1.0
        channels = int(self.io.GetNumberOfComponents())
        return ImageHeader(z, y, x, channels, (spacing[1], spacing[0]), distance, unit, self._world())

    def _world(self) -> np.ndarray:
        """The place in space, for (row, column, plane). Without direction and origin in the file: identity, 0."""
        io, world = self.io, np.eye(4)
        rank = io.GetNumberOfDimensions()
        for column, axis in zip((1, 0, 2), range(rank), strict=False):  # axes of ITK are x, y, z
            world[:rank, column] = np.array(io.GetDirection(axis)) * io.GetSpacing(axis)
        world[:rank, 3] = [io.GetOrigin(axis) for axis in range(rank)]
        return world

    @cached_property
    def _volume(self) -> np.ndarray:
        itk, header, rank = self.itk, self.header, self.io.GetNumberOfDimensions()
        floats = 4 * math.prod(self._sizes) * header.channels if header.channels > 1 else 0
        check_memory(self.path, self._sizes, max(self._stored_bytes, floats))
        if self.stored is not None:
            check_checksum(self.path, self.stored, self._stored_bytes)
        wide = _WIDER.get(str(self.io.GetComponentTypeAsString(self.io.GetComponentType())))
        kind = wide and itk.Image[getattr(itk, wide), rank]
        if header.channels > 1:
            kind = itk.VectorImage[itk.F, rank]
        if kind is None:
            image = itk.imread(str(self.path), imageio=self._new_io())
        else:
            reader = itk.ImageFileReader[kind].New(FileName=str(self.path), ImageIO=self._new_io())
            reader.Update()
            image = reader.GetOutput()
        volume = np.asarray(itk.array_from_image(image))  # (z, y, x[, c]) or (y, x[, c])
        return volume.reshape(header.planes, header.height, header.width, header.channels)

    def _read_plane(self, index: int) -> np.ndarray:
        return self._volume[index]


def _is_plain_dicom(path: Path) -> bool:
    """Whether a DICOM file stores pixels without compression, by its transfer syntax."""
    with path.open("rb") as file:
        match = re.search(rb"\x02\x00\x10\x00UI..([0-9.]+)", file.read(2**12), re.DOTALL)
    return match is not None and match[1].decode("ascii") in _UNCOMPRESSED


class ItkResult(ResultFile):
    """Write MHA or NRRD with the spacing, origin and direction of the image. Several channels are pixel components."""

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
