"""Results as TIFF files that every reader takes, ImageJ and Pillow among them, written plane by plane."""

from __future__ import annotations

import zlib
from contextlib import ExitStack
from typing import Any

import numpy as np
import tifffile

from scripts.atomic_files import replacing
from scripts.result_files import ResultFile

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
