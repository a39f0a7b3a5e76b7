"""Results of inference on disk: `<output_dir>/<kind>/<name of the image>.<ending>`, stacks as stacks.

Kinds: "classes", the class of every pixel (uint8); "probabilities", one channel per class (float32); "instances",
object numbers, 0 = background (uint16, uint32 beyond 65535). Each file appears complete or not at all, in the format of
its image:

    image            class map                                      scores, instances
    PNG, BMP, JPEG   PNG (lossless; a JPEG of labels would not be)  TIFF
    TIFF             TIFF                                           TIFF
    NIfTI            as the image, with its affine and header       same
    MHA, NRRD        as the image, with spacing, origin, direction  same
    DICOM            MHA with spacing, origin, direction            same
                     (no other tag: patient data stay behind)

Planes arrive one by one in the order of the file. A plane that is skipped is written as zeros and listed in `missing`.
TIFF stacks are written plane by plane, so that every reader takes them, ImageJ and Pillow among them. Volumes of the
other formats are collected and written at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from scripts.io.arrays import as_array
from scripts.io.image_file import ImageHeader, ResultFile
from scripts.io.itk import ItkResult
from scripts.io.names import PathLike, ResultNames, image_suffix, result_suffix, split_address
from scripts.io.nifti import NiftiResult
from scripts.io.png import PngResult
from scripts.io.reader import read_header
from scripts.io.tiff import TiffResult

logger = logging.getLogger(__name__)

KINDS = ("classes", "probabilities", "instances")


class SegmentationStore:
    """Write results plane by plane; a file is put in its place when its last plane has come, or at `close`.

    Args:
        output_dir: results go to one folder per kind in it.
        kinds: what to write, of "classes", "probabilities", "instances"; other kinds are passed over by `add`.
        class_values: grey value written for each class, e.g. (0, 255) for membrane black and cell white as the ISBI
            2012 challenge expects them; None: the class number itself, which most viewers show as nearly black.
        tiff_axes: axes of TIFF images where what they say is wrong, as given to the reader.

    Example:
        with SegmentationStore("out", kinds=("classes",)) as store:
            store.add("classes", "train-volume.tif#page=0", class_map)
    """

    def __init__(
        self,
        output_dir: PathLike,
        kinds: Sequence[str] = KINDS,
        class_values: Sequence[int] | None = None,
        tiff_axes: str | None = None,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if isinstance(kinds, str) or unknown:
            raise ValueError(f"kinds must be a list of {', '.join(KINDS)}; got {kinds!r}")
        if class_values is not None and not all(0 <= value <= 255 for value in class_values):
            raise ValueError(f"class_values must lie in 0 ... 255 (8 bit), got {list(class_values)}")
        self.output_dir = Path(output_dir)
        self.kinds = tuple(kinds)
        self.class_values = class_values
        self.tiff_axes = tiff_axes
        self.incomplete: dict[Path, list[int]] = {}
        self._open: dict[Path, ResultFile] = {}
        self._names = ResultNames()
        self._header: tuple[Path, ImageHeader] | None = None  # of the image before, whose other kinds come next

    def path_of(self, kind: str, source: PathLike) -> Path:
        """Where the result of an image goes."""
        path, _ = split_address(source)
        return self.output_dir / kind / (self._names.of_file(path) + result_suffix(path, as_image=kind == "classes"))

    def add(self, kind: str, source: PathLike, array: Any) -> Path | None:
        """Write one plane, or the next plane of a stack.

        Args:
            kind: "classes" or "instances", whole numbers (H, W) or (1, H, W); "probabilities", (C, H, W).
            source: address of the plane, "filename_or_obj" of its metadata.
            array: numpy array or tensor, rows first.

        Returns:
            the path of the file, or None where this kind is not wanted.

        Raises:
            ValueError: a size other than the image's, planes out of order, a value that does not fit, or two images of
                one name; each message names the image.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of result {kind!r}; expected one of {', '.join(KINDS)}")
        if kind not in self.kinds:
            return None
        image, page = split_address(source)
        path = self.path_of(kind, image)
        plane = self._prepare(kind, source, array)
        result = self._open.get(path) or _create_result(path, image, self._header_of(image))
        try:
            result.add(page or 0, plane)
        except BaseException:
            if path not in self._open:
                result.discard()
            raise
        self._open[path] = result
        if result.complete:
            self._finish(path)
        return path

    def close(self) -> None:
        """Put stacks in their place that lack planes at the end, and say which planes are missing."""
        for path in list(self._open):
            self._finish(path)

    def discard(self) -> None:
        """Give up the stacks that lack planes: nothing of them stays, and an older result is left as it was."""
        while self._open:
            self._open.popitem()[1].discard()

    def __enter__(self) -> SegmentationStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()

    def _finish(self, path: Path) -> None:
        result = self._open.pop(path)
        try:
            result.finish()
        except BaseException:
            result.discard()
            raise
        if result.missing:
            self.incomplete[path] = result.missing
            logger.warning("%s: no result for the planes %s, which are zero there", path, result.missing)

    def _header_of(self, image: Path) -> ImageHeader:
        """Of an image file, read once for all kinds of its results."""
        if self._header is None or self._header[0] != image:
            self._header = (image, read_header(image, self.tiff_axes))
        return self._header[1]

    def _prepare(self, kind: str, source: PathLike, array: Any) -> np.ndarray:
        array = as_array(array)
        if kind == "probabilities":
            if array.ndim != 3:
                raise ValueError(f"probabilities of {source} must be (C, H, W), got the shape {array.shape}")
            return array.astype(np.float32)
        plane = array[0] if array.ndim == 3 and len(array) == 1 else array
        if plane.ndim != 2:
            raise ValueError(f"{kind} of {source} must be (H, W) or (1, H, W), got the shape {array.shape}")
        largest, smallest = (int(plane.max()), int(plane.min())) if plane.size else (0, 0)
        if smallest < 0:
            raise ValueError(f"{kind} of {source} must not be negative, got {smallest}")
        if kind == "instances":
            return plane.astype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)
        limit = 255 if self.class_values is None else len(self.class_values) - 1
        if largest > limit:
            raise ValueError(f"classes of {source} go up to {largest}; expected at most {limit} (8 bit, class_values)")
        plane = plane.astype(np.uint8)
        return plane if self.class_values is None else np.asarray(self.class_values, np.uint8)[plane]


def _create_result(path: Path, source: Path, header: ImageHeader) -> ResultFile:
    """An empty result beside nothing yet: its format follows `path`, its planes and geometry follow `source`."""
    kinds: dict[str, type[ResultFile]] = {".png": PngResult, ".tif": TiffResult, ".mha": ItkResult, ".nrrd": ItkResult}
    return kinds.get(image_suffix(path), NiftiResult)(path, source, header)
