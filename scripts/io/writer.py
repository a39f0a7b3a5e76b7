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

import gzip
import logging
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tifffile

from scripts.io.arrays import as_array
from scripts.io.files import replacing
from scripts.io.image_files import (
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    PILLOW_SUFFIXES,
    ImageHeader,
    ItkFile,
    NiftiFile,
    png_bytes,
)
from scripts.io.reader import PathLike, image_name, image_suffix, read_header, split_address


class ResultNames:
    """Names for results, from the names of images: without folder and ending, a plane with its number.

    Images of one name in different folders (`01/t000.tif` and `02/t000.tif`) are told apart: the first is `t000`, the
    second `02_t000`.

    Example:
        >>> names = ResultNames()
        >>> names.of("01/t000.tif"), names.of("02/t000.tif"), names.of("stack.tif#page=3")
        ('t000', '02_t000', 'stack_0003')
    """

    def __init__(self) -> None:
        self._owners: dict[str, Path] = {}

    def of_file(self, source: PathLike) -> str:
        """The name for the file that an address lies in, the same at every call.

        Raises:
            ValueError: two images of one folder differ in nothing but their ending.
        """
        path, _ = split_address(source)
        name = image_name(path)
        owner = self._owners.setdefault(name, path)
        if owner.parent != path.parent:
            name = f"{path.parent.name}_{name}"
            owner = self._owners.setdefault(name, path)
        if owner != path:
            raise ValueError(f"the results of {owner} and {path} would both be named {name}: rename one of the images")
        return name

    def of(self, source: PathLike) -> str:
        """The name for one plane: of its file, with the number of the plane where the file has several."""
        _, page = split_address(source)
        return self.of_file(source) + ("" if page is None else f"_{page:04d}")


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
