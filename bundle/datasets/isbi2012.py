"""The ISBI 2012 electron microscopy challenge: find its slices in either form, verify them, write PNG folders.

Data: Cardona et al. 2010, doi 10.1371/journal.pbio.1000502.
Challenge: Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from bundle.datasets.data_sets import Checked, DataSet
from bundle.datasets.digests import known_digests, pixel_digest
from bundle.datasets.folders import shallowest
from bundle.errors import RunError

VOLUMES = {  # folder in our layout: the challenge's own file
    "train/images": "train-volume.tif",
    "train/labels": "train-labels.tif",
    "test/images": "test-volume.tif",
}
PARTS = ("train", "test", "held_out")
MIRRORS = (  # in this order; the challenge's page, imagej.net/events/isbi-2012-segmentation-challenge, names the first
    "https://downloads.imagej.net/ISBI-2012-challenge.zip",
    "https://raw.githubusercontent.com/alexklibisz/isbi-2012/master/data/",
)
TERMS = (
    "Public challenge data. If you publish with them, cite Cardona et al. 2010, doi 10.1371/journal.pbio.1000502,\n"
    "and Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142."
)

Slices = dict[str, list[np.ndarray]]  # folder in our layout: its uint8 (H, W) slices in volume order


def read_slices(folder: Path) -> Slices:
    """Find the data below a folder, as the challenge's three TIFF volumes or as folders of PNG slices.

    Args:
        folder: holds, at any depth, all of `VOLUMES`, or train/images, train/labels, test/images with 00.png, 01.png..

    Returns:
        all slices found; labels as they are (255 = cell interior, 0 = membrane).

    Raises:
        RunError: nothing of either form, a part missing, or a file that is no 8-bit grey image.
    """
    first_volume = shallowest(folder, VOLUMES["train/images"])
    if first_volume is not None:
        paths = {part: first_volume.with_name(name) for part, name in VOLUMES.items()}
        for path in paths.values():
            if not path.is_file():
                raise RunError(f"{path.name} is missing beside {first_volume}; put it there")
        return {part: _pages(path) for part, path in paths.items()}
    first_folder = shallowest(folder, "train/images")
    if first_folder is not None:
        root = first_folder.parent.parent
        return {part: _numbered(root / part) for part in VOLUMES}
    raise RunError(
        f"no ISBI 2012 data in {folder}: expected {', '.join(VOLUMES.values())}, "
        f"or the folders {', '.join(VOLUMES)} with 00.png, 01.png, ..."
    )


def _numbered(folder: Path) -> list[np.ndarray]:
    """Read 00.png, 01.png, ... without a gap."""
    count = len(list(folder.glob("*.png")))
    paths = [folder / f"{number:02d}.png" for number in range(count)]
    missing = [path for path in paths or [folder / "00.png"] if not path.is_file()]
    if missing:
        raise RunError(f"{missing[0]} is missing; expected 00.png, 01.png, ... without a gap")
    return [_pages(path)[0] for path in paths]


def _pages(path: Path) -> list[np.ndarray]:
    """All pages of a PNG or TIFF file, each uint8 (H, W), as a screen shows them (Pillow turns 0-is-white)."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("1", "L"):
                raise RunError(f"{path} is of kind {image.mode}, expected 8-bit grey; get the challenge's own file")
            return [np.array(page.convert("L")) for page in ImageSequence.Iterator(image)]
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken PNG files
        raise RunError(f"{path} cannot be read as an image ({error}); get it anew") from error


def verify(slices: Slices, source: str) -> None:
    """Compare every slice that the checksum list knows; labelled slices beyond the list pass unchecked.

    Args:
        slices: what `read_slices` gave.
        source: where they come from, for the message.

    Raises:
        RunError: too few slices, or one that differs; names it, with both checksums.
    """
    for part, digests in known_digests("isbi2012").items():
        got = slices[part]
        if len(got) < len(digests):
            raise RunError(f"{part} of {source} has {len(got)} slices, expected at least {len(digests)}; get it anew")
        for number, (pixels, digest) in enumerate(zip(got, digests, strict=False)):
            found = pixel_digest(pixels)
            if found != digest:
                raise RunError(
                    f"{part}/{number:02d}.png (slice {number} of {VOLUMES[part]}) of {source} is not as published: "
                    f"sha256 of its pixels {found}, expected {digest}; nothing was written, get it anew or elsewhere"
                )
    if len(slices["train/labels"]) != len(slices["train/images"]):
        raise RunError(
            f"{source} has {len(slices['train/images'])} images but {len(slices['train/labels'])} labels in train, "
            "expected equal numbers; get it anew"
        )


def check_slices(folder: Path, source: str) -> Checked:
    """Find the data below a folder and verify them.

    Args:
        folder: as in `read_slices`.
        source: where they come from, for messages.

    Returns:
        the data, as PNG folders.

    Raises:
        RunError: as `read_slices` and `verify` say.
    """
    slices = read_slices(folder)
    verify(slices, source)
    placed = _placed(slices)
    notes = (
        "held_out: labelled slices without a checksum here; the figures of this bundle are measured without them, so "
        "they stay out of training",
    )
    return Checked(
        write=partial(_write, placed),
        content=", ".join(f"{len(files)} {part}" for part, files in placed.items()),
        verified="every slice verified that has a checksum here",
        notes=notes if "held_out/images" in placed else (),
    )


def _placed(slices: Slices) -> dict[str, dict[str, np.ndarray]]:
    """{folder: {file name: slice}}; labelled slices beyond the checksum list go to held_out/, away from training."""
    placed: dict[str, dict[str, np.ndarray]] = {}
    for part, digests in known_digests("isbi2012").items():
        kind = part.split("/")[1]
        for number, pixels in enumerate(slices[part]):
            folder = part if number < len(digests) else f"held_out/{kind}"
            placed.setdefault(folder, {})[f"{number:02d}.png"] = pixels
    return placed


def _write(placed: dict[str, dict[str, np.ndarray]], folder: Path) -> None:
    """Write the PNG folders."""
    for part, files in placed.items():
        (folder / part).mkdir(parents=True)
        for name, pixels in files.items():
            Image.fromarray(pixels).save(folder / part / name)


DATA_SET = DataSet(
    name="isbi2012",
    mirrors=MIRRORS,
    files=tuple(VOLUMES.values()),
    by_hand=f"put {', '.join(VOLUMES.values())} into a folder, or keep the challenge's zip file",
    folder="data/isbi2012",
    parts=PARTS,
    layout=tuple(VOLUMES),
    check=check_slices,
    terms=TERMS,
    config="configs/data_isbi2012.yaml",
    dataset_dir="train",
)
