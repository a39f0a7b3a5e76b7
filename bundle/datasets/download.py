"""Fetch the files of a data set from the web, a file URL, a folder or a zip file."""

from __future__ import annotations

import errno
import http.client
import lzma
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from bundle.running.errors import RunError, UsageError
from bundle.running.terminal import tracked_reading

TIMEOUT = 30.0  # seconds without an answer
AGENT = "original-unet-bundle"  # some servers refuse a client without a name
BY_HAND = "Unpack it by hand, and give the folder as --source"


def bring(source: str, names: Collection[str], work: Path) -> Path:
    """Make the files of a source available in a local folder.

    Args:
        source: folder, zip file, file:// URL of either, http(s) URL of a zip file, or http(s) URL that ends in "/".
        names: the files to download from an address that ends in "/"; zip files are unpacked.
        work: empty folder for downloads and unpacked files.

    Returns:
        a folder with the files at some depth: the source or a folder inside `work`.

    Raises:
        RunError: the source cannot be reached, does not exist, or is no zip file with plain members.
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
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"{path.parent} has no space left for {url}. Set TMPDIR to another folder") from error
        raise RunError(f"{url}: {error.reason if isinstance(error, URLError) else error}") from error
    if length and path.stat().st_size != length:
        raise RunError(f"{url}: only {path.stat().st_size} of {length} bytes arrived")


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip file into a folder.

    Raises:
        RunError: no zip file, cut off, damaged, encrypted, with an unknown method, members outside of the folder, or
            more data than the disk has room for.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            _check_members(archive, content.infolist(), folder)
            content.extractall(folder)
    except zipfile.BadZipFile as error:
        raise RunError(f"{archive} is no zip file, or damaged ({error}). Download it again") from error
    except NotImplementedError as error:
        raise RunError(f"{archive} is packed in a way that Python cannot read: {error}. {BY_HAND}") from error
    # data cut off or damaged; a wrong name or length in a header
    except (EOFError, zlib.error, lzma.LZMAError, ValueError, struct.error, RuntimeError) as error:
        raise RunError(f"{archive} is damaged inside ({error}). Download it again") from error
    except OSError as error:
        reason = error.strerror or str(error)  # bz2 raises OSError for damaged data, too
        raise RunError(f"{archive} cannot be unpacked into {folder}: {reason}. {BY_HAND}") from error
    return folder


def _check_members(archive: Path, members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    """Raise RunError for encrypted members, members outside of the folder, and more data than the disk has room for."""
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", member.filename):
            raise RunError(f"{archive} has a member outside of its folder, {member.filename!r}. Do not trust this file")
        if member.flag_bits & 1:
            raise RunError(f"{archive} is encrypted. {BY_HAND}")
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise RunError(
            f"{archive} holds {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free for {folder}. Set TMPDIR to a "
            "folder with more space"
        )
