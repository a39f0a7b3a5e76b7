"""Data sets of the Cell Tracking Challenge: find the sequences, verify what is known, copy the files as they are.

    01/t000.tif                  images, uint8
    01_GT/SEG/man_seg000.tif     gold masks, uint16
    01_GT/TRA/man_track000.tif   markers, uint16
    01_ST/SEG/man_seg000.tif     silver masks, uint16

Challenge: Maška et al. 2023, doi 10.1038/s41592-023-01879-y; Ulman et al. 2017, doi 10.1038/nmeth.4473.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from bundle.datasets.data_sets import Checked, DataSet
from bundle.datasets.digests import pixel_digest
from bundle.datasets.folders import shallowest
from bundle.errors import RunError

ADDRESSES = (
    "https://data.celltrackingchallenge.net/training-datasets/",
    "http://data.celltrackingchallenge.net/training-datasets/",
)
SEQUENCES = ("01", "02")  # in each of the challenge's training sets
KINDS = {"": "image", "_GT/SEG": "gold mask", "_GT/TRA": "marker image", "_ST/SEG": "silver mask"}
PARTS = tuple(f"{sequence}{kind}" for sequence in SEQUENCES for kind in ("", "_GT", "_ST", "_ERR_SEG"))
SUFFIXES = (".tif", ".txt")  # man_track.txt: which marker is which cell's
UNREADABLE = (  # what Pillow raises for damaged files
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, MemoryError),
    *(struct.error, OverflowError, Image.DecompressionBombError),
)
SHOWN = 3  # names in a message
TERMS = (
    "Cell Tracking Challenge, conditions of use: celltrackingchallenge.net/datasets. If you publish with these data,\n"
    "acknowledge the challenge and cite Maška et al. 2023, doi 10.1038/s41592-023-01879-y, and Ulman et al. 2017,\n"
    "doi 10.1038/nmeth.4473. Taking part in the challenge needs no permission; other public scientific use needs\n"
    "that of the data's providers, named on that page, commercial use the organisers' as well. To publish weights\n"
    "trained on the data counts here as public use, so this project redistributes neither."
)

Digests = Mapping[str, Mapping[str, str]]  # folder in the challenge's layout: {file name: pixel digest}


def cell_tracking_set(name: str, title: str, digests: Digests) -> DataSet:
    """A training set of the challenge as an entry of the table of `bundle.datasets.fetch`.

    Args:
        name: how the command line and the configuration call it: "phc_u373".
        title: how the challenge calls it: "PhC-C2DH-U373".
        digests: what is known of its files.
    """
    return DataSet(
        name=name,
        mirrors=tuple(f"{address}{title}.zip" for address in ADDRESSES),
        files=(f"{title}.zip",),
        by_hand=f"get {title}.zip (a training set of celltrackingchallenge.net/2d-datasets) on another machine",
        folder=f"data/{title}",
        parts=PARTS,
        layout=tuple(digests),
        check=partial(check_files, title=title, digests=digests),
        terms=TERMS,
        config=f"configs/data_{name}.yaml",
    )


def check_files(folder: Path, source: str, title: str, digests: Digests) -> Checked:
    """Find a set below a folder and compare every file that the list knows.

    Args:
        folder: holds 01, 01_GT, ... or a folder that does.
        source: where it comes from, for messages.
        title: as the challenge calls it.
        digests: what is known of its files; others pass, and the result names them.

    Returns:
        the data: all images, masks, markers and man_track.txt of all sequences, to be copied as they are.

    Raises:
        RunError: no sequence found, a known file missing or unreadable or different; names it, with both checksums.
    """
    root = find_set(folder, title)
    verify(root, digests, source)
    files = sequence_files(root)
    known = {f"{part}/{name}" for part, names in digests.items() for name in names}
    unknown = [file for file in files if str(file) not in known]
    notes = [f"not verified, for want of a checksum: {_in_words(unknown)}"] if unknown else []
    absent = [sequence for sequence in SEQUENCES if not (root / sequence).is_dir()]
    if absent:
        notes.append(f"sequence {absent[0]} is not there; the challenge's own zip file holds {' and '.join(SEQUENCES)}")
    return Checked(
        write=partial(_copy, root, files),
        content=_content(files),
        verified=f"{len(known)} files verified, every one that has a checksum here",
        notes=tuple(notes),
    )


def find_set(folder: Path, title: str) -> Path:
    """The folder that holds 01, 01_GT, ...: this one, else the nearest below of the set's name, else the nearest."""
    if _has_sequence(folder):
        return folder
    inner = (shallowest(folder, f"{sequence}_GT") for sequence in SEQUENCES)
    for root in (shallowest(folder, title), *(path.parent for path in inner if path)):
        if root and _has_sequence(root):
            return root
    raise RunError(
        f"no {title} in {folder}: expected the folders {', '.join(SEQUENCES)}, {SEQUENCES[0]}_GT, ... "
        f"or a folder {title} with them; give the challenge's own zip file or what it unpacks to"
    )


def _has_sequence(folder: Path) -> bool:
    return any((folder / sequence).is_dir() for sequence in SEQUENCES)


def verify(root: Path, digests: Digests, source: str) -> None:
    """Compare every file that the list knows.

    Raises:
        RunError: files missing, all counted first; or the first that differs.
    """
    known = [(f"{part}/{name}", digest) for part, names in digests.items() for name, digest in names.items()]
    missing = [name for name, _ in known if not (root / name).is_file()]
    if missing:
        names = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise RunError(
            f"{len(missing)} of {len(known)} known files are missing in {source}: {names}; "
            "nothing was written, get it anew or elsewhere"
        )
    for name, digest in known:
        found = pixel_digest(read_pixels(root / name))
        if found != digest:
            raise RunError(
                f"{name} of {source} is not as published: sha256 of its pixels {found}, expected {digest}; "
                "nothing was written, get it anew or elsewhere; if the challenge itself has changed it, unpack its zip "
                "file yourself"
            )


def read_pixels(path: Path) -> np.ndarray:
    """The one grey picture of a TIFF file, uint8 or uint16 (H, W).

    Raises:
        RunError: not such a file.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "I;16", "I;16B"):
                raise RunError(f"{path} is of kind {image.mode}, expected grey, 8 or 16 bit; get it anew")
            if getattr(image, "n_frames", 1) != 1:
                raise RunError(f"{path} holds several pictures, expected one; get it anew")
            return np.array(image)
    except UNREADABLE as error:
        raise RunError(f"{path} cannot be read as an image ({error}); get it anew") from error


def sequence_files(root: Path) -> list[PurePosixPath]:
    """All files of all sequences, relative to the set's folder, sorted; what systems and tools add stays out."""
    found = (path for part in PARTS for path in (root / part).rglob("*") if path.is_file())
    kept = (path for path in found if path.suffix in SUFFIXES and not path.name.startswith("."))
    return sorted(PurePosixPath(path.relative_to(root).as_posix()) for path in kept)


def _copy(root: Path, files: Sequence[PurePosixPath], folder: Path) -> None:
    """Copy byte by byte, but not the rights: the source may be read-only."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, folder / file)


def _content(files: Sequence[PurePosixPath]) -> str:
    """ "sequence 01 with 115 images, 15 gold masks, ...; sequence 02 with ..." """
    counts = {
        sequence: [
            f"{number} {what}{'s' * (number != 1)}"
            for kind, what in KINDS.items()
            if (number := sum(str(file.parent) == sequence + kind and file.suffix == ".tif" for file in files))
        ]
        for sequence in SEQUENCES
    }
    return "; ".join(f"sequence {sequence} with {', '.join(of)}" for sequence, of in counts.items() if of)


def _in_words(files: Sequence[PurePosixPath]) -> str:
    """By folder, how many; a single file by its name."""
    words = []
    for folder, group in groupby(files, key=lambda file: file.parent):
        names = list(group)
        words.append(str(names[0]) if len(names) == 1 else f"{len(names)} files in {folder}")
    return ", ".join(words)
