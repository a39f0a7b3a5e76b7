"""Does every image have a label that fits it? Answered from file headers, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.io.image_file import ImageHeader
from scripts.io.names import plane_address, split_address
from scripts.io.reader import read_header

SHOWN = 5  # how many names an error lists


def check_pairs(items: Sequence[dict[str, Any]], tiff_axes: str | None = None) -> list[dict[str, Any]]:
    """Compare the headers of images and labels, and expand files of several planes.

    Args:
        items: {"image": address, "label": address}; an image may be a list of files, its channels.
        tiff_axes: as in `find_pairs`.

    Returns:
        the items, one per plane.

    Raises:
        FileNotFoundError: images without label, or files that are not there (the first few are listed).
        ValueError: sizes or numbers of planes differ, or a label has several channels (the first few are listed).
        ImageFileError: a file cannot be read.
    """
    headers: dict[Path, ImageHeader] = {}  # pages of one stack need one look
    unlabelled = [str(item.get("image")) for item in items if not item.get("label") or not item.get("image")]
    if unlabelled:
        raise FileNotFoundError(f"{some(unlabelled)} of {len(items)} items have no label: add it or take the image out")
    files = [split_address(name)[0] for item in items for name in (*_names(item["image"]), item["label"])]
    absent = [str(file) for file in dict.fromkeys(files) if not file.is_file()]
    if absent:
        raise FileNotFoundError(
            f"{some(absent)} files of the data set are not there: check the names and where paths start"
        )
    for file in files:
        if file not in headers:
            headers[file] = read_header(file, tiff_axes)
    wrong = [reason for item in items if (reason := _misfit(item, headers))]
    if wrong:
        raise ValueError(
            f"{some(wrong, '; ')} of {len(items)} images do not fit their label: export the label anew at the image's "
            "size, as one channel of class or object numbers"
        )
    return [plane for item in items for plane in _planes(item, headers)]


def _misfit(item: dict[str, Any], headers: dict[Path, ImageHeader]) -> str | None:
    """What is wrong between an image and its label, or None."""
    label_file, label_page = split_address(item["label"])
    label = headers[label_file]
    for name in _names(item["image"]):
        image_file, image_page = split_address(name)
        image = headers[image_file]
        if (image.height, image.width) != (label.height, label.width):
            return (
                f"{name} has {image.height} x {image.width} pixels (rows x columns), "
                f"its label {item['label']} {label.height} x {label.width}"
            )
        pages = (1 if image_page is not None else image.planes), (1 if label_page is not None else label.planes)
        if pages[0] != pages[1]:
            return f"{name} has {pages[0]} planes, its label {item['label']} {pages[1]}"
        for address, page, header in ((name, image_page, image), (item["label"], label_page, label)):
            if page is not None and page >= header.planes:
                return f"{address} asks for a plane beyond the {header.planes} of the file"
    return f"the label {item['label']} has {label.channels} channels" if label.channels > 1 else None


def _planes(item: dict[str, Any], headers: dict[Path, ImageHeader]) -> list[dict[str, Any]]:
    """One item per plane."""
    file, page = split_address(item["label"])
    planes = headers[file].planes if page is None else 1
    if planes == 1:
        return [item]
    image = item["image"]
    return [
        {
            **item,
            "image": plane_address(image, k) if isinstance(image, str) else [plane_address(name, k) for name in image],
            "label": plane_address(item["label"], k),
        }
        for k in range(planes)
    ]


def _names(image: str | Sequence[str]) -> list[str]:
    return [image] if isinstance(image, str) else list(image)


def some(names: Sequence[str], separator: str = ", ") -> str:
    """`3 (a, b, c)`, `25 (a, b, c, d, e, ...)`."""
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} ({separator.join(names[:SHOWN])}{more})"
