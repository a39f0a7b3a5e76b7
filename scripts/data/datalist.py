"""List images and labels of a folder as items {"image", "label"}, as MONAI's data sets take them.

`find_pairs` recognises four layouts of a data set folder, in the order:

1. `dataset.json`, or a path with the ending .json: a list of MONAI / Decathlon with paths relative to the file,
   {"training": [{"image": "a.png", "label": "b.png"}]}. Other entries of an item are kept. Images under "validation"
   validate. Or `dataset.json` of nnU-Net, version 1 or 2, with `imagesTr/case_0000.png` and `labelsTr/case.png`.
2. `images/` and `labels/` with equal names (endings may differ: `images/07.tif`, `labels/07.png`). If no name is equal,
   files with equal numbers pair (`raw/05.tif`, `labels/labels00000005.png`).
3. `*-volume.tif` and `*-labels.tif`: stacks as in the ISBI 2012 challenge (`train-volume.tif`, `train-labels.tif`).
   Volumes without labels (`test-volume.tif`) are skipped.
4. a folder `train/` with layout 1, 2 or 3.

With a given name of the folder of images or labels, only layout 2 is looked for.

A file with several planes (TIFF stack, NIfTI, MHA, NRRD, multi-frame DICOM) gives an item for each plane:
"stack.tif#page=3".
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.data import load_decathlon_datalist

from ..io.names import COMMON_SUFFIXES, PathLike, image_name, image_suffix, plane_address, shown, split_address
from ..io.reader import read_header
from ..io.record import RECORD
from ..io.results import TABLES
from .items import describe_failure
from .nnunet import images_of_folder, nnunet_pairs, with_channels
from .pairs import SHOWN, check_pairs, existing, some
from .splits import LISTED

logger = logging.getLogger(__name__)

RESULTS = {*TABLES, RECORD, "run.json", "report.html"}  # of a segmentation into the folder of its images


def find_images(path: PathLike, tiff_axes: str | None = None) -> list[dict[str, Any]]:
    """List images for inference: a file, a plane of a file, or all images in a folder, in natural order.

    Damaged files are listed, too. They fail at reading and do not stop the segmentation of the rest. In the folders of
    nnU-Net with several channels, the channels of an image are a list. A warning counts files of other kinds.

    Args:
        path: folder, image file or address of a plane. Subfolders are not searched.
        tiff_axes: axes of TIFF files with wrong axes in the file, see `scripts.io.tiff`.

    Returns:
        Items {"image": address}, one for each plane.

    Raises:
        FileNotFoundError: the path does not exist, or the folder has no images.
        ValueError: no path given, or two images differ only in their ending: the results would have equal names.

    Example:
        >>> from PIL import Image
        >>> for name in ("t10.png", "t2.png"):
        ...     Image.new("L", (7, 5)).save(name)
        >>> [item["image"] for item in find_images(".")]
        ['t2.png', 't10.png']
    """
    file, page = split_address(existing(path, "an image or a folder of images"))
    if page is not None:
        return [{"image": plane_address(file, page)}]
    groups = [[file]]
    if file.is_dir():
        groups = images_of_folder(file, _images_in(file))
    items = []
    for group in groups:
        try:
            planes = read_header(group[0], tiff_axes).planes
        except Exception as error:  # whatever a damaged file raises: the image fails again at reading, alone
            logger.warning("%s", describe_failure(str(group[0]), error))
            planes = 1
        pages = [[plane_address(name, k) for name in group] for k in range(planes)]
        items += [{"image": _single(page)} for page in (pages if planes > 1 else [[str(name) for name in group]])]
    return items


def _single(names: list[str]) -> str | list[str]:
    return names[0] if len(names) == 1 else names


def find_pairs(
    dataset_dir: PathLike, image_dir: str | None = None, label_dir: str | None = None, tiff_axes: str | None = None
) -> list[dict[str, Any]]:
    """List images with their labels, in one of the layouts above. File headers are read and checked.

    Args:
        dataset_dir: the folder, or a .json list.
        image_dir: name of the folder of images in `dataset_dir`. None: "images".
        label_dir: name of the folder of labels in `dataset_dir`. None: "labels". Files pair by name. They pair by
            number only if no name is equal, no two files of a folder have the same numbers, and both folders have the
            same numbers. All numbers of a name must agree.
        tiff_axes: axes of TIFF files with wrong axes in the file, see `scripts.io.tiff`.

    Returns:
        Items {"image": address, "label": address}, one for each plane, in natural order.

    Raises:
        FileNotFoundError: a folder, images or labels are missing.
        ValueError: unknown layout, different sizes or numbers of planes, equal names of two files.
        ImageFileError: a file cannot be read.

    Example:
        >>> find_pairs("data", image_dir="raw")  # doctest: +SKIP
        [{'image': 'data/raw/07.png', 'label': 'data/labels/07.png'}]
    """
    root = existing(dataset_dir, "the folder of the data set")
    for folder in (root, root / "train"):
        items = _recognise(folder, image_dir, label_dir)
        if items:
            return check_pairs(items, tiff_axes)
    image_dir, label_dir = image_dir or "images", label_dir or "labels"
    if root.is_file():
        raise ValueError(f"dataset_dir {root} is a file; expected a folder or a list that ends in .json")
    raise FileNotFoundError(
        f"dataset_dir {root} has no known layout; expected {image_dir}/ and {label_dir}/ with equal names "
        "(folders of other names: set datalist#image_dir and datalist#label_dir), a pair "
        "like train-volume.tif and train-labels.tif, or dataset.json"
    )


def _recognise(folder: Path, image_dir: str | None, label_dir: str | None) -> list[dict[str, Any]]:
    by_name = image_dir is not None or label_dir is not None
    images, labels = folder / (image_dir or "images"), folder / (label_dir or "labels")
    if folder.suffix.lower() == ".json" and folder.is_file():
        return _from_json(folder)
    if not by_name and (folder / "dataset.json").is_file():
        return _from_json(folder / "dataset.json")
    if images.is_dir() and not labels.is_dir():
        raise FileNotFoundError(f"{folder} has {images.name}/ but no {labels.name}/: put labels of equal names there")
    if images.is_dir():
        return _from_folders(images, labels)
    return _from_volumes(folder) if folder.is_dir() and not by_name else []


def _from_json(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        items = nnunet_pairs(path, content)
        if items is None:
            items = with_channels(path, load_decathlon_datalist(path, data_list_key="training"), content)
            validation = _listed_validation(path, content) if items else []
            items += [item | LISTED for item in with_channels(path, validation, content)]
    except FileNotFoundError:
        raise
    except Exception as error:  # broken JSON, missing key, no list of objects, no permission, ...
        raise ValueError(f'{path}: {error}; expected {{"training": [{{"image": "...", "label": "..."}}]}}') from error
    if not items:
        raise FileNotFoundError(f'{path} lists no images under "training"; add them')
    if isinstance(content.get("labels"), dict):
        names = json.dumps(content["labels"])
        logger.info("%s names the classes %s: for more than two, set label_kind classes and class_names", path, names)
    return items


def _listed_validation(path: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    """Items under "validation" of a list. Images without a label cannot validate."""
    listed = content.get("validation") or []
    labelled = [isinstance(item, dict) and bool(item.get("label")) for item in listed]
    if not all(labelled):
        without = labelled.count(False)
        logger.warning(
            '%s: %d of %d images under "validation" have no label: they are left out', path, without, len(listed)
        )
    if not any(labelled):
        return []
    items = load_decathlon_datalist(path, data_list_key="validation")
    return [item for item, yes in zip(items, labelled, strict=True) if yes]


def _from_folders(images: Path, labels: Path) -> list[dict[str, Any]]:
    files, candidates = _images_in(images), _images_in(labels)
    by_name = {image_name(file): file for file in candidates}
    pairs = [(file, by_name[image_name(file)]) for file in files if image_name(file) in by_name]
    reason = "some names are equal, so names decide"
    if not pairs:
        pairs, reason = _by_number(files, candidates)
        if pairs:
            logger.info("paired %d images and labels by number, as %s and %s", len(pairs), *map(shown, pairs[0]))
    if len(pairs) < len(files):
        missing = [file.name for file in files if image_name(file) not in by_name]
        raise FileNotFoundError(
            f"{some(missing)} of {len(files)} images in {images} have no label in {labels}: expected a file of equal "
            f"name (the ending may differ). Add it or take the image out. Not paired by number: {reason}"
        )
    used = {label for _, label in pairs}
    if unused := [file.name for file in candidates if file not in used]:
        logger.warning("%s of %d labels in %s have no image: they are not used", some(unused), len(candidates), labels)
    return [{"image": str(file), "label": str(label)} for file, label in pairs]


def _by_number(files: Sequence[Path], candidates: Sequence[Path]) -> tuple[list[tuple[Path, Path]], str]:
    """Pair files by all numbers in their names, or return no pairs and the reason.

    `t1_05.tif` has the numbers (1, 5), `labels00000005.png` has (5,).
    """
    sides: list[dict[tuple[int, ...], Path]] = [{}, {}]
    for side, listed in zip(sides, (files, candidates), strict=True):
        for file in listed:
            numbers = tuple(int(digits) for digits in re.findall("[0-9]+", image_name(file)))
            if not numbers:
                return [], f"{file.name} has no number"
            if numbers in side:
                return [], f"{side[numbers].name} and {file.name} have the same numbers"
            side[numbers] = file
    alone = [file.name for side in sides for numbers, file in side.items() if not all(numbers in s for s in sides)]
    if alone:
        return [], f"the other folder lacks the numbers of {some(alone)}"
    return [(file, sides[1][numbers]) for numbers, file in sides[0].items()], ""


def _from_volumes(folder: Path) -> list[dict[str, Any]]:
    tiffs = {file.name.lower(): file for file in folder.iterdir() if image_suffix(file) in (".tif", ".tiff")}
    volumes = sorted((name for name in tiffs if "-volume.tif" in name), key=natural_order)
    pairs = [(name, re.sub("-volume(?=.tif)", "-labels", name)) for name in volumes]
    if pairs and not any(labels in tiffs for _, labels in pairs):
        wanted = some([labels for _, labels in pairs])
        raise FileNotFoundError(f"{folder} holds {some(volumes)} volumes but none of {wanted}: add it")
    return [{"image": str(tiffs[v]), "label": str(tiffs[labels])} for v, labels in pairs if labels in tiffs]


def _images_in(folder: Path) -> list[Path]:
    """Image files of a folder in natural order, with broken links.

    Raises errors for a folder without images, and for two images with equal names.
    """
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    files = [entry for entry in entries if not os.path.isdir(entry) and image_suffix(entry)]
    if not files:
        inner = [f"{d.name}/" for d in sorted(entries) if _has_images(d)]
        remedy = f"there are some in {', '.join(inner[:SHOWN])}: set dataset_dir to that folder"
        raise FileNotFoundError(
            f"no images in {folder}; expected files that end in {COMMON_SUFFIXES}; "
            f"{remedy if inner else 'put them there, or set dataset_dir to another folder'}"
        )
    others = Counter(
        entry.suffix.lower() or "without ending"
        for entry in entries
        if not os.path.isdir(entry) and not image_suffix(entry) and entry.name not in RESULTS
    )
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        logger.warning("%s: files of other kinds were passed over: %s", folder, kinds)
    files.sort(key=lambda file: natural_order(file.name))
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(image_name(file), file)
        if other != file:
            raise ValueError(f"{other} and {file.name} differ only in their ending: move one away")
    return files


def _has_images(folder: Path) -> bool:
    try:
        return folder.is_dir() and any(map(image_suffix, folder.iterdir()))
    except OSError:  # no permission
        return False


def natural_order(name: str) -> list[tuple[int, str]]:
    """Key for `sorted`: t2 comes before t10, lower and upper case are equal.

    Example:
        >>> sorted(["t10", "t2"], key=natural_order)
        ['t2', 't10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]
