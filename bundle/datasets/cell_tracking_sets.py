"""Data sets of the Cell Tracking Challenge: find the sequences, verify the known files, copy all files unchanged.

    01/t000.tif                  images, uint8
    01_GT/SEG/man_seg000.tif     gold masks, uint16
    01_GT/TRA/man_track000.tif   markers, uint16
    01_ST/SEG/man_seg000.tif     silver masks, uint16

Challenge: Maška et al. 2023, doi 10.1038/s41592-023-01879-y; Ulman et al. 2017, doi 10.1038/nmeth.4473.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from bundle.datasets.data_sets import Checked, DataSet, check_pixels, read_pages
from bundle.datasets.folders import shallowest
from bundle.running.errors import RunError

ADDRESSES = (
    "https://data.celltrackingchallenge.net/training-datasets/",
    "http://data.celltrackingchallenge.net/training-datasets/",
)
SEQUENCES = ("01", "02")  # in each of the challenge's training sets
KINDS = {"": "image", "_GT/SEG": "gold mask", "_GT/TRA": "marker image", "_ST/SEG": "silver mask"}
PARTS = tuple(f"{sequence}{kind}" for sequence in SEQUENCES for kind in ("", "_GT", "_ST", "_ERR_SEG"))
SUFFIXES = (".tif", ".txt")  # man_track.txt: the cell of each marker
SHOWN = 3  # names in a message
TERMS = (
    "Cell Tracking Challenge, conditions of use: celltrackingchallenge.net/datasets. If you publish with these data,\n"
    "acknowledge the challenge and cite Maška et al. 2023, doi 10.1038/s41592-023-01879-y, and Ulman et al. 2017,\n"
    "doi 10.1038/nmeth.4473. Taking part in the challenge needs no permission. Other public scientific use needs the\n"
    "permission of the data's providers, who are named on that page; commercial use also the organisers' permission.\n"
    "Publishing weights trained on the data counts here as public use. This project therefore redistributes neither."
)

Digests = Mapping[str, Mapping[str, str]]  # folder in the challenge's layout: {file name: pixel digest}


def cell_tracking_set(name: str, title: str, digests: Digests) -> DataSet:
    """Describe a training set of the challenge, for the table in `bundle.datasets.fetch`.

    Args:
        name: name on the command line and of the configuration: "phc_u373".
        title: name in the challenge: "PhC-C2DH-U373".
        digests: known checksums.

    Example:
        >>> cell_tracking_set("phc_u373", "PhC-C2DH-U373", {}).mirrors[0]
        'https://data.celltrackingchallenge.net/training-datasets/PhC-C2DH-U373.zip'
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
    )


def check_files(folder: Path, source: str, title: str, digests: Digests) -> Checked:
    """Find a set below a folder and compare every file with a known checksum.

    Args:
        folder: holds 01, 01_GT, ... at any depth.
        source: origin of the data, for messages.
        title, digests: as in `cell_tracking_set`. Files without a known checksum pass and are named in the notes.

    Returns:
        all images, masks, markers and man_track.txt of all sequences, to be copied unchanged.

    Raises:
        RunError: no sequence, or a known file is missing, unreadable or different.
    """
    root = _find(folder, title)
    known = {f"{part}/{name}": digest for part, names in digests.items() for name, digest in names.items()}
    missing = [name for name in known if not (root / name).is_file()]
    if missing:
        names = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise RunError(
            f"{len(missing)} of {len(known)} known files are missing in {source}: {names}; "
            "nothing was written, get it anew or elsewhere"
        )
    remedy = "; if the challenge itself has changed the file, unpack its zip file yourself"
    for name, digest in known.items():
        check_pixels(name, source, read_pixels(root / name), digest, remedy)
    files = _files(root)
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


def read_pixels(path: Path) -> np.ndarray:
    """Read the only image of a grey TIFF file, uint8 or uint16 (H, W).

    Raises:
        RunError: the file cannot be read, is not grey, or holds several images.
    """
    pages = read_pages(path, ("L", "I;16", "I;16B"), "grey, 8 or 16 bit")
    if len(pages) != 1:
        raise RunError(f"{path} holds several images, expected one; get it anew")
    return pages[0]


def _find(folder: Path, title: str) -> Path:
    """Find the folder of 01, 01_GT, ...: this folder, else the nearest named after the set, else the nearest."""
    inner = (shallowest(folder, f"{sequence}_GT") for sequence in SEQUENCES)
    for root in (folder, shallowest(folder, title), *(path.parent for path in inner if path)):
        if root and any((root / sequence).is_dir() for sequence in SEQUENCES):
            return root
    raise RunError(
        f"no {title} in {folder}: expected the folders {', '.join(SEQUENCES)}, {SEQUENCES[0]}_GT, ... "
        f"or a folder {title} with them; give the challenge's own zip file, packed or unpacked"
    )


def _files(root: Path) -> list[PurePosixPath]:
    """List all files of all sequences, sorted, relative to `root`; without files of operating systems and tools."""
    found = (path for part in PARTS for path in (root / part).rglob("*") if path.is_file())
    kept = (path for path in found if path.suffix in SUFFIXES and not path.name.startswith("."))
    return sorted(PurePosixPath(path.relative_to(root).as_posix()) for path in kept)


def _copy(root: Path, files: Sequence[PurePosixPath], folder: Path) -> None:
    """Copy the bytes, but not the permissions: the source may be read-only."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, folder / file)


def _content(files: Sequence[PurePosixPath]) -> str:
    """Write "sequence 01 with 115 images, 15 gold masks, ...; sequence 02 with ..."."""
    counts = Counter(str(file.parent) for file in files if file.suffix == ".tif")
    sequences = []
    for sequence in SEQUENCES:
        numbers = [(counts[sequence + kind], what) for kind, what in KINDS.items()]
        held = [f"{number} {what}{'s' * (number != 1)}" for number, what in numbers if number]
        sequences += [f"sequence {sequence} with {', '.join(held)}"] if held else []
    return "; ".join(sequences)


def _in_words(files: Sequence[PurePosixPath]) -> str:
    """Count files by folder; a single file of a folder is named."""
    counts = Counter(file.parent for file in files)
    single = {file.parent: str(file) for file in files if counts[file.parent] == 1}
    return ", ".join(single.get(folder, f"{count} files in {folder}") for folder, count in counts.items())
