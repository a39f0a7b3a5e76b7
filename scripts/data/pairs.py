"""Check before training that image and label fit. Only file headers are read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..io.image_file import ImageFileError, ImageHeader
from ..io.names import PathLike, plane_address, shown, split_address
from ..io.reader import read_header
from .items import describe_failure

SHOWN = 5  # names in an error
LABELS = ("label", "markers")  # entries of the image's size; markers are optional


def check_pairs(items: Sequence[dict[str, Any]], tiff_axes: str | None = None) -> list[dict[str, Any]]:
    """Compare the headers of images and labels, and list stacks plane by plane.

    Args:
        items: {"image": address, "label": address}, optionally with "markers": address. A list of addresses as image
            stands for the channels of an image.
        tiff_axes: axes of TIFF files with wrong axes in the file, see `scripts.io.tiff`.

    Returns:
        The items, one for each plane. Other entries are kept.

    Raises:
        FileNotFoundError: images without a label, or missing files. The first five are listed.
        ValueError: sizes or numbers of planes differ, a label has several channels, or images differ in channels. The
            first five are listed.
        ImageFileError: a file cannot be read.

    Example:
        >>> from PIL import Image
        >>> Image.new("L", (7, 5)).save("cells.png")
        >>> check_pairs([{"image": "cells.png", "label": "cells.png"}])
        [{'image': 'cells.png', 'label': 'cells.png'}]
    """
    unlabelled = [str(item.get("image")) for item in items if not item.get("label") or not item.get("image")]
    if unlabelled:
        raise FileNotFoundError(f"{some(unlabelled)} of {len(items)} items have no label: add it or take the image out")
    roles = dict.fromkeys(  # (address, whether a label): palettes are read in two ways
        role for item in items for role in (*((n, False) for n in _channels(item)), *((n, True) for n in _labels(item)))
    )
    files = dict.fromkeys((split_address(address)[0], is_label) for address, is_label in roles)
    absent = list(dict.fromkeys(str(file) for file, _ in files if not os.path.isfile(file)))
    if absent:
        raise FileNotFoundError(f"{some(absent)} files of the data set are missing: check the names and folders")
    of_files = _headers(files, tiff_axes)
    headers, wrong = {}, []
    for address, is_label in roles:
        file, page = split_address(address)
        whole = of_files[file, is_label]
        headers[address, is_label] = whole if page is None else replace(whole, planes=1)
        if page is not None and page >= whole.planes:
            wrong.append(f"{address} asks for a plane beyond the {whole.planes} of the file")
    wrong += [reason for item in items if (reason := _misfit(item, headers))]
    if wrong:
        raise ValueError(
            f"{some(wrong, '; ')} of {len(items)} images do not fit their label: export the label anew at the image's "
            "size, as one channel of class or object numbers"
        )
    _check_channels(items, headers)
    return [plane for item in items for plane in _planes(item, headers[item["label"], True].planes)]


def _headers(files: Iterable[tuple[Path, bool]], tiff_axes: str | None) -> dict[tuple[Path, bool], ImageHeader]:
    """Headers of files, with whether a file is a label. All files that cannot be read are named in one error."""
    headers, broken = {}, []
    for file, is_label in files:
        try:
            headers[file, is_label] = read_header(file, tiff_axes, as_label=is_label)
        except Exception as error:  # whatever a damaged file raises
            broken.append(describe_failure(str(file), error))
    if broken:
        raise ImageFileError(broken[0] if len(broken) == 1 else f"{some(broken, '; ')} files cannot be read")
    return headers


def existing(dataset_dir: PathLike | None, expected: str) -> Path:
    """Check that `dataset_dir` (a folder, a file or the address of a plane) is given and exists. Expand "~".

    Args:
        dataset_dir: the path.
        expected: what `dataset_dir` should be, for errors.

    Raises:
        ValueError: nothing given.
        FileNotFoundError: the path does not exist.

    Example:
        >>> existing(".", "the folder of the data set").name
        ''
    """
    if dataset_dir is None or not str(dataset_dir):
        raise ValueError(f"no path given; set dataset_dir to {expected}")
    path = Path(dataset_dir).expanduser()
    if not split_address(path)[0].exists():
        raise FileNotFoundError(f"dataset_dir {path} does not exist; set dataset_dir to {expected}")
    return path


def some(names: Sequence[str], separator: str = ", ") -> str:
    """Count names and list the first five.

    Example:
        >>> some(["a", "b"]), some("abcdefgh")
        ('2 (a, b)', '8 (a, b, c, d, e, ...)')
    """
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} ({separator.join(map(shown, names[:SHOWN]))}{more})"


def _channels(item: dict[str, Any]) -> list[str]:
    return [item["image"]] if isinstance(item["image"], str) else list(item["image"])


def _labels(item: dict[str, Any]) -> list[str]:
    return [item[key] for key in LABELS if item.get(key)]


def _check_channels(items: Sequence[dict[str, Any]], headers: dict[tuple[str, bool], ImageHeader]) -> None:
    """Refuse images of different numbers of channels, such as RGB among grey images."""
    counts = {_channels(item)[0]: sum(headers[name, False].channels for name in _channels(item)) for item in items}
    (most, _), *others = Counter(counts.values()).most_common() or [(0, 0)]
    if others:
        odd = [f"{name} has {count} channels" for name, count in counts.items() if count != most]
        raise ValueError(f"{some(odd)} of {len(counts)} images, the others {most}: convert all to the same channels")


def _misfit(item: dict[str, Any], headers: dict[tuple[str, bool], ImageHeader]) -> str | None:
    """Describe why image and label do not fit, or None."""
    for label in _labels(item):
        its = headers[label, True]
        for image in _channels(item):
            found = headers[image, False]
            if (found.height, found.width) != (its.height, its.width):
                return (
                    f"{image} has {found.height} x {found.width} pixels (rows x columns), "
                    f"its label {label} {its.height} x {its.width}"
                )
            if found.planes != its.planes:
                return f"{image} has {found.planes} planes, its label {label} {its.planes}"
        if its.channels > 1:
            return f"the label {label} has {its.channels} channels (if these are planes, set tiff_axes: ZYX)"
    return None


def _planes(item: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """List an item once for each plane."""

    def at(value: Any, k: int) -> Any:
        return plane_address(value, k) if isinstance(value, str) else [plane_address(name, k) for name in value]

    keys = [key for key in ("image", *LABELS) if key in item]
    return [item] if count == 1 else [item | {key: at(item[key], k) for key in keys} for k in range(count)]
