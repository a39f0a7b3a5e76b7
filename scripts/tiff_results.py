"""Results as TIFF files that every reader takes, ImageJ and Pillow among them, written plane by plane."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from scripts.atomic_files import replacing
from scripts.result_files import ResultFile

_BIGTIFF_BYTES = 2**32 - 2**25
_WORTH_DEFLATING = 0.8  # of the size, at most: otherwise probabilities are not compressed
_SAMPLED = 32  # of so many rows one is compressed to know


class TiffResult(ResultFile):
    """A TIFF that ImageJ opens as a hyperstack with channels, slices and the size of a pixel.

    The first plane decides the number type; a stack of uint16 that meets a larger label is rewritten as uint32. Labels
    are compressed, by deflate; probabilities where the first plane's are worth it: their digits are noise to it.
    """

    def _put(self, plane: np.ndarray) -> None:
        pages = plane if plane.ndim == 3 else plane[None]  # (C, H, W)
        if self._unfinished is None:
            self._compression = _compression(pages)
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
            contiguous=not self._compression,  # ImageJ takes uncompressed planes for one block
            photometric="minisblack",
            metadata=None,  # the description is ours
            description=self._description,
            resolution=self._resolution,
            resolutionunit=1,  # none: ImageJ takes the unit from its description
            **self._compression,
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


def _compression(pages: np.ndarray) -> dict[str, Any]:
    """Options of `TiffWriter.write` for pages (C, H, W) like these.

    Deflate takes a tenth off the probabilities of an uncertain network, in the time of everything else that is written
    of an image, and nearly all off those of a certain one. Some rows tell which.
    """
    if pages.dtype.kind == "f":
        some = pages[:, ::_SAMPLED].tobytes()
        if len(imagecodecs.deflate_encode(some, 1)) > _WORTH_DEFLATING * len(some):
            return {}
    return {"compression": "zlib", "compressionargs": {"level": 1 if pages.dtype.kind == "f" else 6}}
