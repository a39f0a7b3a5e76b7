"""Write the results of inference: `<output_dir>/<kind>/<name of the image>.<ending>`. Stacks give stacks.

    kind            content                                       dtype
    classes         class of each pixel                           uint8
    probabilities   one channel for each class                    float32
    instances       ID of the object at each pixel, 0 background  uint16, above 65535 objects uint32
    entropy         uncertainty of each pixel, 0 to 1             float32
    deviation       standard deviation over orientations          float32

The format follows the image, see `scripts.io.names`. TIFF stacks are written plane by plane; volumes (NIfTI, MHA, NRRD)
are collected in memory. Each file appears completely or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_choice
from .arrays import as_array
from .files import identities, naming, refuse_overwriting
from .image_file import ResultFile
from .itk import ItkResult
from .names import PathLike, ResultNames, image_suffix, result_suffix, shown, split_address
from .nifti import NiftiResult
from .png import PngResult
from .reader import read_header
from .tiff import TiffResult

logger = logging.getLogger(__name__)

KINDS = ("classes", "probabilities", "instances", "entropy", "deviation")
_FORMATS: dict[str, type[ResultFile]] = {
    ".png": PngResult,
    ".tif": TiffResult,
    ".mha": ItkResult,
    ".nrrd": ItkResult,
    ".nii": NiftiResult,
    ".nii.gz": NiftiResult,
}


class SegmentationStore:
    """Write results plane by plane. A file appears after its last plane, or at `close`.

    Add the planes of a file in order. A skipped plane is filled with zeros, and a warning names the plane.

    Args:
        output_dir: folder of the results, with a subfolder for each kind.
        kinds: what to write, of the table above. `add` ignores other kinds.
        class_values: grey value of each class, for example (0, 255): membrane black, cell white, as the ISBI 2012
            challenge expects. None: the class number. Most viewers show small class numbers as black.
        tiff_axes: axes of TIFF images, as given to `PlaneReader`.
        sources: all images of the run, for names that do not depend on the order of `add`. They are never overwritten.

    Raises:
        ValueError: unknown kinds, or class values outside 0 to 255.

    Example:
        >>> from PIL import Image
        >>> Image.new("L", (7, 5)).save("cells.png")
        >>> with SegmentationStore("out") as store:
        ...     _ = store.add("classes", "cells.png", np.ones((5, 7)))  # out/classes/cells.png
    """

    def __init__(
        self,
        output_dir: PathLike,
        kinds: Sequence[str] = KINDS,
        class_values: Sequence[int] | None = None,
        tiff_axes: str | None = None,
        sources: Sequence[PathLike] = (),
    ) -> None:
        if isinstance(kinds, str) or not set(kinds) <= set(KINDS):
            raise ValueError(f"kinds must be a list of {', '.join(KINDS)}; got {kinds!r}")
        if class_values is not None and not all(0 <= value <= 255 for value in class_values):
            raise ValueError(f"class_values must lie in 0 ... 255 (8 bit), got {list(class_values)}")
        self.output_dir = Path(output_dir)
        self.kinds = tuple(kinds)
        self.class_values = class_values
        self.tiff_axes = tiff_axes
        self._open: dict[Path, ResultFile] = {}
        self.names = ResultNames(sources)
        self._images = list(dict.fromkeys(split_address(source)[0] for source in sources))
        self._sources: dict[tuple[int, int], PathLike] = {}  # files that are never overwritten
        self._header_of = lru_cache(maxsize=1)(lambda image: read_header(image, tiff_axes))  # for all kinds of results

    def path_of(self, kind: str, source: PathLike) -> Path:
        """Return the path of a result file. Arguments as in `add`; an image in place of a plane is enough."""
        path, _ = split_address(source)
        return self.output_dir / kind / (self.names.of_file(path) + result_suffix(path, as_image=kind == "classes"))

    def add(self, kind: str, source: PathLike, array: Any) -> Path | None:
        """Write one plane, or the next plane of a stack.

        Args:
            kind: of the table above.
            source: address of the plane, "filename_or_obj" of the image's metadata.
            array: numpy array or tensor. Probabilities: (C, H, W). Other kinds: (H, W) or (1, H, W). Classes and
                instances: integers.

        Returns:
            The path of the file, or None if `kinds` does not contain `kind`.

        Raises:
            ValueError: unknown kind, a size unlike the image's, planes out of order, too large a value, two images
                with equal names, or a result that would replace an image. The message names the image.
            OSError: the folder cannot be written to.
        """
        check_choice("kind", kind, KINDS)
        if kind not in self.kinds:
            return None
        image, page = split_address(source)
        path = self.path_of(kind, image)
        plane = self._prepare(kind, shown(source), array)
        result = self._open.get(path)
        if result is None:
            self._sources |= identities([*self._images, image])
            self._images = []
            refuse_overwriting([path], self._sources, "set output_dir to another folder")
            result = _FORMATS[image_suffix(path)](path, image, self._header_of(image))
        try:
            with naming(path):
                result.add(page or 0, plane)
        except BaseException:
            if path not in self._open:
                result.discard()
            raise
        self._open[path] = result
        if result.complete:
            self._finish(path)
        return path

    @property
    def unfinished(self) -> list[Path]:
        """Result files that wait for more planes."""
        return list(self._open)

    def close(self) -> None:
        """Complete stacks with missing planes at the end, and warn of the missing planes.

        Raises:
            OSError: a stack cannot be written. The other stacks are complete.
        """
        errors = []
        for path in self.unfinished:
            try:
                self._finish(path)
            except Exception as error:  # of one stack
                errors.append(error)
        if errors:
            raise errors[0]

    def discard(self) -> None:
        """Delete unfinished stacks. Older results stay."""
        while self._open:
            self._open.popitem()[1].discard()

    def __enter__(self) -> SegmentationStore:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self.discard()

    def _finish(self, path: Path) -> None:
        result = self._open.pop(path)
        try:
            with naming(path):
                result.finish()
        except BaseException:
            result.discard()
            raise
        if result.missing:
            logger.warning("%s: no result for the planes %s; they are zero", shown(path), result.missing)

    def _prepare(self, kind: str, source: str, array: Any) -> np.ndarray:
        array = as_array(array)
        if kind == "probabilities":
            if array.ndim != 3:
                raise ValueError(f"probabilities of {source} must be (C, H, W), got the shape {array.shape}")
            return array.astype(np.float32)
        plane = array[0] if array.ndim == 3 and len(array) == 1 else array
        if plane.ndim != 2:
            raise ValueError(f"{kind} of {source} must be (H, W) or (1, H, W), got the shape {array.shape}")
        if kind in ("entropy", "deviation"):
            return plane.astype(np.float32)
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
