"""Read a 2-D plane of any image file, as a reader for MONAI's `LoadImaged`. Rows come first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import ensure_tuple

from .image_file import ImageFile, ImageFileError, ImageHeader
from .itk import ItkFile
from .names import (
    COMMON_SUFFIXES,
    NIFTI_SUFFIXES,
    PILLOW_SUFFIXES,
    TIFF_SUFFIXES,
    PathLike,
    image_suffix,
    plane_address,
    shown,
    split_address,
)
from .nifti import NiftiFile
from .png import PillowFile
from .tiff import TiffPlanes


def open_image(path: Path, tiff_axes: str | None = None, as_label: bool = False) -> ImageFile:
    """Choose the reader of a file's format. Pipes, sockets and devices, which could block for ever, are refused.

    Arguments and errors as in `read_header`, but without the address of a plane.

    Example:
        >>> from PIL import Image
        >>> from pathlib import Path
        >>> Image.new("L", (7, 5)).save("cells.png")
        >>> open_image(Path("cells.png")).plane(0).shape
        (5, 7)
    """
    if not path.exists():
        target = f": it is a link to {shown(os.readlink(path))}" if path.is_symlink() else ""
        raise FileNotFoundError(f"{shown(path)} does not exist{target}; check the path")
    if not path.is_file():
        raise FileNotFoundError(f"{shown(path)} is a folder, pipe or device; expected a file: take it out")
    suffix = image_suffix(path)
    if suffix in TIFF_SUFFIXES:
        return TiffPlanes(path, tiff_axes, as_label)
    if suffix in NIFTI_SUFFIXES:
        return NiftiFile(path, as_label)
    if suffix in PILLOW_SUFFIXES:
        return PillowFile(path, as_label)
    if suffix:
        return ItkFile(path, as_label)
    raise ImageFileError(f"{path} is of no known image format; expected {COMMON_SUFFIXES}: convert it")


def read_header(path: PathLike, tiff_axes: str | None = None, as_label: bool = False) -> ImageHeader:
    """Read number and size of planes, channels and pixel size, but no pixels.

    Args:
        path: a file, or the address of a plane.
        tiff_axes: axes of TIFF files with wrong axes in the file, see `scripts.io.tiff`.
        as_label: the file is a label image: palettes have one channel, the indices.

    Raises:
        FileNotFoundError: the file does not exist.
        ImageFileError: the file cannot be read as an image. The message names the reason and the remedy.

    Example:
        >>> from PIL import Image
        >>> Image.new("RGB", (7, 5)).save("cells.png")
        >>> read_header("cells.png").channels
        3
    """
    return open_image(split_address(path)[0], tiff_axes, as_label).header


def plane_size(path: PathLike, tiff_axes: str | None = None) -> tuple[int, int]:
    """Read the size (rows, columns) of a file's planes. Arguments and errors as in `read_header`.

    Example:
        >>> from PIL import Image
        >>> Image.new("L", (7, 5)).save("cells.png")
        >>> plane_size("cells.png")
        (5, 7)
    """
    header = read_header(path, tiff_axes)
    return header.height, header.width


class PlaneReader(ImageReader):
    """Read a plane, rows first: (H, W), or (H, W, C) with several channels. For MONAI's `LoadImaged`.

    An address names a plane: `cells.png`, or `train-volume.tif#page=3`. Pages count from 0. Planes of NIfTI, MHA, NRRD
    and DICOM lie along z. MONAI's own readers give 2-D files as (W, H), cannot read a single page of a TIFF stack, and
    have different axis conventions for each format.

    `read` only stores the address; `get_data` reads the file. If `read` failed, `LoadImage` would try MONAI's own
    readers, and silently give the first page of a stack, transposed.

    Metadata:

        original_channel_dim    -1, or NaN without channels, as `EnsureChannelFirst` expects
        spatial_shape           (H, W)
        spacing, unit           pixel size (rows, columns); (1, 1) "pixel" if unknown
        affine                  the spacing as a diagonal
        filename_or_obj         the address with its page, added by `LoadImage`

    Args:
        tiff_axes: axes of TIFF files with wrong axes in the file ("CYX": pages are channels), see `scripts.io.tiff`.
        labels: read label images. False: pixels as viewers show them. True: the stored values of palettes, and of grey
            values with the minimum as white. Both are turned by the orientation of EXIF and TIFF.

    Raises:
        FileNotFoundError: (get_data) the file does not exist.
        ImageFileError: (get_data) the file cannot be read, or has NaN or infinite pixels.
        ValueError: (get_data) a stack without a page in the address, or a page beyond the stack.

    Example:
        >>> from PIL import Image
        >>> Image.new("L", (7, 5)).save("cells.png")
        >>> PlaneReader().get_data(["cells.png"])[0].shape
        (5, 7)
    """

    def __init__(self, tiff_axes: str | None = None, labels: bool = False) -> None:
        super().__init__()
        self.tiff_axes = tiff_axes
        self.labels = labels
        self._last: tuple[tuple[Path, int, int], ImageFile] | None = None

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Check whether all files have a known format."""
        return all(image_suffix(split_address(name)[0]) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[str, ...]:
        """Store the address. Several addresses are the channels of one image."""
        return tuple(str(name) for name in ensure_tuple(data))

    def get_data(self, img: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the plane of addresses from `read`: (H, W) or (H, W, C) in the file's dtype, and the metadata."""
        planes, headers = zip(*map(self._plane, img), strict=True)
        header = headers[-1]
        if len({plane.shape[:2] for plane in planes}) > 1:
            sizes = ", ".join(f"{name} {plane.shape[:2]}" for name, plane in zip(img, planes, strict=True))
            raise ImageFileError(f"the channels of one image differ in size (rows, columns): {sizes}")
        array = np.concatenate([plane if plane.ndim == 3 else plane[..., None] for plane in planes], axis=-1)
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
        header = file.header
        if page is None and header.planes > 1:
            raise ValueError(
                f"{path} holds {header.planes} planes, but images are segmented plane by plane. Use the addresses "
                f"'{plane_address(path.name, 0)}' to '{plane_address(path.name, header.planes - 1)}', "
                "or let scripts.data.find_images list them"
            )
        if page is not None and page >= header.planes:
            raise ValueError(f"{path} has {header.planes} planes, counted from 0; got page {page}")
        plane = file.plane(page or 0)
        if plane.dtype.kind == "c":
            raise ImageFileError(
                f"{address} has complex pixels ({plane.dtype}), expected real ones: save the magnitude"
            )
        if plane.dtype.kind == "f" and not np.isfinite(plane).all():
            raise ImageFileError(
                f"{address} holds {np.count_nonzero(~np.isfinite(plane))} pixels that are NaN or infinite. "
                "Normalisation would spread them over the image: replace them, for example by the mean"
            )
        return plane, header

    def _open(self, path: Path) -> ImageFile:
        """Open a file, or reuse the previous file: some formats can only be read whole."""
        state = path.stat() if path.is_file() else None
        key = (path, state.st_mtime_ns, state.st_size) if state else (path, 0, 0)
        last = self._last  # another thread may replace the attribute
        if last is None or last[0] != key:
            last = self._last = (key, open_image(path, self.tiff_axes, self.labels))
        return last[1]
