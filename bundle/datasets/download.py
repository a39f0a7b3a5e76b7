"""Fetch the files of a data set from the web, a file URL, a folder or a zip file."""

from __future__ import annotations

import http.client
import shutil
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from bundle.running.errors import RunError, UsageError
from bundle.running.terminal import tracked_reading

TIMEOUT = 30.0  # seconds without an answer
AGENT = "original-unet-bundle"  # some servers refuse a client without a name


def bring(source: str, names: Collection[str], work: Path) -> Path:
    """Make the files of a source available in a local folder.

    Args:
        source: folder, zip file, file:// URL of either, http(s) URL of a zip file, or http(s) URL that ends in "/".
        names: the files to download from an address that ends in "/"; zip files are unpacked.
        work: empty folder for downloads and unpacked files.

    Returns:
        a folder with the files at some depth: the source or a folder inside `work`.

    Raises:
        RunError: the source cannot be reached, does not exist, or is not a zip file.
        UsageError: unknown kind of address.

    Example:
        >>> Path("slices").mkdir()
        >>> bring("slices", [], Path("work")).name
        'slices'
    """
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        if not source.endswith("/"):
            _download(source, work / "download.zip")
            return _unpack(work / "download.zip", work / "unpacked")
        for name in names:
            _download(source + name, work / name)
            if name.endswith(".zip"):
                _unpack(work / name, work / "unpacked")
        return work
    if "://" in source and parts.scheme != "file":
        raise UsageError(f"--source {source} is no path and no file://, http:// or https:// address; give one of these")
    path = Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(source)
    if path.is_dir():
        return path
    if not path.is_file():
        raise RunError(f"{path} does not exist, expected a folder or a zip file; check the path")
    return _unpack(path, work / "unpacked")


def _download(url: str, path: Path) -> None:
    """Copy an address to a file, with a progress bar on standard error."""
    try:
        with urlopen(Request(url, headers={"User-Agent": AGENT}), timeout=TIMEOUT) as answer, path.open("wb") as out:
            length = int(answer.headers.get("Content-Length") or 0)
            with tracked_reading(answer, length, path.name) as stream:
                shutil.copyfileobj(stream, out, 1 << 16)
    except (OSError, http.client.HTTPException) as error:
        raise RunError(f"{url}: {error.reason if isinstance(error, URLError) else error}") from error
    if length and path.stat().st_size != length:
        raise RunError(f"{url}: only {path.stat().st_size} of {length} bytes arrived")


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip file. `zipfile` keeps every member inside the folder."""
    try:
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
    # no zip file or wrong checksum, cut off, damaged inside; unknown method, encrypted
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise RunError(f"{archive} cannot be unpacked as a zip file ({error}); get it anew") from error
    return folder
