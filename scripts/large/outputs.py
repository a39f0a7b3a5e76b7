"""Names of a result in OME-Zarr and of its tables, and whether they may be replaced.

Loads no torch, so that commands refuse at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..io.names import PathLike, shown
from .journal import SETTINGS, check_folder

OUR_KEY = "original_unet"  # in the metadata of a result
PART = ".part"  # of the name of unfinished work
TABLES = ("objects.csv", "images.csv")


def check_output(image: PathLike, output: PathLike, overwrite: bool = False) -> None:
    """Refuse to replace a result without `overwrite`, and the image and anything else always.

    Args:
        image: file or folder of the image to segment.
        output: folder of the result. It need not exist.
        overwrite: replace an earlier result.

    Raises:
        ValueError: image and result lie within each other. The message names both.
        FileExistsError: the result or a table exists, or is of another program. The message names the file.

    Example:
        >>> check_output("image.tif", "new.ome.zarr")
    """
    image, output = Path(image), Path(output)
    work = work_folder(output)
    check_folder(work)
    source, target = image.resolve(), output.resolve()
    if target in (source, *source.parents) or source in target.parents or work.resolve() in source.parents:
        raise ValueError(
            f"the image {shown(image)} and the result {shown(output)} lie within each other; give another output_dir"
        )
    tables = [] if (work / SETTINGS).exists() else [table_beside(output, name) for name in TABLES]
    for existing in (path for path in (output, *tables) if os.path.lexists(path) and not overwrite):
        raise FileExistsError(
            f"{shown(existing)} exists. Give another output_dir, or replace the result with --overwrite true"
        )
    if os.path.lexists(output) and not is_result(output):
        raise FileExistsError(f"{shown(output)} is no result of this program and is not replaced")


def work_folder(output: Path) -> Path:
    """Get the folder of the unfinished work, beside the output. Absolute: workers have other current folders.

    Example:
        >>> from pathlib import Path
        >>> work_folder(Path("results/out.ome.zarr")).name
        'out.ome.zarr.part'
    """
    return output.absolute().with_name(output.name + PART)


def table_beside(output: Path, name: str) -> Path:
    """Get the file of a table beside an output.

    Example:
        >>> from pathlib import Path
        >>> table_beside(Path("results/out.ome.zarr"), "objects.csv").as_posix()
        'results/out.objects.csv'
    """
    stem = output.name.removesuffix(".zarr").removesuffix(".ome")
    return output.with_name(f"{stem}.{name}")


def is_result(path: Path) -> bool:
    """Tell whether a folder is a result of this program, which may be replaced.

    Example:
        >>> from pathlib import Path
        >>> is_result(Path("absent.ome.zarr"))
        False
    """
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8")).get("attributes", {})
    except (OSError, ValueError):
        return False
    return OUR_KEY in attributes
