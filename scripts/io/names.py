"""Names of image files, of planes (`stack.tif#page=3`) and of result files.

Formats of result files:

    image            class map                                     probabilities, instances
    PNG, BMP, JPEG   PNG (JPEG would blur labels)                  TIFF
    TIFF             TIFF                                          TIFF
    NIfTI            as the image, with its affine and header      same
    MHA, NRRD        as the image, with spacing, origin, direction same
    DICOM            MHA, with spacing, origin, direction          same
                     (no other tag: no patient data)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PathLike = str | os.PathLike[str]

PILLOW_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
TIFF_SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr", ".dcm", ".dicom")
IMAGE_SUFFIXES = PILLOW_SUFFIXES + TIFF_SUFFIXES + NIFTI_SUFFIXES + ITK_SUFFIXES
COMMON_SUFFIXES = ".png, .tif, .jpg, .nii.gz, .dcm or the like (all: in the project's guide)"  # for messages


def shown(name: PathLike) -> str:
    """Return a name for terminal, log or table: control characters and bytes that are no UTF-8 become escapes.

    A name with the escape sequences of a terminal could otherwise clear the screen or forge a line of a log.

    Example:
        >>> print(shown("cells\\x1b[2J\\n.png"))
        cells\\x1b[2J\\n.png
    """
    text = os.fspath(name) if not isinstance(name, str) else name
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def split_address(address: PathLike) -> tuple[Path, int | None]:
    """Split the address of a plane into file and page.

    Args:
        address: path of a file, or `stack.tif#page=3`. Pages count from 0.

    Returns:
        Path, and page or None.

    Example:
        >>> split_address("stack.tif#page=3")[1]
        3
    """
    match = re.fullmatch(r"(.+)#page=(\d+)", str(address), flags=re.DOTALL)
    return (Path(match[1]), int(match[2])) if match else (Path(address), None)


def plane_address(path: PathLike, page: int) -> str:
    """Build the address of one plane of an image file.

    Args:
        path: image file.
        page: number of the plane. The first plane is 0.

    Example:
        >>> plane_address("stack.tif", 3)
        'stack.tif#page=3'
    """
    return f"{path}#page={page}"


def image_suffix(path: PathLike) -> str:
    """Find the format of an image file from the ending.

    DICOM files often have a number as name ("1.2.840.10008"). Without a known ending, the first bytes decide on DICOM.
    DICOMDIR is no image but the table of contents of a folder.

    Returns:
        The ending in lower case: ".nii.gz", ".tif". DICOM without ending: ".dcm". Unknown format: "".

    Example:
        >>> image_suffix("head.NII.GZ"), image_suffix("notes.txt")
        ('.nii.gz', '')
    """
    path = Path(path)
    name = path.name.lower()
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), "")
    return ".dcm" if not suffix and name != "dicomdir" and _is_dicom(path) else suffix


def _is_dicom(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a pipe would block
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def image_name(address: PathLike) -> str:
    """Remove folder, page and ending from the address of an image. Result files have this name.

    Example:
        >>> image_name("a/b.ome.tif#page=3")
        'b'
    """
    path, _ = split_address(address)
    suffix = image_suffix(path)
    return path.name[: -len(suffix)] if suffix and path.name.lower().endswith(suffix) else path.name


class ResultNames:
    """Names of result files: the image's name, with the number of the plane if the image is a stack.

    Images of different folders may have the same name. The second image then gets its folder's name as a prefix.

    Args:
        sources: all images of the run, or addresses of planes. Several processes with the same list give equal names.

    Example:
        >>> names = ResultNames(["01/t000.tif", "02/t000.tif"])
        >>> names.of("02/t000.tif"), names.of("01/t000.tif"), names.of("stack.tif#page=3")
        ('02_t000', 't000', 'stack_0003')
    """

    def __init__(self, sources: Iterable[PathLike] = ()) -> None:
        self._owners: dict[str, Path] = {}
        for source in sources:
            with suppress(ValueError):  # raised again when the image is written
                self.of_file(source)

    def of_file(self, source: PathLike) -> str:
        """Name a whole file, from the address of an image or a plane. The same file gets the same name at each call.

        Raises:
            ValueError: two images of one folder differ only in their ending.
        """
        path, _ = split_address(source)
        name = image_name(path)
        owner = self._owners.setdefault(name, path)
        if owner.parent != path.parent:
            name = f"{path.parent.name}_{name}"
            owner = self._owners.setdefault(name, path)
        if owner != path:
            raise ValueError(
                f"the results of {shown(owner)} and {shown(path)} would both be named {shown(name)}; "
                "rename one of the images"
            )
        return name

    def of(self, source: PathLike) -> str:
        """Name one plane. Raises ValueError as `of_file`."""
        path, page = split_address(source)
        name = self.of_file(source)
        if page is None:
            return name
        plane = f"{name}_{page:04d}"
        return f"{name}{image_suffix(path)}_{page:04d}" if plane in self._owners else plane

    def in_table(self, source: PathLike) -> str:
        """Name an image or a plane in a table: the file's name, with its folder if two files have the same name."""
        path, page = split_address(source)
        name = path.name if self.of_file(path) == image_name(path) else f"{path.parent.name}/{path.name}"
        return shown(name if page is None else plane_address(name, page))


# MHD and NHDR keep header and pixels in two files. Two files cannot be renamed in one step.
_RESULT_OF_ITK = {".mha": ".mha", ".mhd": ".mha", ".nrrd": ".nrrd", ".nhdr": ".nrrd", ".dcm": ".mha", ".dicom": ".mha"}


def result_suffix(source: PathLike, as_image: bool) -> str:
    """Choose the ending of a result file, after the table above.

    Args:
        source: the image.
        as_image: the result is a class map (8 bit, fits into PNG).

    Example:
        >>> result_suffix("cells.jpg", as_image=True), result_suffix("cells.jpg", as_image=False)
        ('.png', '.tif')
    """
    suffix = image_suffix(source)
    if suffix in PILLOW_SUFFIXES and as_image:
        return ".png"
    return suffix if suffix in NIFTI_SUFFIXES else _RESULT_OF_ITK.get(suffix, ".tif")
