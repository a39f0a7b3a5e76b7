"""Data sets in the layout of the Cell Tracking Challenge as lists of {"image", "label", "markers"}.

    01/t000.tif                    images of the sequence 01
    01_GT/SEG/man_seg000.tif       gold: by hand, few frames, some of them partly annotated
    01_ST/SEG/man_seg000.tif       silver: combined from good results, usually all frames
    01_GT/TRA/man_track000.tif     a marker on every cell of every frame, what DET is measured with

Layout: the challenge's "Naming and file content conventions", celltrackingchallenge.net.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.checks import check_choice
from scripts.data.pairs import SHOWN, check_pairs, some
from scripts.data.splits import save_split
from scripts.io.names import PathLike

_LABELS = {"gold": ("GT/SEG", "man_seg"), "silver": ("ST/SEG", "man_seg"), "markers": ("GT/TRA", "man_track")}


def find_cell_tracking(
    dataset_dir: PathLike,
    sequences: str | int | Sequence[str | int] | None = None,
    reference: str = "gold",
    frames: str | int | Iterable[int] | None = None,
) -> list[dict[str, Any]]:
    """List the frames that have a reference, with it.

    Headers are read, so that a missing, unreadable or misfitting file is reported before anything runs.

    Args:
        dataset_dir: the folder of one data set, which holds `01`, `01_GT`, ...
        sequences: "01", or several; a number 1 means "01". None: all that have such a reference.
        reference: "gold", "silver" or "markers", see the module's first lines.
        frames: the frames wanted, of those that have a reference, counted as in the file names: ranges that include
            both ends, "0-55" or "0-55, 62-83, 90", or numbers (`range(56)`). None: all.

    Returns:
        items {"image": path, "label": path}, by sequence and frame, with "markers": path where the frame has them (all
        frames do, in the challenge's own downloads): `InstanceLabelsd` tells from them what is not annotated.

    Raises:
        FileNotFoundError: folder, sequence, reference or an image missing.
        ValueError: an unknown reference, frames that are no ranges or select nothing, files that do not fit together.
        ImageFileError: a file cannot be read.

    Example:
        find_cell_tracking("DIC-C2DH-HeLa", "01", "silver", "0-55")
    """
    check_choice("reference", reference, _LABELS)
    if dataset_dir is None or not str(dataset_dir):
        raise ValueError("no folder given; set dataset_dir to the folder that holds 01, 01_GT, ...")
    root = Path(dataset_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"dataset_dir {root} is not a folder; set it to the one that holds 01, 01_GT, ...")
    pairs = [pair for name in _sequences(root, sequences, reference) for pair in _pairs(root, name, reference)]
    wanted = _ranges(frames)
    if wanted is not None:
        known = [frame for frame, _ in pairs]
        empty = [text for text, numbers in wanted.items() if not any(frame in numbers for frame in known)]
        if empty:
            raise ValueError(
                f"frames {', '.join(empty)} select nothing in {root}: frames with a {reference} reference are "
                f"{_as_ranges(known)}"
            )
        pairs = [(frame, item) for frame, item in pairs if any(frame in numbers for numbers in wanted.values())]
    items = [item for _, item in pairs]
    marked = check_pairs([{"image": item["image"], "label": item["markers"]} for item in items if "markers" in item])
    markers = {pair["image"]: {"markers": pair["label"]} for pair in marked}
    return [item | markers.get(item["image"], {}) for item in check_pairs(items)]


def split_cell_tracking(
    dataset_dir: PathLike,
    training: Mapping[str, Any],
    validation: Mapping[str, Any],
    output: PathLike | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Which frames train and which validate, both chosen by sequence and range.

    Cells move and change slowly: keep frames between the two ranges, or take another sequence, so that no cell is
    validated in the shape that it was learnt in.

    Args:
        dataset_dir: as in `find_cell_tracking`.
        training: `sequences`, `reference` and `frames` of that function, each as there if left out.
        validation: the same.
        output: JSON file to write the split to, as `scripts.data.splits` does; None: nowhere.

    Returns:
        {"training": items, "validation": items}.

    Raises:
        ValueError: a frame is in both, or as `find_cell_tracking` says.
        FileNotFoundError: as `find_cell_tracking` says.
    """
    split = {
        "training": find_cell_tracking(dataset_dir, **training),
        "validation": find_cell_tracking(dataset_dir, **validation),
    }
    both = {item["image"] for item in split["training"]} & {item["image"] for item in split["validation"]}
    if both:
        raise ValueError(f"frames are to train and to validate, {some(sorted(both))}; keep the ranges apart")
    if output:
        asked = {"training": training, "validation": validation}
        save_split(output, split, rule={part: _plain(choice) for part, choice in asked.items()})
    return split


def _sequences(root: Path, asked: str | int | Sequence[str | int] | None, reference: str) -> list[str]:
    """The sequences asked for, each with folders for images and labels."""
    folder, _ = _LABELS[reference]
    there = sorted(d.name for d in root.iterdir() if d.is_dir() and re.fullmatch(r"\d\d", d.name))
    if not there:
        inner = sorted(d.name for d in root.iterdir() if d.is_dir() and any(d.glob("[0-9][0-9]_GT")))
        remedy = f"set dataset_dir to one of its folders {some(inner)}" if inner else "set dataset_dir to that folder"
        raise FileNotFoundError(f"{root} holds no sequence; expected folders like 01, 01_GT and 01_ST: {remedy}")
    labelled = [name for name in there if (root / f"{name}_{folder}").is_dir()]
    if asked is None:
        if not labelled:
            raise FileNotFoundError(
                f"{root} has no {reference} reference; expected {there[0]}_{folder}/, as the challenge gives it"
            )
        return labelled
    names = [str(name).zfill(2) for name in ([asked] if isinstance(asked, str | int) else asked)]
    if not names:
        raise ValueError("sequences names none; leave it out for all")
    for name in names:
        if name not in there:
            raise FileNotFoundError(f"{root} has no sequence {name}; there are {', '.join(there)}")
        if name not in labelled:
            raise FileNotFoundError(
                f"sequence {name} of {root} has no {reference} reference; expected {name}_{folder}/, "
                f"which {', '.join(labelled) or 'no sequence'} has"
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
    """Files `prefix`NNN.tif by their number, never none."""
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        match = re.fullmatch(rf"{prefix}(\d+)\.tif", file.name)
        if match and found.setdefault(int(match[1]), file) != file:
            raise ValueError(f"{found[int(match[1])]} and {file.name} name one frame; take one away")
    if not found and any(folder.glob(f"{prefix}_*_*.tif")):
        raise ValueError(f"{folder} labels single planes of volumes ({prefix}_000_000.tif); only 2-D sets are read")
    if not found:
        raise FileNotFoundError(f"no {prefix}NNN.tif in {folder}; unpack the data set anew")
    return found


def _ranges(frames: str | int | Iterable[int] | None) -> dict[str, Sequence[int] | set[int]] | None:
    """{"0-55": range(56)}: what must each select something; plain numbers are one selection together."""
    if frames is None:
        return None
    if isinstance(frames, int):
        return {str(frames): {frames}}
    if not isinstance(frames, str):
        numbers = set(frames)
        return {f"{len(numbers)} numbers": numbers} if len(numbers) > SHOWN else {str(sorted(numbers)): numbers}
    ranges: dict[str, Sequence[int] | set[int]] = {}
    for part in frames.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(f'frames must be like "0-55" or "0-55, 62-83, 90", got {frames!r}')
        ranges[part.strip()] = range(int(match[1]), int(match[2] or match[1]) + 1)
    return ranges


def _plain(choice: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can say: a list in place of `range(56)`."""
    plain = (str, int, type(None))
    return {key: value if isinstance(value, plain) else list(value) for key, value in choice.items()}


def _as_ranges(frames: Iterable[int]) -> str:
    """[0, 1, 2, 5] -> "0-2, 5"."""
    runs: list[list[int]] = []
    for frame in sorted(set(frames)):
        if runs and frame == runs[-1][-1] + 1:
            runs[-1][1:] = [frame]
        else:
            runs.append([frame])
    return ", ".join("-".join(map(str, run)) for run in runs)
