"""One 2-D plane of any image file, rows first, as a MONAI reader.

MONAI's own readers give 2-D files as (W, H), cannot address a slice of a TIFF stack, and read other formats through the
conventions of their libraries. Here an image is always (H, W) or (H, W, C), whatever the file, and an address names
one plane: `cells.png`, `train-volume.tif#page=3` (counted from 0; planes of a NIfTI, MHA, NRRD or DICOM volume lie
along z).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import ensure_tuple

from scripts.io.image_file import ImageFile, ImageFileError, ImageHeader
from scripts.io.itk import ItkFile
from scripts.io.names import (
    IMAGE_SUFFIXES,
    NIFTI_SUFFIXES,
    PILLOW_SUFFIXES,
    TIFF_SUFFIXES,
    PathLike,
    image_suffix,
    plane_address,
    split_address,
)
from scripts.io.nifti import NiftiFile
from scripts.io.png import PillowFile
from scripts.io.tiff import TiffPlanes


def open_image(path: PathLike, tiff_axes: str | None = None) -> ImageFile:
    """The file as planes; nothing but its first bytes is read yet.

    Args:
        path: a file, without page.
        tiff_axes: axes of TIFF files where what they say is wrong; see `scripts.io.tiff`.

    Raises:
        FileNotFoundError: there is no such file.
        ImageFileError: its ending is not that of a known format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file; check the path")
    suffix = image_suffix(path)
    if suffix in TIFF_SUFFIXES:
        return TiffPlanes(path, tiff_axes)
    if suffix in NIFTI_SUFFIXES:
        return NiftiFile(path)
    if suffix in PILLOW_SUFFIXES:
        return PillowFile(path)
    if suffix:
        return ItkFile(path)
    raise ImageFileError(f"{path} is of no known image format; expected one of {', '.join(IMAGE_SUFFIXES)}: convert it")


def read_header(path: PathLike, tiff_axes: str | None = None) -> ImageHeader:
    """Number and size of planes, channels, size of a pixel, without reading pixels.

    Raises:
        FileNotFoundError: there is no such file.
        ImageFileError: it cannot be read as an image; the message says why and what to do.
    """
    file = open_image(split_address(path)[0], tiff_axes)
    with _naming(file.path):
        return file.header


def count_planes(path: PathLike, tiff_axes: str | None = None) -> int:
    """Number of 2-D planes in a file, from its header."""
    return read_header(path, tiff_axes).planes


def plane_size(path: PathLike, tiff_axes: str | None = None) -> tuple[int, int]:
    """(rows, columns) of a file's planes, from its header."""
    header = read_header(path, tiff_axes)
    return header.height, header.width


class PlaneReader(ImageReader):
    """Read one plane, rows first: (H, W), or (H, W, C) with several channels. For `LoadImaged(keys,
    reader=PlaneReader())`.

    `read` only notes the address and `get_data` does the reading. This is on purpose: `LoadImage` answers an error in
    `read` by trying MONAI's other readers, which would give the first page of a stack, transposed, without a word.

    Metadata: "original_channel_dim" (-1, or NaN for none, as `EnsureChannelFirst` reads it), "spatial_shape" (H, W),
    "spacing" (size of a pixel along rows and columns) in "unit" ("pixel": not known, spacing 1), "affine" (the spacing
    as a diagonal); `LoadImage` adds "filename_or_obj", the address with its page.

    Args:
        tiff_axes: axes of TIFF files where what they say is wrong ("CYX": pages are channels); see
            `scripts.io.tiff`.

    Raises:
        FileNotFoundError: (get_data) there is no such file.
        ImageFileError: (get_data) the file cannot be read, or holds pixels that are no finite numbers.
        ValueError: (get_data) a stack without a page, or a page that it does not have.
    """

    def __init__(self, tiff_axes: str | None = None) -> None:
        super().__init__()
        self.tiff_axes = tiff_axes
        self._last: tuple[tuple[Path, int, int], ImageFile] | None = None

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether all names end like a known format."""
        return all(image_suffix(split_address(name)[0]) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[str, ...]:
        """Note the address, or the addresses of several files that are channels of one image."""
        return tuple(str(name) for name in ensure_tuple(data))

    def get_data(self, img: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read what `read` noted.

        Returns:
            the plane (H, W) or (H, W, C) in its own number type, and the metadata.
        """
        planes, header = [], None
        for address in img:
            plane, header = self._plane(address)
            planes.append(plane if plane.ndim == 3 else plane[..., None])
        if header is None:
            raise ValueError("no file name given")
        if len({plane.shape[:2] for plane in planes}) > 1:
            sizes = ", ".join(f"{name} {plane.shape[:2]}" for name, plane in zip(img, planes, strict=True))
            raise ImageFileError(f"files to be the channels of one image differ in size (rows, columns): {sizes}")
        array = np.concatenate(planes, axis=-1)
        many = array.shape[-1] > 1
        meta = {
            "original_channel_dim": -1 if many else float("nan"),
            "spatial_shape": np.array(array.shape[:2]),
            "affine": np.diag([*header.spacing, header.plane_distance, 1.0]),
            "spacing": np.array(header.spacing),
            "unit": header.unit,
        }
        return (array if many else array[..., 0]), meta

    def _plane(self, address: str) -> tuple[np.ndarray, ImageHeader]:
        path, page = split_address(address)
        file = self._open(path)
        with _naming(path):
            header = file.header
        if page is None and header.planes > 1:
            raise ValueError(
                f"{path} holds {header.planes} planes and one is segmented at a time: address it as "
                f"'{plane_address(path.name, 0)}' to '{plane_address(path.name, header.planes - 1)}', "
                "or let scripts.data.find_images list them"
            )
        if page is not None and page >= header.planes:
            raise ValueError(f"{path} has {header.planes} planes, counted from 0; got page {page}")
        with _naming(path):
            plane = file.plane(page or 0)
        if plane.dtype.kind == "f" and not np.isfinite(plane).all():
            raise ImageFileError(
                f"{address} holds {np.count_nonzero(~np.isfinite(plane))} pixels that are NaN or infinite, which "
                "normalisation would spread over the whole image: replace them, for example by the mean, and save it"
            )
        return plane, header

    def _open(self, path: Path) -> ImageFile:
        """The file, kept while planes of the same one are asked for: some formats can only be read whole."""
        state = path.stat() if path.is_file() else None
        key = (path, state.st_mtime_ns, state.st_size) if state else (path, 0, 0)
        last = self._last
        if last is None or last[0] != key:
            last = self._last = (key, open_image(path, self.tiff_axes))
        return last[1]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which file an image library complains."""
    try:
        yield
    except ImageFileError:
        raise
    except Exception as error:  # each library fails with types of its own (SyntaxError, zlib.error, struct.error, ...)
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ImageFileError(
            f"{path} cannot be read as an image ({type(error).__name__}: {reason}); it may be damaged or of another "
            "format than its name says: open it in an image viewer, export it again, or take it out"
        ) from error
