"""MHA, NRRD and DICOM."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from scripts.io.files import replacing
from scripts.io.image_file import ImageFile, ImageFileError, ImageHeader, VolumeResult, require, tidy


class ItkFile(ImageFile):
    """MHA, NRRD, DICOM and what else ITK reads: planes along the last axis (z), rows first. Grey values as ITK
    rescales them.

    Several channels come as float32. ITK reads whole volumes; the file read last is kept, so that a volume is read once
    and not once per plane.
    """

    @cached_property
    def io(self) -> Any:
        """ITK's ImageIO of the file, its header read: dimensions, spacing, origin, direction."""
        io = self._new_io()
        io.ReadImageInformation()
        return io

    @property
    def itk(self) -> Any:
        """The library, imported for the first file that needs it."""
        return require("itk", f"{_ITK_KINDS.get(self.path.suffix.lower(), 'DICOM')} files", self.path)

    def _new_io(self) -> Any:
        itk = self.itk
        if self.path.suffix.lower() in (".mha", ".mhd"):
            io = itk.MetaImageIO.New()  # ITK itself knows these endings in lower case alone
        else:
            io = itk.ImageIOFactory.CreateImageIO(str(self.path), itk.CommonEnums.IOFileMode_ReadMode)
        if io is None:
            raise ImageFileError(
                f"{self.path}: no reader of ITK recognises it; check that it is a whole, undamaged image file"
            )
        io.SetFileName(str(self.path))
        return io

    @cached_property
    def header(self) -> ImageHeader:
        """Size and spacing in mm; a spacing of exactly 1 along every axis is the formats' way to say nothing."""
        rank = self.io.GetNumberOfDimensions()
        sizes = [int(self.io.GetDimensions(axis)) for axis in range(rank)]
        spacing = [float(self.io.GetSpacing(axis)) for axis in range(rank)]
        if rank not in (2, 3):
            raise ImageFileError(
                f"{self.path} has {rank} dimensions {sizes}; expected 2 or 3: split it into such files"
            )
        x, y, z = (*sizes, 1)[:3]
        unit = "pixel" if set(spacing) == {1.0} else "mm"
        distance = spacing[2] if rank == 3 else 1.0
        return ImageHeader(z, y, x, int(self.io.GetNumberOfComponents()), (spacing[1], spacing[0]), distance, unit)

    @cached_property
    def _volume(self) -> np.ndarray:
        itk = self.itk
        header, name, rank = self.header, str(self.path), self.io.GetNumberOfDimensions()
        # ITK's Python images do not exist for every number type: ITK converts the others to one that holds them.
        wide = _WIDER.get(str(self.io.GetComponentTypeAsString(self.io.GetComponentType())))
        kind = None
        if header.channels > 1:
            kind = itk.VectorImage[itk.F, rank]
        elif wide is not None:
            kind = itk.Image[getattr(itk, wide), rank]
        if kind is None:
            image = itk.imread(name, imageio=self._new_io())
        else:
            reader = itk.ImageFileReader[kind].New(FileName=name, ImageIO=self._new_io())
            reader.Update()
            image = reader.GetOutput()
        volume = np.asarray(itk.array_from_image(image))  # (z, y, x[, c]) or (y, x[, c])
        return volume.reshape(header.planes, header.height, header.width, header.channels)

    def plane(self, index: int) -> np.ndarray:
        """Plane z = `index`."""
        return tidy(self._volume[index])


_ITK_KINDS = {".mha": "MHA", ".mhd": "MHA", ".nrrd": "NRRD", ".nhdr": "NRRD"}
_WIDER = {"char": "SS", "long": "D", "unsigned_long": "D", "long_long": "D", "unsigned_long_long": "D"}


class ItkResult(VolumeResult):
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
