"""NIfTI through nibabel."""

from __future__ import annotations

import gzip
import math
from functools import cached_property
from typing import Any

import numpy as np

from .declared import DEFLATE, check_memory, check_stored
from .files import replacing
from .image_file import ImageFile, ImageFileError, ImageHeader, ResultFile, require
from .units import UM_PER

_CHUNK = 2**20
_MOST_AFTER = 2**24  # bytes after the pixels of compressed files


class NiftiFile(ImageFile):
    """Read NIfTI. The file stores (x, y[, z][, c]); planes lie along z and have rows y and columns x.

    A fourth axis longer than 1 is channels, as in MONAI's reader. Uncompressed files are read plane by plane. Without a
    stated unit, zooms other than 1 are in mm.
    """

    @cached_property
    def image(self) -> Any:
        """The nibabel image. Pixels stay on disk."""
        return require("nibabel", "NIfTI files", self.path).load(self.path)

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """(x, y, z, c). Absent axes have length 1."""
        shape = tuple(int(n) for n in self.image.shape)
        x, y, z = (*shape, 1, 1)[:3]
        longer = [n for n in shape[3:] if n > 1]
        if len(longer) > 1 or min(shape) < 1:
            raise ImageFileError(
                f"{self.path} has the shape {shape}; expected (x, y), (x, y, z) or (x, y, z, channels). "
                "Split the file into files of these shapes"
            )
        return x, y, z, longer[0] if longer else 1

    @property
    def _compressed(self) -> bool:
        return self.path.name.lower().endswith(".gz")

    @property
    def _stored_bytes(self) -> int:
        """Bytes of the declared pixels in the unpacked file."""
        return math.prod(self.image.shape) * int(self.image.header.get_data_dtype().itemsize)

    def _read_header(self) -> ImageHeader:
        x, y, z, channels = self.shape
        in_file, ratio = self.path.stat().st_size, DEFLATE if self._compressed else 1.0
        end = self._stored_bytes + int(self.image.dataobj.offset)
        check_stored(self.path, self.image.shape, end, in_file, ratio)
        zooms = [float(zoom) for zoom in (*self.image.header.get_zooms()[:3], 1.0)][:3]
        unit = self.image.header.get_xyzt_units()[0]
        unit = {"micron": "um", "meter": "m", "mm": "mm"}.get(unit) or ("pixel" if set(zooms) == {1.0} else "mm")
        names = self.image.header.get_data_dtype().names  # RGB is a record per pixel
        channels = len(names) if names else channels
        return ImageHeader(z, y, x, channels, (zooms[1], zooms[0]), zooms[2], unit, self._world(unit))

    def _world(self, unit: str) -> np.ndarray | None:
        """The place in space, for (row, column, plane). NIfTI's x points right and y to the front."""
        header = self.image.header
        if not header["sform_code"] and not header["qform_code"]:
            return None
        to_mm = UM_PER.get(unit, 1000.0) / 1000.0
        world = np.diag([-to_mm, -to_mm, to_mm, 1.0]) @ np.asarray(self.image.affine, float)
        return world[:, [1, 0, 2, 3]]

    @cached_property
    def _pixels(self) -> Any:
        if not self._compressed:
            return self.image.dataobj
        # gzip has no random access: each plane would be unpacked from the start of the file
        size = math.prod(self.image.shape) * max(self.image.dataobj.dtype.itemsize, 8 if self._is_scaled else 1)
        check_memory(self.path, self.image.shape, size)
        with gzip.open(self.path) as stream:
            array = np.asarray(type(self.image).from_stream(stream).dataobj)
            rest = 0
            while more := len(stream.read(_CHUNK)):  # to the end, where gzip compares the checksum
                rest += more
                if rest > _MOST_AFTER:
                    raise ImageFileError(
                        f"{self.path} unpacks to more than {_MOST_AFTER} bytes after the {self._stored_bytes} bytes of "
                        "pixels that the header declares. The header is damaged: export the file again"
                    )
        return array

    @property
    def _is_scaled(self) -> bool:
        return (self.image.dataobj.slope, self.image.dataobj.inter) != (1, 0)

    def _read_plane(self, index: int) -> np.ndarray:
        x, y, _, _ = self.shape
        if not self._compressed:
            check_memory(self.path, (x, y), x * y * self.header.channels * 8)
        block = np.asarray(self._pixels[:, :, index] if len(self.image.shape) > 2 else self._pixels[:, :])
        if block.dtype.names:
            block = np.stack([block[name] for name in block.dtype.names], axis=-1)
        return block.reshape(x, y, self.header.channels).transpose(1, 0, 2)


class NiftiResult(ResultFile):
    """Write NIfTI with the affine and header of the image: (x, y, z), several channels as a fourth axis."""

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
