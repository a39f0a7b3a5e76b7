"""List data sets in the folders of nnU-Net: imagesTr/case_0000.png with a number for each channel, labelsTr/case.png.

`dataset.json` has "modality" and a list "training" in version 1, "channel_names" and "file_ending" in version 2.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .pairs import some

_CHANNEL = re.compile(r"(.+)_(\d{4})(\.[^/]+)")


def nnunet_pairs(path: Path, content: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """List images and labels of a `dataset.json`. None: no data set of nnU-Net version 2.

    Args:
        path: the file.
        content: of the file.

    Returns:
        Items {"image": file or files of the channels, "label": file}.

    Raises:
        FileNotFoundError: no images, or images without a channel or a label.

    Example:
        >>> nnunet_pairs(Path("dataset.json"), {"training": []}) is None
        True
    """
    if "training" in content or not {"channel_names", "file_ending"} <= set(content):
        return None
    folder, ending = path.parent, str(content["file_ending"])
    if isinstance(content.get("dataset"), Mapping):  # listed with their paths
        cases = content["dataset"].values()
        return [{"image": _joined(folder, case["images"]), "label": _joined(folder, case["label"])} for case in cases]
    images = folder / "imagesTr"
    files = sorted(images.iterdir()) if images.is_dir() else []
    grouped = grouped_channels([file for file in files if file.name.endswith(ending)], max(1, _channels_in(content)))
    pairs = [(files, folder / "labelsTr" / f"{_case(files[0])}{ending}") for files in grouped]
    missing = [label.name for _, label in pairs if not label.is_file()]
    if not pairs or missing:
        found = f"{some(missing)} of {len(pairs)} labels are missing in" if missing else f"no images *_0000{ending} for"
        raise FileNotFoundError(f"{found} {folder / 'labelsTr'}; {path.name} is of nnU-Net. Add the files")
    return [{"image": _as_item(files), "label": str(label)} for files, label in pairs]


def with_channels(path: Path, items: Iterable[dict[str, Any]], content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Replace images of nnU-Net version 1, listed as case.nii.gz, by the files of the channels, case_0000.nii.gz.

    Args:
        path: `dataset.json`.
        items: the list "training" with full paths.
        content: of the file.

    Example:
        >>> with_channels(Path("dataset.json"), [{"image": "a.png"}], {"modality": {"0": "EM"}})
        [{'image': 'a.png'}]
    """
    return [item | {"image": _channels_of(item.get("image"), _channels_in(content))} for item in items]


def images_of_folder(folder: Path, files: Sequence[Path]) -> list[list[Path]]:
    """List the files of each image of a folder. `dataset.json` beside or above may name channels.

    Raises:
        FileNotFoundError: a channel is missing.

    Example:
        >>> images_of_folder(Path("images"), [Path("a_0000.png"), Path("a_0001.png")])
        [[PosixPath('a_0000.png')], [PosixPath('a_0001.png')]]
    """
    channels = _channels_of_folder(folder)
    numbers = [int(match[2]) for file in files if (match := _CHANNEL.fullmatch(file.name))]
    if channels < 2 or len(numbers) < len(files) or max(numbers) >= channels:  # none of nnU-Net, or a series t_0002.png
        return [[file] for file in files]
    return grouped_channels(files, channels)


def _channels_of_folder(folder: Path) -> int:
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if os.path.isfile(path):
            try:
                return _channels_in(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, AttributeError, TypeError, RecursionError):
                return 0
    return 0


def _channels_in(content: Mapping[str, Any]) -> int:
    """Number of channels in `dataset.json`. 0: not stated; other programs write a text, "modality": "CT"."""
    names = content.get("channel_names") or content.get("modality")
    return len(names) if isinstance(names, (list, Mapping)) else 0


def grouped_channels(files: Iterable[Path], channels: int) -> list[list[Path]]:
    """Group files by case: a_0000.png and a_0001.png are the channels of a. Other names are images of their own.

    Raises:
        FileNotFoundError: a channel is missing.

    Example:
        >>> grouped_channels([Path("a_0000.png"), Path("a_0001.png"), Path("b.png")], channels=2)
        [[PosixPath('a_0000.png'), PosixPath('a_0001.png')], [PosixPath('b.png')]]
    """
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_case(file), []).append(file)
    for case, members in groups.items():
        numbers = [int(match[2]) for file in members if (match := _CHANNEL.fullmatch(file.name))]
        if numbers and numbers != list(range(channels)):
            raise FileNotFoundError(
                f"{members[0].parent}: the image {case} has the channels {numbers}, but dataset.json names {channels}. "
                "Add or remove files"
            )
    return list(groups.values())


def _case(file: Path) -> str:
    match = _CHANNEL.fullmatch(file.name)
    return match[1] if match else file.name


def _as_item(files: list[Path]) -> str | list[str]:
    return str(files[0]) if len(files) == 1 else [str(file) for file in files]


def _joined(folder: Path, names: Any) -> Any:
    """Paths of the names, below the folder of `dataset.json` if they are relative."""
    if isinstance(names, str):
        return os.path.join(folder, names)
    return _as_item([folder / str(name) for name in names])


def _channels_of(image: Any, channels: int) -> Any:
    if not isinstance(image, str) or os.path.exists(image) or not channels:
        return image
    name = Path(image).name
    stem, ending = name.split(".", 1) if "." in name else (name, "")
    files = [Path(image).with_name(f"{stem}_{k:04d}.{ending}") for k in range(channels)]
    return _as_item(files) if all(file.is_file() for file in files) else image
