"""`python -m bundle fetch`: public data, verified slice by slice, in the folder layout that the workflows read."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from bundle import isbi2012
from bundle.download import bring
from bundle.errors import RunError, UsageError
from bundle.folders import check_may_write, whole_folder

MIRRORS = (  # in this order; the challenge's page, imagej.net/events/isbi-2012-segmentation-challenge, names the first
    "https://downloads.imagej.net/ISBI-2012-challenge.zip",
    "https://raw.githubusercontent.com/alexklibisz/isbi-2012/master/data/",
)
DEFAULT_FOLDER = "data/isbi2012"  # where configs/train.yaml looks
CITATION = (
    "Public challenge data. If you publish with them, cite Cardona et al. 2010, doi 10.1371/journal.pbio.1000502,\n"
    "and Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142."
)


def fetch(name: str, folder: str = DEFAULT_FOLDER, source: str | None = None, overwrite: bool = False) -> None:
    """Download a public data set and verify every slice.

    `isbi2012` gives FOLDER/train/images, FOLDER/train/labels and FOLDER/test/images as PNG, 512 x 512 pixels, 8 bit;
    labels are 255 inside cells and 0 on membranes. The last five labelled slices go to FOLDER/held_out and stay out of
    training. Nothing is written before every known slice has been verified.

    Args:
        name: isbi2012, the electron microscopy challenge of the paper.
        folder: where to write; made if absent.
        source: instead of the public addresses, a folder or zip file with the TIFF volumes or PNG folders, or its URL.
        overwrite: replace an earlier copy in FOLDER.
    """
    if name != "isbi2012":
        raise UsageError(f"unknown data set '{name}'; known is: isbi2012")
    target = Path(str(folder))  # fire reads a bare 2024 as a number
    if not overwrite and _is_complete(target):
        print(f"{target} is complete, every slice verified; nothing to do")
    else:
        check_may_write(target, overwrite, isbi2012.PARTS)  # before the download rather than after it
        sources = MIRRORS if source is None else (str(source),)
        counts = _fetch_from(sources, target, overwrite)
        made = ", ".join(f"{count} {part}" for part, count in counts.items())
        print(f"{target}: {made}; each slice compared with its published checksum where there is one")
        if "held_out/images" in counts:
            print(
                f"{target / 'held_out'}: labelled slices without a checksum here; the figures of this bundle are "
                "measured without them, so they stay out of training"
            )
    print(CITATION)
    where = "" if target == Path(DEFAULT_FOLDER) else f" --dataset_dir {shlex.quote(str(target / 'train'))}"
    configs = "['configs/train.yaml','configs/data_isbi2012.yaml']"
    print(f'next: python -m bundle run training --config_file "{configs}"{where}')


def _is_complete(target: Path) -> bool:
    """Whether the folder holds, in our layout, all slices with the right checksums."""
    if not all((target / part).is_dir() for part in isbi2012.VOLUMES):
        return False
    try:
        isbi2012.verify(isbi2012.read_slices(target), str(target))
    except RunError:
        return False
    return True


def _fetch_from(sources: tuple[str, ...], target: Path, overwrite: bool) -> dict[str, int]:
    """Take the first source whose slices are all right; number of files per folder written.

    Raises:
        RunError: none was; says why for each and what can be done by hand.
    """
    failures = []
    for source in sources:
        with tempfile.TemporaryDirectory() as work:
            try:
                slices = isbi2012.read_slices(bring(source, tuple(isbi2012.VOLUMES.values()), Path(work)))
                isbi2012.verify(slices, source)
            except RunError as error:
                failures.append(f"  {source}\n      {error}")
                continue
        with whole_folder(target, overwrite, isbi2012.PARTS) as new:
            return isbi2012.write_slices(slices, new)
    raise RunError(
        "isbi2012 could not be had. Tried:\n" + "\n".join(failures) + "\n"
        f"By hand: put {', '.join(isbi2012.VOLUMES.values())} into a folder, or keep the challenge's zip file, then\n"
        f"  python -m bundle fetch isbi2012 {shlex.quote(str(target))} --source FOLDER_OR_ZIP"
    )
