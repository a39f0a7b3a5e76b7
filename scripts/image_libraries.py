"""Import libraries of single file kinds at the first file of the kind.

PNG and TIFF files are read and written without itk, nibabel and imagecodecs. Training and segmentation run on machines
without the three libraries. MONAI imports them at its start wherever they are installed.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType


class ImageFileError(ValueError):
    """A file that cannot be read as an image; the message names the file and the remedy."""


def require(package: str, kind: str, path: str | os.PathLike[str]) -> ModuleType:
    """Import the library of a file kind.

    Args:
        package: name of the library, in Python and for pip: "itk", "nibabel", "imagecodecs".
        kind: the kind of files, in the plural: "NIfTI files".
        path: the file at hand.

    Returns:
        the library.

    Raises:
        ImageFileError: the library is not installed or its import fails. The message names file, kind and remedy.

    Example:
        >>> require("itk", "MHA files", "cells.mha").imread("cells.mha")  # doctest: +SKIP
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "" if absent else f", whose import failed ({' '.join(str(error).split())})"
        raise ImageFileError(f"{path}: {kind} need the package {package}{reason}: pip install {package}") from error
