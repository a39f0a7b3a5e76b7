"""Folders, stacks and lists on disk as the lists of {"image", "label"} that MONAI's data sets take.

Layouts that `find_pairs` recognises in a data set folder, in this order:

1. `dataset.json`, or a path that ends in .json: a MONAI / Decathlon list, paths relative to it,
   {"training": [{"image": "a.png", "label": "b.png"}]}. Other keys of an item are kept.
2. `images/` and `labels/` with equal names (endings may differ: `images/07.tif`, `labels/07.png`), or, where no name
   is the same on both sides, with equal numbers in them (`raw/05.tif`, `labels/labels00000005.png`).
3. `*-volume.tif` and `*-labels.tif`: stacks of slices, as the ISBI 2012 challenge gives them (`train-volume.tif`,
   `train-labels.tif`); volumes without labels (`test-volume.tif`) are left aside.
4. a folder `train/` in one of these layouts.

Files of several planes (TIFF stacks, NIfTI, MHA, NRRD, multi-frame DICOM) become one item per plane,
"stack.tif#page=3".
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.data import load_decathlon_datalist

from scripts.data.pairs import SHOWN, check_pairs, some
from scripts.data.splits import save_split, split_datalist
from scripts.io.image_file import ImageFileError
from scripts.io.names import IMAGE_SUFFIXES, PathLike, image_name, image_suffix, plane_address, split_address
from scripts.io.reader import read_header

__all__ = ["check_pairs", "find_images", "find_pairs", "natural_order", "save_split", "split_datalist"]

logger = logging.getLogger(__name__)


def find_images(path: PathLike, tiff_axes: str | None = None) -> list[dict[str, Any]]:
    """List what is to be segmented: a file, one plane of a file, or all images directly in a folder, in natural order.

    A file whose header cannot be read is listed all the same: it then fails alone, when its turn comes.

    Args:
        path: folder, image file or address of a plane.
        tiff_axes: axes of TIFF files where what they say is wrong; see `scripts.io.tiff`.

    Returns:
        items {"image": address}, one per plane.

    Raises:
        FileNotFoundError: nothing there, or a folder without images.
        ValueError: no path given, or two images differ only in their ending, so that their results would have one name.
    """
    file, page = split_address(Path(_given(path)).expanduser())
    if not file.exists():
        raise FileNotFoundError(f"dataset_dir {file} does not exist; set dataset_dir to an image or a folder of images")
    if page is not None:
        return [{"image": plane_address(file, page)}]
    files = [file]
    if file.is_dir():
        files = _images_in(file)
        _refuse_equal_names(files)
    items = []
    for image in files:
        try:
            planes = read_header(image, tiff_axes).planes
        except (ImageFileError, FileNotFoundError) as error:
            logger.warning("%s", error)
            planes = 1
        items += [{"image": address} for address in _addresses(image, planes)]
    return items


def find_pairs(
    dataset_dir: PathLike,
    image_dir: str = "images",
    label_dir: str = "labels",
    tiff_axes: str | None = None,
) -> list[dict[str, Any]]:
    """List images with their labels; the layouts are those of the module's first lines.

    Headers are read, so that a missing, unreadable or misfitting file is reported before anything runs.

    Args:
        dataset_dir: the folder, or a .json list.
        image_dir: name of the folder of images, in `dataset_dir`.
        label_dir: name of the folder of labels, in `dataset_dir`. Its files pair by name with those of `image_dir`; or
            by number, if no name is the same on both sides, each file's numbers are its own on its side, and exactly
            the same numbers are found on the other side. A name of several numbers must agree in all of them.
        tiff_axes: axes of TIFF files where what they say is wrong; see `scripts.io.tiff`.

    Returns:
        items {"image": address, "label": address}, one per plane, in natural order.

    Raises:
        FileNotFoundError: folder, images or labels missing.
        ValueError: no layout recognised, sizes or numbers of planes that differ, names that are not unique.
        ImageFileError: a file cannot be read.
    """
    root = Path(_given(dataset_dir)).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"dataset_dir {root} does not exist; set dataset_dir to the folder of the data set")
    for folder in (root, root / "train"):
        items = _recognise(folder, image_dir, label_dir)
        if items:
            return check_pairs(items, tiff_axes)
    if root.is_file():
        raise ValueError(f"dataset_dir {root} is a file; expected a folder or a list that ends in .json")
    raise FileNotFoundError(
        f"dataset_dir {root} has no known layout; expected {image_dir}/ and {label_dir}/ with equal names "
        "(folders of other names: set datalist#image_dir and datalist#label_dir), a pair "
        "like train-volume.tif and train-labels.tif, or dataset.json"
    )


def _recognise(folder: Path, image_dir: str, label_dir: str) -> list[dict[str, Any]]:
    if folder.suffix.lower() == ".json" and folder.is_file():
        return _from_json(folder)
    if (folder / "dataset.json").is_file():
        return _from_json(folder / "dataset.json")
    if (folder / image_dir).is_dir() and not (folder / label_dir).is_dir():
        raise FileNotFoundError(
            f"{folder} has {image_dir}/ but no {label_dir}/: put a label of equal name there for each image"
        )
    if (folder / image_dir).is_dir():
        return _from_folders(folder / image_dir, folder / label_dir)
    return _from_volumes(folder) if folder.is_dir() else []


def _from_json(path: Path) -> list[dict[str, Any]]:
    try:
        items: list[dict[str, Any]] = load_decathlon_datalist(path, data_list_key="training")
    except (ValueError, TypeError, AttributeError) as error:  # broken JSON, no such key, not a list of objects
        raise ValueError(
            f'{path}: {error}; expected {{"training": [{{"image": "...", "label": "..."}}, ...]}}'
        ) from error
    if not items:
        raise FileNotFoundError(f'{path} lists no images under "training"; add them')
    return items


def _from_folders(images: Path, labels: Path) -> list[dict[str, Any]]:
    files, candidates = _images_in(images), _images_in(labels)
    _refuse_equal_names(files)
    _refuse_equal_names(candidates)
    by_name = {image_name(file): file for file in candidates}
    missing = [file.name for file in files if image_name(file) not in by_name]
    if not missing:
        return [{"image": str(file), "label": str(by_name[image_name(file)])} for file in files]
    partly = len(missing) < len(files)
    reason = "some names are equal, so names decide" if partly else _numbers_disagree(files, candidates)
    if reason:
        raise FileNotFoundError(
            f"{some(missing)} of {len(files)} images in {images} have no label in {labels}: expected a file of equal "
            f"name (the ending may differ); add it or take the image out. Not paired by number: {reason}"
        )
    by_number = {_numbers(file): file for file in candidates}
    pairs = [(file, by_number[_numbers(file)]) for file in files]
    first, its_label = pairs[0]
    logger.info("paired %d images and labels by number, as %s and %s", len(pairs), first, its_label)
    return [{"image": str(file), "label": str(label)} for file, label in pairs]


def _numbers(file: Path) -> tuple[int, ...]:
    """All numbers in a name: `labels00000005.png` -> (5,), `t1_05.tif` -> (1, 5)."""
    return tuple(int(digits) for digits in re.findall("[0-9]+", image_name(file)))


def _numbers_disagree(files: Sequence[Path], candidates: Sequence[Path]) -> str:
    """Why images and labels do not pair by number; empty if they do."""
    for side in (files, candidates):
        seen: dict[tuple[int, ...], Path] = {}
        for file in side:
            if not _numbers(file):
                return f"{file.name} has no number"
            other = seen.setdefault(_numbers(file), file)
            if other != file:
                return f"{other.name} and {file.name} have the same"
    numbers = [set(map(_numbers, side)) for side in (files, candidates)]
    alone = [file.name for file in (*files, *candidates) if _numbers(file) in numbers[0] ^ numbers[1]]
    return f"the other side lacks the numbers of {some(alone)}" if alone else ""


def _from_volumes(folder: Path) -> list[dict[str, Any]]:
    tiffs = {file.name.lower(): file for file in folder.iterdir() if image_suffix(file) in (".tif", ".tiff")}
    volumes = sorted((name for name in tiffs if "-volume.tif" in name), key=natural_order)
    pairs = [(name, re.sub("-volume(?=.tif)", "-labels", name)) for name in volumes]
    if pairs and not any(labels in tiffs for _, labels in pairs):
        raise FileNotFoundError(
            f"{folder} holds {some(volumes)} volumes but none of {some([p[1] for p in pairs])}: add it"
        )
    return [{"image": str(tiffs[v]), "label": str(tiffs[labels])} for v, labels in pairs if labels in tiffs]


def _images_in(folder: Path) -> list[Path]:
    """Image files of a folder in natural order, never none; a link that leads nowhere counts, to be reported."""
    files = [f for f in folder.iterdir() if not f.is_dir() and not f.name.startswith(".") and image_suffix(f)]
    if not files:
        inner = [f"{d.name}/" for d in sorted(folder.iterdir()) if d.is_dir() and any(map(image_suffix, d.iterdir()))]
        remedy = f"there are some in {', '.join(inner[:SHOWN])}: set dataset_dir to that folder"
        raise FileNotFoundError(
            f"no images in {folder}; expected files that end in {', '.join(IMAGE_SUFFIXES)}; "
            f"{remedy if inner else 'put them there, or set dataset_dir to another folder'}"
        )
    return sorted(files, key=lambda file: natural_order(file.name))


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key that puts t2 before t10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]


def _refuse_equal_names(files: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(image_name(file), file)
        if other != file:
            raise ValueError(
                f"{other} and {file.name} differ only in their ending; one name must mean one image: move one away"
            )


def _given(path: PathLike | None) -> PathLike:
    if path is None or not str(path):
        raise ValueError("no folder given; set dataset_dir to the folder of the images")
    return path


def _addresses(file: Path, planes: int) -> list[str]:
    return [str(file)] if planes == 1 else [plane_address(file, page) for page in range(planes)]
