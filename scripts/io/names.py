"""Names of image files, of planes in them, and of results."""

from __future__ import annotations

import os
import re
from pathlib import Path

PathLike = str | os.PathLike[str]

PILLOW_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
TIFF_SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr", ".dcm", ".dicom")
IMAGE_SUFFIXES = PILLOW_SUFFIXES + TIFF_SUFFIXES + NIFTI_SUFFIXES + ITK_SUFFIXES


def split_address(address: PathLike) -> tuple[Path, int | None]:
    """`stack.tif#page=3` -> (Path("stack.tif"), 3); without a page -> (path, None)."""
    match = re.fullmatch(r"(.+)#page=(\d+)", str(address), flags=re.DOTALL)
    return (Path(match[1]), int(match[2])) if match else (Path(address), None)


def plane_address(path: PathLike, page: int) -> str:
    """The address of one plane: `stack.tif#page=3`."""
    return f"{path}#page={page}"


def image_suffix(path: PathLike) -> str:
    """The ending that tells the format, lower case: ".nii.gz", ".tif"; "" if unknown.

    DICOM files are often named by a number ("1.2.840.10008"): what begins like one counts as ".dcm", but for the table
    of contents, DICOMDIR.
    """
    path = Path(path)
    name = path.name.lower()
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), "")
    return ".dcm" if not suffix and name != "dicomdir" and _is_dicom(path) else suffix


def image_name(address: PathLike) -> str:
    """The name of an image without folder, page and ending, as results bear it: `a/b.ome.tif#page=3` -> "b"."""
    path, _ = split_address(address)
    name = path.name
    suffix = image_suffix(path)
    return name[: -len(suffix)] if suffix and name.lower().endswith(suffix) else name


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


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
