"""Find the files and the encoding of the pixels of MHA and NRRD, and check the checksums of their compression.

Headers of both formats may name other files with the pixels. Only files of the header's own folder are accepted: a
header from elsewhere must not open other files of the user. ITK does not check the checksums of zlib in MHA.
"""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from .declared import size_of
from .image_file import ImageFileError

_LONGEST = 2**22  # bytes of a header; a list of files takes some ten kB
_MOST_FILES = 100_000  # of a pattern
_CHUNK = 2**20


@dataclass(frozen=True)
class StoredPixels:
    """Where the pixels of a file are stored, and how."""

    files: tuple[Path, ...]
    offset: int = 0  # first byte of the pixels, in each file
    encoding: str = "raw"  # "raw", "zlib" or "other"

    @property
    def size(self) -> int:
        """Bytes of all files after the offset."""
        return size_of(self.files) - self.offset * len(self.files)


def stored_pixels(path: Path) -> StoredPixels | None:
    """Read the header of MHA, MHD, NRRD or NHDR. None for other formats.

    Raises:
        ImageFileError: the header names a file outside of its folder, or a missing file.

    Example:
        >>> _ = Path("cells.mhd").write_text("NDims = 2\\nDimSize = 7 5\\nElementDataFile = cells.raw\\n")
        >>> _ = Path("cells.raw").write_bytes(bytes(35))
        >>> stored_pixels(Path("cells.mhd")).size
        35
    """
    with path.open("rb") as file:
        is_nrrd = file.read(4) == b"NRRD"
    if is_nrrd:
        return _of_nrrd(path)
    return _of_meta_image(path) if path.suffix.lower() in (".mha", ".mhd") else None


def check_checksum(path: Path, pixels: StoredPixels, size: int) -> None:
    """Unpack zlib or gzip once without keeping the result, and compare checksum and size.

    Args:
        path: the image, for messages.
        pixels: from `stored_pixels`.
        size: bytes of the declared pixels.

    Raises:
        ImageFileError: another checksum or size, or a stream that ends early.

    Example:
        >>> packed = zlib.compress(bytes(35))
        >>> _ = Path("cells.zraw").write_bytes(packed)
        >>> check_checksum(Path("cells.mhd"), StoredPixels((Path("cells.zraw"),), encoding="zlib"), 35)
    """
    if pixels.encoding != "zlib":
        return
    total = 0
    for file in pixels.files:
        try:
            total += _unpacked_size(file, pixels.offset, size)
        except zlib.error as error:
            raise ImageFileError(f"{path}: the compressed pixels are damaged ({error}). Copy the file again") from error
    if total < size:
        raise ImageFileError(
            f"{path} holds {total} bytes of pixels, but its header declares {size}. The file was cut short: copy or "
            "export it again"
        )


def _unpacked_size(file: Path, offset: int, most: int) -> int:
    """Bytes of a zlib or gzip stream. At most a chunk more than `most` is unpacked."""
    total, stream = 0, zlib.decompressobj(wbits=47)  # zlib or gzip
    with file.open("rb") as packed:
        packed.seek(offset)
        while not stream.eof and total <= most:
            data = stream.unconsumed_tail or packed.read(_CHUNK)
            if not data:
                raise zlib.error("the stream ends early")
            total += len(stream.decompress(data, _CHUNK))
    if total > most:
        raise zlib.error("more bytes than the header declares")
    return total


def _lines(path: Path) -> list[str]:
    """Lines of a text header, with their ends. The last line may be a part of the pixels."""
    with path.open("rb") as file:
        content = file.read(_LONGEST)
    return [f"{line}\n" for line in os.fsdecode(content).split("\n")]


def _end_of(lines: list[str]) -> int:
    """Bytes of lines, the offset of the next line."""
    return sum(len(os.fsencode(line)) for line in lines)


def _of_meta_image(path: Path) -> StoredPixels:
    lines, packed = _lines(path), False
    for number, line in enumerate(lines):
        key, _, value = (part.strip() for part in re.sub("[:=]", "\0", line, count=1).partition("\0"))
        if key.lower() == "compresseddata":
            packed = value[:1].lower() in ("t", "1")
        if key.lower() == "elementdatafile":
            encoding = "zlib" if packed else "raw"
            if value.lower() == "local":
                return StoredPixels((path,), _end_of(lines[: number + 1]), encoding)
            return StoredPixels(_named(path, value, lines[number + 1 :]), 0, encoding)
    raise ImageFileError(f"{path}: no line 'ElementDataFile' in the header. Export the image again")


def _of_nrrd(path: Path) -> StoredPixels:
    lines, names, encoding = _lines(path), None, "raw"
    for number, line in enumerate(lines):
        if not line.strip("\r\n"):
            break
        key, _, value = (part.strip() for part in line.partition(":"))
        if key.lower() == "encoding":
            encoding = {"raw": "raw", "gz": "zlib", "gzip": "zlib"}.get(value.lower(), "other")
        if key.lower().replace(" ", "") == "datafile":
            names = value
            if value.upper().startswith("LIST"):
                return StoredPixels(_named(path, value, lines[number + 1 :]), 0, encoding)
    if names is not None:
        return StoredPixels(_named(path, names, []), 0, encoding)
    return StoredPixels((path,), _end_of(lines[: number + 1]), encoding)


def _named(path: Path, value: str, following: list[str]) -> tuple[Path, ...]:
    """Files named by a header: a name, a pattern with numbers ("t%03d.raw 0 9 1"), or LIST with names in lines."""
    pattern = re.fullmatch(r"(\S*%0?\d*d\S*)\s+(-?\d+)\s+(-?\d+)(?:\s+(-?\d+))?(?:\s+\d+)?", value)
    if value.upper().startswith("LIST"):
        if path.stat().st_size > _LONGEST:
            raise ImageFileError(f"{path} lists its pixel files in more than {_LONGEST} bytes. Export the image again")
        names = [name for line in following if (name := line.strip())]
    elif pattern:
        first, last, step = int(pattern[2]), int(pattern[3]), int(pattern[4] or 1)
        if step == 0 or abs(last - first) > _MOST_FILES or pattern[1].count("%") != 1:
            raise ImageFileError(f"{path} names its pixel files as {value!r}; expected a pattern like t%03d.raw 0 9 1")
        names = [pattern[1] % k for k in range(first, last + (1 if step > 0 else -1), step)]
    else:
        names = [value]
    return tuple(beside(path, name) for name in names)


def beside(path: Path, name: str, may_be_missing: bool = False) -> Path:
    """Find another file that a header names. Only entries of the header's folder are accepted, links among them.

    Args:
        path: the file with the header.
        name: name in the header, without a folder.
        may_be_missing: accept the name of a file that does not exist.

    Raises:
        ImageFileError: a name with a folder, or no regular file.

    Example:
        >>> _ = Path("cells.raw").write_bytes(bytes(35))
        >>> beside(Path("cells.mhd"), "cells.raw").name
        'cells.raw'
    """
    file = path.parent / name
    plain = name.removeprefix("./")
    if plain in ("", ".", "..") or "\\" in plain or os.path.basename(plain) != plain:
        raise ImageFileError(
            f"{path} names the file {name!r} outside of its folder. Only files in the same folder are read: put both "
            "files there, and write the plain name in the header"
        )
    if not file.is_file() and not (may_be_missing and not file.exists()):
        raise ImageFileError(f"{path} names the file {name!r}, which is missing or no regular file. Copy it there")
    return file
