"""List data sets of the Cell Tracking Challenge as items {"image", "label", "markers"}.

    01/t000.tif                    image of sequence 01
    01_GT/SEG/man_seg000.tif       gold reference: drawn by hand, few frames, some partly annotated
    01_ST/SEG/man_seg000.tif       silver reference: combined from good results, usually all frames
    01_GT/TRA/man_track000.tif     a marker on each cell of each frame; DET is measured with them

Layout: the challenge's "Naming and file content conventions", celltrackingchallenge.net.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checks import check_choice
from ..io.names import PathLike
from .pairs import SHOWN, check_pairs, existing, some
from .splits import save_split

_LABELS = {"gold": ("GT/SEG", "man_seg"), "silver": ("ST/SEG", "man_seg"), "markers": ("GT/TRA", "man_track")}


def find_cell_tracking(
    dataset_dir: PathLike,
    sequences: str | int | Sequence[str | int] | None = None,
    reference: str = "gold",
    frames: str | int | Iterable[int] | None = None,
) -> list[dict[str, Any]]:
    """List frames with their reference. File headers are read and checked.

    Args:
        dataset_dir: folder of the data set, with `01`, `01_GT`, ...
        sequences: "01" or a list. 1 means "01". None: all sequences with the reference.
        reference: "gold", "silver" or "markers", see above.
        frames: frame numbers of the file names: "0-55" or "0-55, 62-83, 90" with both ends, or numbers. Frames without
            a reference are skipped. None: all.

    Returns:
        Items {"image": path, "label": path}, by sequence and frame. Frames with markers have "markers": path, too;
        `InstanceLabelsd` finds unannotated pixels with them.

    Raises:
        FileNotFoundError: a folder, sequence, reference or image is missing.
        ValueError: unknown reference, frames in another form or without a reference, images and labels that do not fit.
        ImageFileError: a file cannot be read.

    Example:
        >>> find_cell_tracking("DIC-C2DH-HeLa", "01", "silver", "0-55")  # doctest: +SKIP
    """
    check_choice("reference", reference, _LABELS)
    root = existing(dataset_dir, "a folder with 01, 01_GT, ...")
    pairs = [pair for name in _sequences(root, sequences, reference) for pair in _pairs(root, name, reference)]
    if frames is not None:
        wanted = _ranges(frames)
        known = {frame for frame, _ in pairs}
        empty = [text for text, numbers in wanted.items() if known.isdisjoint(numbers)]
        if empty:
            raise ValueError(
                f"frames {', '.join(empty)} select nothing in {root}. Frames with a {reference} reference: "
                f"{_as_ranges(known)}"
            )
        pairs = [(frame, item) for frame, item in pairs if any(frame in numbers for numbers in wanted.values())]
    return check_pairs([item for _, item in pairs])


def split_cell_tracking(
    dataset_dir: PathLike, training: Mapping[str, Any], validation: Mapping[str, Any], output: PathLike | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Split a data set by sequence and frames.

    Cells move and change slowly. Leave frames between both ranges, or validate on another sequence. Otherwise the
    validation images show the cells of the training images in the same shapes.

    Args:
        dataset_dir: as in `find_cell_tracking`.
        training: `sequences`, `reference` and `frames` of `find_cell_tracking`.
        validation: the same for validation.
        output: JSON file for the split, as in `save_split`. None: no file.

    Returns:
        {"training": items, "validation": items}.

    Raises:
        ValueError: a frame is in both parts. Further errors as in `find_cell_tracking`.

    Example:
        split:
          _target_: scripts.data.split_cell_tracking
          dataset_dir: data/DIC-C2DH-HeLa
          training: {sequences: "01", reference: silver, frames: 0-55}
          validation: {sequences: "01", reference: silver, frames: 62-83}
    """
    asked = {"training": training, "validation": validation}
    split = {part: find_cell_tracking(dataset_dir, **choice) for part, choice in asked.items()}
    both = {item["image"] for item in split["training"]} & {item["image"] for item in split["validation"]}
    if both:
        raise ValueError(f"frames are to train and to validate, {some(sorted(both))}; keep the ranges apart")
    if output:
        save_split(output, split, rule={part: _plain(choice) for part, choice in asked.items()})
    return split


def _sequences(root: Path, asked: str | int | Sequence[str | int] | None, reference: str) -> list[str]:
    """Sequences with folders for images and labels."""
    folder, _ = _LABELS[reference]
    there = sorted(d.name for d in root.glob("[0-9][0-9]") if d.is_dir())
    if not there:
        inner = sorted({gold.parent.name for gold in root.glob("*/[0-9][0-9]_GT")})
        remedy = f"set dataset_dir to one of its folders {some(inner)}" if inner else "set dataset_dir to that folder"
        raise FileNotFoundError(f"{root} holds no sequence; expected folders like 01, 01_GT and 01_ST: {remedy}")
    labelled = [name for name in there if (root / f"{name}_{folder}").is_dir()]
    if asked is None:
        names = labelled or there
    else:
        names = [str(name).zfill(2) for name in ([asked] if isinstance(asked, str | int) else asked)]
    if not names:
        raise ValueError("sequences is empty; leave it out for all sequences")
    for name in names:
        if name not in labelled:
            raise FileNotFoundError(
                f"{root} has no {reference} reference of sequence {name}; expected {name}/ and {name}_{folder}/. "
                f"Sequences: {', '.join(there)}; with {folder}: {', '.join(labelled) or 'none'}"
            )
    return list(dict.fromkeys(names))


def _pairs(root: Path, sequence: str, reference: str) -> list[tuple[int, dict[str, Any]]]:
    """(frame, item) of a sequence, in the order of the frames."""
    folder, prefix = _LABELS[reference]
    labels = _by_frame(root / f"{sequence}_{folder}", prefix)
    images = _by_frame(root / sequence, "t")
    marker_folder, marker_prefix = _LABELS["markers"]
    marked = root / f"{sequence}_{marker_folder}"
    markers = _by_frame(marked, marker_prefix) if marked.is_dir() else {}
    alone = [labels[frame].name for frame in sorted(labels) if frame not in images]
    if alone:
        raise FileNotFoundError(
            f"{some(alone)} of {len(labels)} labels in {root}/{sequence}_{folder} have no image in {root}/{sequence}; "
            "unpack the data set anew"
        )
    files = {"image": images, "label": labels, "markers": markers}
    return [(t, {key: str(of[t]) for key, of in files.items() if t in of}) for t in sorted(labels)]


def _by_frame(folder: Path, prefix: str) -> dict[int, Path]:
    """Frame -> file `prefix`NNN.tif. Raises an error for an empty folder."""
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        match = re.fullmatch(rf"{prefix}(\d+)\.tif", file.name)
        if match and found.setdefault(int(match[1]), file) != file:
            raise ValueError(f"{found[int(match[1])]} and {file.name} name one frame; remove one file")
    if not found and any(folder.glob(f"{prefix}_*_*.tif")):
        raise ValueError(f"{folder} labels single planes of volumes ({prefix}_000_000.tif); only 2-D sets are read")
    if not found:
        raise FileNotFoundError(f"no {prefix}NNN.tif in {folder}; unpack the data set anew")
    return found


def _ranges(frames: str | int | Iterable[int]) -> dict[str, Sequence[int] | set[int]]:
    """{"0-55": range(56)}. Each entry must select a frame; a list of numbers is one entry."""
    if not isinstance(frames, str | int):
        numbers = set(frames)
        return {f"{len(numbers)} numbers" if len(numbers) > SHOWN else str(sorted(numbers)): numbers}
    ranges: dict[str, Sequence[int] | set[int]] = {}
    for part in str(frames).split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(f'frames must be like "0-55" or "0-55, 62-83, 90", got {frames!r}')
        ranges[part.strip()] = range(int(match[1]), int(match[2] or match[1]) + 1)
    return ranges


def _plain(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Replace `range(56)` by a list, for JSON."""
    return {key: value if isinstance(value, str | int | None) else list(value) for key, value in choice.items()}


def _as_ranges(frames: Iterable[int]) -> str:
    """Write frames as ranges: [0, 1, 2, 5] as "0-2, 5"."""
    runs: list[list[int]] = []
    for frame in sorted(set(frames)):
        if runs and frame == runs[-1][-1] + 1:
            runs[-1][1:] = [frame]
        else:
            runs.append([frame])
    return ", ".join("-".join(map(str, run)) for run in runs)
