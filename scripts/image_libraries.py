"""Libraries that only some kinds of image files need, imported when such a file comes.

PNG and TIFF files are read and written without itk, nibabel and imagecodecs. A machine that lacks these libraries still
trains and segments, and a start does not wait for their import.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType


class ImageFileError(ValueError):
    """A file that cannot be read as an image; the message names the file and the remedy."""


def require(package: str, kind: str, path: str | os.PathLike[str]) -> ModuleType:
    """Import the library that a kind of files needs.

    Args:
        package: name of the library, in Python and for pip: "itk", "nibabel", "imagecodecs".
        kind: the kind of files, in the plural: "NIfTI files".
        path: the file at hand.

    Returns:
        the library.

    Raises:
        ImageFileError: the library is not installed or cannot be imported; one line with file, kind and remedy.

    Example:
        >>> require("itk", "MHA files", "cells.mha").imread("cells.mha")  # doctest: +SKIP
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "" if absent else f", whose import failed ({' '.join(str(error).split())})"
        raise ImageFileError(f"{path}: {kind} need the package {package}{reason}: pip install {package}") from error
