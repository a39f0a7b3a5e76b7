"""One way into every image format but TIFF: what the header says, and one plane as an array, rows first.

Each class answers the same two questions about a file, `header` (read without the pixels) and `plane(k)`. Axis
conventions are settled here and nowhere else: Pillow and ITK give rows first already, NIfTI stores (x, y, z) and is
turned to (y, x).

Import libraries of single file kinds at the first file of the kind.

PNG and TIFF files are read and written without itk, nibabel and imagecodecs. Training and segmentation run on machines
without the three libraries. MONAI imports them at its start wherever they are installed.

PNG files without filters, written by Python's own zlib.

Pillow filters every row. The overlay of an ISBI 2012 section (512 x 512) then takes 436 kB and 15 ms, without filters
376 kB and 7 ms (one core of a 2-core cloud machine).
"""

from __future__ import annotations

import importlib
import os
import struct
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image


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


Image.MAX_IMAGE_PIXELS = None  # Pillow takes more than 179 megapixels for an attack; a large section has more

PILLOW_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
TIFF_SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr", ".dcm", ".dicom")
IMAGE_SUFFIXES = PILLOW_SUFFIXES + TIFF_SUFFIXES + NIFTI_SUFFIXES + ITK_SUFFIXES


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


class PillowFile(ImageFile):
    """PNG, BMP, JPEG through Pillow, in the pixel order that is stored (an EXIF orientation is not applied).

    Palette images give the *indices*, which is what label images mean by them; an alpha channel is dropped. 16-bit
    colour PNGs, which Pillow cuts to 8 bit, are decoded by imagecodecs. Print resolutions (pHYs, JFIF) say nothing
    about the specimen and are not taken for the size of a pixel.
    """

    @cached_property
    def header(self) -> ImageHeader:
        """Size and channels; Pillow opens without decoding."""
        with Image.open(self.path) as image:
            mode = "RGB" if image.mode in _CONVERTED else image.mode
            deep_grey_alpha = image.mode == "RGBA" and "LA" in str(image.tile)  # how Pillow opens 16-bit grey + alpha
            channels = 1 if deep_grey_alpha else len(Image.new(mode, (1, 1)).getbands()) - (mode in _WITH_ALPHA)
            return ImageHeader(planes=1, height=image.height, width=image.width, channels=channels)

    def plane(self, index: int) -> np.ndarray:
        """The image: uint8, uint16, int32 or float32; 1-bit images as uint8 0 and 1."""
        with Image.open(self.path) as image:
            if image.format == "PNG" and image.mode in ("RGB", "RGBA") and "16" in str(image.tile):
                imagecodecs = require("imagecodecs", "16-bit colour PNG files", self.path)
                array = np.asarray(imagecodecs.png_decode(self.path.read_bytes()))
                array = array[..., : 1 if array.shape[2] == 2 else 3]
            else:
                array = np.asarray(image.convert("RGB") if image.mode in _CONVERTED else image)
                array = array[..., :-1] if image.mode in _WITH_ALPHA else array
        return tidy(array)


_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_CONVERTED = ("CMYK", "YCbCr", "LAB", "HSV")


class NiftiFile(ImageFile):
    """NIfTI through nibabel: stored (x, y[, z][, c]), given as planes along z with rows y and columns x.

    A fourth axis longer than 1 is taken for channels, as MONAI's own reader does. Of an uncompressed file only the
    plane asked for is read.
    """

    @cached_property
    def image(self) -> Any:
        """The nibabel image, its pixels still on disk."""
        return require("nibabel", "NIfTI files", self.path).load(self.path)

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """(x, y, z, c), axes that are not there counted as 1."""
        shape = tuple(int(n) for n in self.image.shape)
        x, y, z = (*shape, 1, 1)[:3]
        rest = [n for n in shape[3:] if n > 1]
        if len(rest) > 1 or min(shape) < 1:
            raise ImageFileError(
                f"{self.path} has the shape {shape}; expected (x, y), (x, y, z) or (x, y, z, channels): "
                "split it into such files"
            )
        return x, y, z, rest[0] if rest else 1

    @cached_property
    def header(self) -> ImageHeader:
        """Size, zooms and unit; where NIfTI leaves the unit open, mm is meant unless every zoom is 1."""
        x, y, z, channels = self.shape
        zooms = [float(zoom) for zoom in (*self.image.header.get_zooms()[:3], 1.0)][:3]
        unit = self.image.header.get_xyzt_units()[0]
        unit = {"micron": "um", "meter": "m", "mm": "mm"}.get(unit) or ("pixel" if set(zooms) == {1.0} else "mm")
        names = self.image.header.get_data_dtype().names  # RGB is a record per pixel
        channels = len(names) if names else channels
        return ImageHeader(z, y, x, channels, (zooms[1], zooms[0]), zooms[2], unit)

    @cached_property
    def _pixels(self) -> Any:
        # A gzip stream is read from its start for every plane, so it is unpacked once; else nibabel seeks to the plane.
        compressed = self.path.name.lower().endswith(".gz")
        return np.asarray(self.image.dataobj) if compressed else self.image.dataobj

    def plane(self, index: int) -> np.ndarray:
        """Plane z = `index`: array[row, column] is the file's [x = column, y = row]."""
        x, y, _, _ = self.shape
        block = np.asarray(self._pixels[:, :, index] if len(self.image.shape) > 2 else self._pixels[:, :])
        if block.dtype.names:
            block = np.stack([block[name] for name in block.dtype.names], axis=-1)
        return tidy(block.reshape(x, y, self.header.channels).transpose(1, 0, 2))


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


def tidy(array: np.ndarray) -> np.ndarray:
    """A plane as torch takes it: channel axis only where there are several, no bool, native byte order, own memory."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST = 2**30  # bytes of a chunk; the format allows twice as many
_COLOUR_TYPES = {1: 0, 3: 2}  # channels: the number of PNG for grey values and for colours


def png_bytes(image: np.ndarray, level: int = 1, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """Encode an 8-bit image as PNG, every row as it is (filter 0).

    Args:
        image: uint8, (H, W) in grey or (H, W, 3) in colour.
        level: of zlib's compression, 0 to 9.
        strategy: of zlib; `zlib.Z_RLE` searches only for runs of a value: fast and small for class maps.

    Returns:
        the content of the file.

    Raises:
        ValueError: not uint8, an unknown number of channels, or no pixels.

    References:
        PNG specification, third edition, W3C 2025, sections 5 (chunks), 9 (filters) and 10 (compression).
    """
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in _COLOUR_TYPES or 0 in image.shape:
        raise ValueError(f"expected uint8 (H, W) or (H, W, 3), got {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # the first byte of a row names its filter
    rows[:, 1:] = image.reshape(height, -1)
    compressor = zlib.compressobj(level, strategy=strategy)
    header = struct.pack(">2I5B", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    pixels = compressor.compress(rows.data) + compressor.flush()
    parts = (pixels[first : first + _LARGEST] for first in range(0, len(pixels), _LARGEST))
    return b"".join(
        [_SIGNATURE, _chunk(b"IHDR", header), *(_chunk(b"IDAT", part) for part in parts), _chunk(b"IEND", b"")]
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
