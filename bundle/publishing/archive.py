"""Zip files that depend on their content alone."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that the format knows
PLAIN_FILE = 0o100644 << 16  # a file that its owner may write and all may read, in the format's place for it
UNIX = 3


def write_archive(path: Path, files: Mapping[str, Path | bytes]) -> None:
    """Write a zip file whose bytes follow from names and contents: no times, no owners, names in order.

    Stored, not compressed: weights hardly shrink, and what compression yields differs between versions of zlib.

    Args:
        path: the file to write.
        files: name in the archive -> where its content is, or the content.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=EPOCH)
            entry.create_system, entry.external_attr = UNIX, PLAIN_FILE
            content = files[name]
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())
