"""Find images that are in two parts of a data set, by address or by content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..io.files import sha256_of
from ..io.names import split_address


def same_images(
    training: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[str]]:
    """Find images of the validation that also train.

    Args:
        training, validation: items {"image": address}. A list of addresses stands for the channels of an image.

    Returns:
        Addresses in both parts; "a.png = b.png" for files of equal bytes under two names. Only files of equal size are
        read.

    Example:
        >>> from PIL import Image
        >>> for name in ("a.png", "b.png"):
        ...     Image.new("L", (7, 5)).save(name)
        >>> same_images([{"image": "a.png"}], [{"image": "b.png"}])
        ([], ['b.png = a.png'])
    """
    known, asked = list(_addresses(training)), list(dict.fromkeys(_addresses(validation)))
    both = [address for address in asked if address in set(known)]
    by_size: dict[int, set[Path]] = {}
    for file in {split_address(address)[0] for address in (*known, *asked)}:
        by_size.setdefault(file.stat().st_size, set()).add(file)
    digests = {file: sha256_of(file) for files in by_size.values() if len(files) > 1 for file in files}

    def content(address: str) -> tuple[str, int | None] | None:
        file, page = split_address(address)
        return (digests[file], page) if file in digests else None

    names = {content(address): address for address in known}
    names.pop(None, None)
    return both, [
        f"{address} = {names[content(address)]}"
        for address in asked
        if content(address) in names and address not in both
    ]


def _addresses(items: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for item in items:
        image = item["image"]
        yield from [str(name) for name in image] if isinstance(image, list | tuple) else [str(image)]
