"""`python -m bundle fetch`: download public data, compare them with known checksums, write the workflows' layout."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from bundle.datasets import isbi2012
from bundle.datasets.cell_tracking_sets import cell_tracking_set
from bundle.datasets.data_sets import Checked, DataSet, known_digests
from bundle.datasets.download import bring
from bundle.datasets.folders import check_may_write, whole_folder
from bundle.running.errors import RunError, UsageError

DATA_SETS = {
    "isbi2012": isbi2012.DATA_SET,
    "phc_u373": cell_tracking_set("phc_u373", "PhC-C2DH-U373", known_digests("phc_u373")),
    "dic_hela": cell_tracking_set("dic_hela", "DIC-C2DH-HeLa", known_digests("dic_hela")),
}


def fetch(name: str, folder: str | None = None, source: str | None = None, overwrite: bool = False) -> None:
    """Download a public data set and verify every file that has a checksum.

    Nothing is written before every known checksum has been compared. Complete data are not downloaded again.

    `isbi2012` makes FOLDER/train/images, FOLDER/train/labels and FOLDER/test/images: PNG, 512 x 512 pixels, 8 bit.
    Labels are 255 inside cells and 0 on membranes. The last five labelled slices have no known checksum. They are
    written to FOLDER/held_out and do not train.

    `phc_u373` and `dic_hela` make FOLDER/01, FOLDER/01_GT, FOLDER/01_ST, FOLDER/02, ... with the challenge's own files.
    Checksums are known for sequence 02 of phc_u373 and sequence 01 of dic_hela.

    Examples:
        python -m bundle fetch isbi2012
        python -m bundle fetch phc_u373 data/u373 --source ~/Downloads/PhC-C2DH-U373.zip

    Args:
        name: isbi2012 (electron microscopy, ISBI 2012), phc_u373 or dic_hela (Cell Tracking Challenge): the paper's
            data sets.
        folder: where to write; made if absent. Default: the folder in the data set's configuration.
        source: folder or zip file with the data, or its URL, in place of the public addresses. For isbi2012 the folder
            may hold the TIFF volumes or PNG slices.
        overwrite: replace an earlier copy in FOLDER.
    """
    data_set = DATA_SETS.get(str(name))
    if data_set is None:
        raise UsageError(f"unknown data set '{name}'; known are: {', '.join(DATA_SETS)}")
    fetch_set(data_set, None if folder is None else str(folder), None if source is None else str(source), overwrite)


def fetch_set(data_set: DataSet, folder: str | None, source: str | None, overwrite: bool) -> None:
    """Fetch a data set; the other arguments are those of `fetch`."""
    target = Path(data_set.folder if folder is None else folder)
    checked = None if overwrite else _complete(data_set, target)
    if checked is not None:
        print(f"{target} is complete, {checked.verified}; nothing to do")
    else:
        check_may_write(target, overwrite, data_set.parts)  # before the download
        checked = _fetch_from(data_set, data_set.mirrors if source is None else (source,), target, overwrite)
        print(f"{target}: {checked.content}; {checked.verified}")
    for note in checked.notes:
        print(note)
    print(data_set.terms)
    print(f"next: python -m bundle train {subprocess.list2cmdline([str(target)])} --overlay data_{data_set.name}")


def _complete(data_set: DataSet, target: Path) -> Checked | None:
    """Check the data in the target; None if anything is missing or wrong."""
    if not all((target / part).is_dir() for part in data_set.layout):
        return None
    try:
        return data_set.check(target, str(target))
    except RunError:
        return None


def _fetch_from(data_set: DataSet, sources: tuple[str, ...], target: Path, overwrite: bool) -> Checked:
    """Write the data of the first source with complete and right data. RunError, with reasons, if all sources fail."""
    failures = []
    for source in sources:
        with tempfile.TemporaryDirectory() as work:
            try:
                checked = data_set.check(bring(source, data_set.files, Path(work)), source)
            except RunError as error:
                failures.append(f"  {source}\n      {error}")
                continue
            with whole_folder(target, overwrite, data_set.parts) as new:
                checked.write(new)
            return checked
    raise RunError(
        f"{data_set.name} could not be fetched. Tried:\n" + "\n".join(failures) + "\n"
        f"By hand: {data_set.by_hand}, then\n"
        f"  python -m bundle fetch {data_set.name} {subprocess.list2cmdline([str(target)])} --source FOLDER_OR_ZIP"
    )
