"""Read the ISBI 2012 electron microscopy challenge in either form, verify the slices, write PNG folders.

Data: Cardona et al. 2010, doi 10.1371/journal.pbio.1000502.
Challenge: Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142.
"""

from __future__ import annotations

from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.datasets.data_sets import Checked, DataSet, check_pixels, known_digests, read_pages
from bundle.datasets.folders import shallowest
from bundle.running.errors import RunError

VOLUMES = {  # folder in our layout: the challenge's own file
    "train/images": "train-volume.tif",
    "train/labels": "train-labels.tif",
    "test/images": "test-volume.tif",
}
MIRRORS = (  # the challenge's page, imagej.net/events/isbi-2012-segmentation-challenge, links to the first
    "https://downloads.imagej.net/ISBI-2012-challenge.zip",
    "https://raw.githubusercontent.com/alexklibisz/isbi-2012/master/data/",
)
TERMS = (
    "Public challenge data. If you publish with them, cite Cardona et al. 2010, doi 10.1371/journal.pbio.1000502,\n"
    "and Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142."
)

Slices = dict[str, list[np.ndarray]]  # folder in our layout: its uint8 (H, W) slices in volume order


def check_slices(folder: Path, source: str) -> Checked:
    """Find the data below a folder and verify them.

    Args:
        folder: holds the three `VOLUMES` at any depth, or the folders train/images, train/labels and test/images with
            00.png, 01.png, ...
        source: origin of the data, for messages.

    Returns:
        the data as PNG folders. Labelled slices beyond the checksum list go to held_out/, away from training.

    Raises:
        RunError: no data, a part or slice missing, a file that is no 8-bit grey image, or a slice that is not as
            published.
    """
    slices = _read(folder)
    placed: dict[str, np.ndarray] = {}
    for part, digests in known_digests("isbi2012").items():
        found = slices[part]
        if len(found) < len(digests):
            raise RunError(f"{part} of {source} has {len(found)} slices, expected at least {len(digests)}; get it anew")
        for number, (pixels, digest) in enumerate(zip_longest(found, digests)):
            if digest:
                check_pixels(f"{part}/{number:02d}.png (slice {number} of {VOLUMES[part]})", source, pixels, digest)
            place = part if digest else part.replace("train", "held_out")
            placed[f"{place}/{number:02d}.png"] = pixels
    images, labels = len(slices["train/images"]), len(slices["train/labels"])
    if labels != images:
        raise RunError(f"{source} has {images} images but {labels} labels in train; get it anew")
    parts = [name.rpartition("/")[0] for name in placed]
    note = (
        "held_out: labelled slices without a known checksum. The published figures were measured without them, so they "
        "stay out of training"
    )
    return Checked(
        write=partial(_write, placed),
        content=", ".join(f"{parts.count(part)} {part}" for part in dict.fromkeys(parts)),
        verified="every slice verified that has a checksum here",
        notes=(note,) if "held_out/images" in parts else (),
    )


def _read(folder: Path) -> Slices:
    """Read all slices below a folder; labels as they are (255 = cell interior, 0 = membrane)."""
    volume = shallowest(folder, VOLUMES["train/images"])
    if volume is not None:
        paths = {part: volume.with_name(name) for part, name in VOLUMES.items()}
        for path in paths.values():
            if not path.is_file():
                raise RunError(f"{path.name} is missing beside {volume}; put it there")
        return {part: _pages(path) for part, path in paths.items()}
    images = shallowest(folder, "train/images")
    if images is not None:
        return {part: _numbered(images.parent.parent / part) for part in VOLUMES}
    raise RunError(
        f"no ISBI 2012 data in {folder}: expected {', '.join(VOLUMES.values())}, "
        f"or the folders {', '.join(VOLUMES)} with 00.png, 01.png, ..."
    )


def _numbered(folder: Path) -> list[np.ndarray]:
    """Read 00.png, 01.png, ... without a gap."""
    paths = [folder / f"{number:02d}.png" for number in range(max(1, len(list(folder.glob("*.png")))))]
    for path in paths:
        if not path.is_file():
            raise RunError(f"{path} is missing; expected 00.png, 01.png, ... without a gap")
    return [_pages(path)[0] for path in paths]


def _pages(path: Path) -> list[np.ndarray]:
    return read_pages(path, ("1", "L"), "8-bit grey as in the challenge's own file")


def _write(placed: dict[str, np.ndarray], folder: Path) -> None:
    for name, pixels in placed.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)


DATA_SET = DataSet(
    name="isbi2012",
    mirrors=MIRRORS,
    files=tuple(VOLUMES.values()),
    by_hand=f"put {', '.join(VOLUMES.values())} into a folder, or keep the challenge's zip file",
    folder="data/isbi2012",
    parts=("train", "test", "held_out"),
    layout=tuple(VOLUMES),
    check=check_slices,
    terms=TERMS,
)
