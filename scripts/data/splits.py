"""Split images into training and validation, by a rule or from a file.

The file is JSON: {"training": [names], "validation": [names], "rule": {...}}. A name is the path of the image below the
shared folder of all images, with the page: "07.png", "train-volume.tif#page=24". The ending may be left out.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..checks import check_choice
from ..io.files import write_json
from ..io.names import PathLike, image_suffix, shown, split_address
from .pairs import some

logger = logging.getLogger(__name__)

Item = dict[str, Any]
PARTS = ("training", "validation")
LISTED = {"part": "validation"}  # of items that a datalist names for validation
RULES = ("random", "last", "block", "series", "all")


def split_datalist(
    items: Sequence[Item],
    val_fraction: float = 0.2,
    how: str = "random",
    seed: int = 0,
    split_file: PathLike | None = None,
    output: PathLike | None = None,
    fold: int = 0,
) -> dict[str, list[Item]]:
    """Split items into training and validation.

    Args:
        items: result of `find_pairs`. Items with "part": "validation" validate in place of "random", "last" and
            "block": the data set lists them so.
        val_fraction: share of validation items, above 0, below 1. At least one item goes to each part.
        how: rule of the split.
            "random": drawn with `seed`.
            "last": the last items validate. For stacks and sequences, since neighbours look alike.
            "block": as "last", but block number `fold` validates. For cross-validation.
            "series": whole series validate, drawn with `seed`, see `series_of`. For several stacks, films or patients.
            "all": each item trains and validates, to measure weights on a whole labelled folder.
        seed: seed of "random" and "series".
        split_file: JSON file with the names of both parts, instead of a rule. Items without a name in the file are
            left out. Only a file with the rule "all" may have a name in both lists.
        output: JSON file to write the split to, see `save_split`. None: no file.
        fold: block of "block", from 0. A `val_fraction` of 0.2 gives the blocks 0 to 4.

    Returns:
        {"training": items, "validation": items}, both in the order of `items`.

    Raises:
        ValueError: fewer than two items (one for "all" and split files), arguments out of range, or an unfitting
            split file. The message names the file.
        FileNotFoundError: the split file does not exist.

    Example:
        >>> items = [{"image": f"{k}.png"} for k in range(5)]
        >>> split_datalist(items, how="last")["validation"]
        [{'image': '4.png'}]
    """
    items = list(items)
    least = 1 if split_file or how == "all" else 2
    if len(items) < least:
        raise ValueError(too_few(len(items)))
    if split_file:
        split, rule = _from_file(items, Path(split_file))
    elif how != "all" and any(LISTED.items() <= item.items() for item in items):
        split, rule = _as_listed(items)
    else:
        check_choice("how", how, RULES)
        if not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction must lie between 0 and 1, got {val_fraction}")
        split, rule = _by_rule(items, val_fraction, how, seed, fold)
    if output and not (split_file and os.path.exists(output) and os.path.samefile(split_file, output)):
        save_split(output, split, items, rule)
    return split


def too_few(count: int) -> str:
    """Write the message for fewer images than a training needs.

    Example:
        >>> too_few(1)
        '1 image with a label, a training needs at least 2: one is held out. Add images, or cut an image into several'
    """
    found = f"{count} image with a label" if count == 1 else f"{count} images with labels"
    return f"{found}, a training needs at least 2: one is held out. Add images, or cut an image into several"


def _by_rule(
    items: list[Item], val_fraction: float, how: str, seed: int, fold: int
) -> tuple[dict[str, list[Item]], dict[str, Any]]:
    """The split and its rule, for the file."""
    if how == "all":
        return dict.fromkeys(PARTS, items), {"how": how}
    rule: dict[str, Any] = {"how": how, "val_fraction": val_fraction}
    order: np.ndarray = np.arange(len(items))
    if how == "block":
        blocks = np.array_split(order, min(max(2, round(1 / val_fraction)), len(items)))
        if not 0 <= fold < len(blocks):
            raise ValueError(f"fold must be from 0 to {len(blocks) - 1} (val_fraction {val_fraction}), got {fold}")
        held, rule["fold"] = blocks[fold], fold
    elif how == "series":
        held, rule["seed"] = _whole_series([series_of(item) for item in items], val_fraction, seed), seed
    else:
        if how == "random":
            order = np.random.RandomState(seed).permutation(order)  # numpy keeps this generator's numbers for ever
            rule["seed"] = seed
        held = order[-min(max(1, round(len(items) * val_fraction)), len(items) - 1) :]
    validates = np.isin(np.arange(len(items)), held)
    return {
        "training": [item for item, yes in zip(items, validates, strict=True) if not yes],
        "validation": [item for item, yes in zip(items, validates, strict=True) if yes],
    }, rule


def series_of(item: Item) -> str:
    """Name the series of an image: its stack, or its path without the last number.

    Example:
        >>> series_of({"image": "d/s01_05.png"}), series_of({"image": "d/train-volume.tif#page=3"})
        ('d/s01_*', 'd/train-volume.tif')
    """
    path, page = split_address(_image(item))
    return path.as_posix() if page is not None else re.sub(r"[0-9]+(?=[^0-9/]*$)", "*", without_ending(path.as_posix()))


def _whole_series(names: Sequence[str], val_fraction: float, seed: int) -> np.ndarray:
    """Positions of the images whose series validate: as many series as come nearest to the share of images."""
    series = list(dict.fromkeys(names))
    if len(series) < 2:
        raise ValueError(f"split_rule series needs two series or more, got one: {series[0]}. Take split_rule last")
    drawn = [series[k] for k in np.random.RandomState(seed).permutation(len(series))][:-1]
    counts = np.cumsum([names.count(name) for name in drawn])
    held = set(drawn[: int(np.abs(counts - val_fraction * len(names)).argmin()) + 1])
    return np.array([k for k, name in enumerate(names) if name in held])


def _as_listed(items: list[Item]) -> tuple[dict[str, list[Item]], dict[str, Any]]:
    """The split that the data set lists, and its rule for the file."""
    validates = [item for item in items if LISTED.items() <= item.items()]
    trains = [item for item in items if not LISTED.items() <= item.items()]
    if not trains:
        raise ValueError("the data set lists all images for validation; list some for training")
    logger.info("%d images train and %d validate, as the data set lists them", len(trains), len(validates))
    return {"training": trains, "validation": validates}, {"how": "listed"}


def save_split(
    path: PathLike,
    split: dict[str, list[Item]],
    items: Sequence[Item] | None = None,
    rule: dict[str, Any] | None = None,
) -> None:
    """Write a split that `split_datalist(items, split_file=path)` reads again.

    Args:
        path: the JSON file.
        split: {"training": items, "validation": items}.
        items: all items of the data set. Names start below the shared folder of the images. None: the items of `split`.
        rule: how the split was made, a note for the reader of the file.

    Raises:
        ValueError: the file exists and is no split, for example a list of images.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> save_split("split.json", {"training": [{"image": "d/a.png"}], "validation": [{"image": "d/b.png"}]})
        >>> json.loads(Path("split.json").read_text())["training"]
        ['a.png']
    """
    everything = [item for part in PARTS for item in split[part]] if items is None else items
    if os.path.exists(path) and not _is_split(Path(path)):
        raise ValueError(f"{shown(path)} is no split and would be replaced: set output_dir to another folder")
    folder = _shared_folder(everything)
    content: dict[str, Any] = {part: [_name(item, folder) for item in split[part]] for part in PARTS}
    write_json(os.fspath(path), {**content, "rule": rule or {}})


def _is_split(path: Path) -> bool:
    """Check for a file by `save_split`. An empty file is left by a power cut."""
    try:
        text = path.read_text(encoding="utf-8")
        return not text or all(isinstance(name, str) for part in PARTS for name in json.loads(text)[part])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _from_file(items: list[Item], path: Path) -> tuple[dict[str, list[Item]], dict[str, Any]]:
    """The split of a file, and its rule for the next file."""
    if not path.is_file():
        raise FileNotFoundError(f"split_file {path} does not exist; check the path, or leave it out to split by a rule")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        named = {part: [str(name) for name in content[part]] for part in PARTS}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'split_file {path} is not a split ({error!r}); expected {{"training": [names], "validation": [names]}}'
        ) from error
    folder = _shared_folder(items)
    names = [_name(item, folder) for item in items]
    known = {without_ending(name): k for k, name in reversed([*enumerate(names)])}  # of equal stems the first
    known |= {name: k for k, name in enumerate(names)}
    unknown = [name for part in PARTS for name in named[part] if name not in known]
    if unknown:
        raise ValueError(
            f"split_file {path} names {some(unknown)} images that the data set does not have. The data set has names "
            f"like {names[0]!r}: correct the file"
        )
    chosen = {part: {known[name] for name in named[part]} for part in PARTS}
    rule = content.get("rule")
    is_all = isinstance(rule, dict) and rule.get("how") == "all"
    twice = [names[k] for k in sorted(chosen["training"] & chosen["validation"])]
    if twice and not is_all:
        raise ValueError(f"split_file {path} names {some(twice)} images for both parts: keep each in one list")
    empty = [part for part in PARTS if not chosen[part]]
    if empty:
        raise ValueError(f"split_file {path} names no images for {' and '.join(empty)}; expected one or more in each")
    left_out = len(items) - len(chosen["training"] | chosen["validation"])
    if left_out:
        logger.info("split_file %s leaves out %d of %d images", shown(path), left_out, len(items))
    split = {part: [items[k] for k in sorted(chosen[part])] for part in PARTS}
    if is_all and chosen["training"] == chosen["validation"]:
        split = dict.fromkeys(PARTS, split["training"])
    return split, {"how": "all" if is_all else "file", "split_file": str(path)}


def _image(item: Item) -> str:
    """The image, or the first file of several channels."""
    image = item["image"]
    return str(image if isinstance(image, (str, PurePath)) else image[0])


def _shared_folder(items: Sequence[Item]) -> Path:
    return Path(os.path.commonpath([Path(_image(item)).absolute().parent for item in items]))


def _name(item: Item, folder: Path) -> str:
    return Path(_image(item)).absolute().relative_to(folder).as_posix()


def without_ending(name: str) -> str:
    """`07.png` -> "07", `train-volume.tif#page=3` -> "train-volume#page=3"."""
    path, page = split_address(name)
    stem = path.as_posix()[: len(path.as_posix()) - len(image_suffix(path))]
    return stem if page is None else f"{stem}#page={page}"
