"""Bring a data set's files here: from the web with a progress bar, from a file URL, a folder or a zip file."""

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

from bundle.errors import RunError, UsageError
from bundle.terminal import tracked_reading

TIMEOUT = 30.0  # seconds without an answer after which a server counts as absent
AGENT = "original-unet-bundle"  # some servers refuse a client without a name


def bring(source: str, names: Collection[str], work: Path) -> Path:
    """Make the files of a source available as a local folder.

    Args:
        source: folder, zip file, file:// URL of either, http(s) URL of a zip file, or one that ends in "/" and to which
            each of `names` is added.
        names: the files wanted from an address that ends in "/"; zip files among them are unpacked.
        work: empty folder for what has to be downloaded or unpacked.

    Returns:
        a folder that holds the files at some depth: the source itself or inside `work`.

    Raises:
        RunError: not reachable, not there, or not a zip file; the message says which.
        UsageError: a kind of address that is not known.
    """
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        if source.endswith("/"):
            for name in names:
                _download(source + name, work / name)
                if name.endswith(".zip"):
                    _unpack(work / name, work / "unpacked")
            return work
        archive = work / "download.zip"
        _download(source, archive)
        return _unpack(archive, work / "unpacked")
    if "://" in source and parts.scheme != "file":
        raise UsageError(f"source {source} is no path and no file://, http:// or https:// address; give one of these")
    path = Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(source)
    if path.is_dir():
        return path
    if not path.is_file():
        raise RunError(f"{path} does not exist, expected a folder or a zip file; check the path")
    return _unpack(path, work / "unpacked")


def _download(url: str, path: Path) -> None:
    """Copy one address to a file, with a progress bar on standard error."""
    try:
        with urlopen(Request(url, headers={"User-Agent": AGENT}), timeout=TIMEOUT) as answer, path.open("wb") as out:
            length = int(answer.headers.get("Content-Length") or 0)
            with tracked_reading(answer, length, path.name) as stream:
                shutil.copyfileobj(stream, out, 1 << 16)
    except URLError as error:
        raise RunError(f"{url}: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:  # the connection broke later
        raise RunError(f"{url}: {error}") from error
    if length and path.stat().st_size != length:
        raise RunError(f"{url}: only {path.stat().st_size} of {length} bytes arrived")


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip file; `zipfile` keeps every member inside the folder whatever its name."""
    try:
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
    # no zip or a wrong checksum, cut off, nonsense inside; unknown method, encrypted
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise RunError(f"{archive} cannot be unpacked as a zip file ({error}); get it anew") from error
    return folder
