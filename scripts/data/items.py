"""Name an item in errors and results by the image file, find changed files, get the pixel size from the metadata."""

from __future__ import annotations

import os
import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..io.arrays import as_array
from ..io.names import shown, split_address


def source_of(item: Mapping[Any, Any], key: Hashable = "image") -> str:
    """Return the address of the image file of an item.

    Returns:
        "filename_or_obj" of the metadata of the tensor at `key`; "" if unknown.

    Example:
        >>> from monai.data import MetaTensor
        >>> source_of({"image": MetaTensor(torch.zeros(1), meta={"filename_or_obj": "cells.png"})})
        'cells.png'
    """
    return str(getattr(item.get(key), "meta", {}).get("filename_or_obj", ""))


def file_of(item: Mapping[Any, Any], *keys: Hashable) -> str:
    """Return the name of an entry for errors: the file of the first of `keys` with a known file, else the first key.

    Example:
        >>> file_of({"label": torch.zeros(1)}, "label", "image")
        "'label' (no file name known)"
    """
    return shown(next(filter(None, (source_of(item, key) for key in keys)), f"{keys[0]!r} (no file name known)"))


def spacing_of(image: Any) -> tuple[tuple[float, float] | None, str | None]:
    """Get height and width of a pixel and their unit from the metadata of `PlaneReader`.

    Returns:
        ((height, width), unit), or (None, None) if unknown.

    Example:
        >>> from monai.data import MetaTensor
        >>> spacing_of(MetaTensor(torch.zeros(1, 2, 2), meta={"spacing": [0.5, 0.25], "unit": "um"}))
        ((0.5, 0.25), 'um')
    """
    meta = getattr(image, "meta", {})
    unit = str(meta.get("unit", "pixel"))
    if unit == "pixel" or "spacing" not in meta:
        return None, None
    height, width = (float(value) for value in np.ravel(as_array(meta["spacing"]))[:2])
    return (height, width), unit


def describe_failure(name: str, error: BaseException) -> str:
    """Describe an error in a line that starts with the image's address: `name: reason`.

    MONAI's outer errors ("applying transform ...") are left out. Control characters become escapes.

    Example:
        >>> describe_failure("cells.png", MemoryError())
        'cells.png: MemoryError'
    """
    while error.__cause__ is not None and str(error).startswith("applying transform"):
        error = error.__cause__
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        reason = f"no entry {reason}"
    name, reason = shown(name), shown(reason)
    return reason if reason.startswith(name.split("#page=")[0]) else f"{name}: {reason}"


def content_of_files(items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Compute a checksum of the files of each item, to find changed images and labels.

    Args:
        items: of a datalist. Each file is read once, also if many items are planes of the file.

    Returns:
        name -> checksum. A name is the path of the image below the shared folder of all images.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("a.png").write_bytes(b"pixels"), Path("b.png").write_bytes(b"pixels")
        >>> content_of_files([{"image": "a.png"}, {"image": "b.png"}])
        {'a.png': 'ce113ccb', 'b.png': 'ce113ccb'}
    """
    known: dict[Path, int] = {}
    images = [os.path.abspath(next(paths_in([item["image"]]), "")) for item in items]
    folder = os.path.commonpath([os.path.dirname(image) for image in images]) if images else ""
    found: dict[str, str] = {}
    for image, item in zip(images, items, strict=True):
        files = [split_address(path)[0] for path in paths_in(item.values())]
        for file in files:
            if file not in known:
                known[file] = _checksum(file)
        name = Path(os.path.relpath(image, folder)).as_posix()
        found[name] = "-".join(f"{known[file]:08x}" for file in files)
    return found


def paths_in(values: Iterable[Any]) -> Iterator[str]:
    """List the paths among values, also in lists. A list holds the channels of an image; results have the first's name.

    Example:
        >>> list(paths_in(["a.png", ["b_0000.png", "b_0001.png"], 3]))
        ['a.png', 'b_0000.png', 'b_0001.png']
    """
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from paths_in(value)
        elif isinstance(value, (str, PurePath)):
            yield str(value)


def _checksum(file: Path) -> int:
    """Compute the CRC-32 of a file; 0 for words that name no file."""
    if not file.is_file():
        return 0
    value = 0
    with file.open("rb") as content:
        while part := content.read(2**20):
            value = zlib.crc32(part, value)
    return value
