"""Which images train and which validate: by a seeded rule or from a file; written down, and read back as it was
written.

The file is JSON: {"training": [names], "validation": [names], "rule": {...}}. A name is the image's path below the
folder that all images share, with its page ("07.png", "train-volume.tif#page=24"); in a file written by hand the
ending may be left out.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from scripts.checks import check_choice
from scripts.data.pairs import some
from scripts.io.files import write_json
from scripts.io.names import PathLike, image_suffix, split_address

logger = logging.getLogger(__name__)

Item = dict[str, Any]
PARTS = ("training", "validation")
RULES = ("random", "last", "block", "all")


def split_datalist(
    items: Sequence[Item],
    val_fraction: float = 0.2,
    how: str = "random",
    seed: int = 0,
    split_file: PathLike | None = None,
    output: PathLike | None = None,
    fold: int = 0,
) -> dict[str, list[Item]]:
    """Part items into those that train and those that validate.

    Args:
        items: what `find_pairs` gives.
        val_fraction: share of items for validation, rounded, at least one item on either side.
        how: "random", drawn with `seed`; "last", the block at the end: right for stacks and sequences, whose neighbours
            resemble each other. "block": the same for cross-validation, the block that `fold` names of as many as
            `val_fraction` gives. "all": every item in both lists, to measure weights on a whole labelled folder.
        seed: of the draw.
        split_file: JSON that lists the names of each part instead, as `output` is written; items it does not name are
            left out. Only if its rule is "all" may a name be in both lists.
        output: where to write the split (several processes may do so at once); None: nowhere.
        fold: of "block": 0 is the first block, 4 the last of five (`val_fraction` 0.2).

    Returns:
        {"training": items, "validation": items}, each in the order of `items`.

    Raises:
        ValueError: fewer than two items ("all", split file: than one), values out of range, or a split file that does
            not fit; the message says how.
        FileNotFoundError: no such split file.
    """
    items = list(items)
    least = 1 if split_file or how == "all" else 2
    if len(items) < least:
        raise ValueError(
            f"{len(items)} image(s) cannot be split into training and validation; expected at least {least} with "
            "labels: add images, or give a stack of several slices"
        )
    if split_file:
        split, is_all = _from_file(items, Path(split_file))
        rule: dict[str, Any] = {"how": "all" if is_all else "file", "split_file": str(split_file)}
    else:
        check_choice("how", how, RULES)
        if not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction must lie between 0 and 1, got {val_fraction}")
        held = min(max(1, round(len(items) * val_fraction)), len(items) - 1)
        # RandomState: numpy guarantees its streams for all time
        order = np.random.RandomState(seed).permutation(len(items)) if how == "random" else np.arange(len(items))
        validation = set(order[-held:].tolist()) if how != "block" else _block(len(items), val_fraction, fold)
        split = {
            "training": [item for k, item in enumerate(items) if k not in validation],
            "validation": [item for k, item in enumerate(items) if k in validation],
        }
        rule = {"how": how, "val_fraction": val_fraction, **({"seed": seed} if how == "random" else {})}
        rule |= {"fold": fold} if how == "block" else {}
        if how == "all":
            split, rule = dict.fromkeys(PARTS, items), {"how": how}
    if output:
        save_split(output, split, items, rule)
    return split


def _block(count: int, val_fraction: float, fold: int) -> set[int]:
    """Positions of one of the contiguous, nearly equal blocks that `count` items fall into."""
    blocks = np.array_split(np.arange(count), min(max(2, round(1 / val_fraction)), count))
    if not 0 <= fold < len(blocks):
        raise ValueError(f"fold must be from 0 to {len(blocks) - 1} (val_fraction {val_fraction}), got {fold}")
    return set(blocks[fold].tolist())


def save_split(
    path: PathLike,
    split: dict[str, list[Item]],
    items: Sequence[Item] | None = None,
    rule: dict[str, Any] | None = None,
) -> None:
    """Write a split so that `split_datalist(items, split_file=path)` gives it again; the file appears whole or not at
    all.

    Args:
        path: the JSON file; folders are made.
        split: {"training": items, "validation": items}.
        items: all items of the data set, by whose shared folder names are shortened; None: those of the split.
        rule: how it came about, kept in the file for the reader.
    """
    everything = [item for part in PARTS for item in split[part]] if items is None else items
    folder = _shared_folder(everything)
    content: dict[str, Any] = {part: [_name(item, folder) for item in split[part]] for part in PARTS}
    write_json(os.fspath(path), {**content, "rule": rule or {}})


def _from_file(items: list[Item], path: Path) -> tuple[dict[str, list[Item]], bool]:
    """The split, and whether the file's rule is "all", so that images may train and validate."""
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
    known: dict[str, int] = {}
    for k, item in enumerate(items):
        name = _name(item, folder)
        known[name] = k
        known.setdefault(_without_ending(name), k)
    strangers = [name for part in PARTS for name in named[part] if name not in known]
    if strangers:
        raise ValueError(
            f"split_file {path} names {some(strangers)} images that the data set does not have; it has names like "
            f"{_name(items[0], folder)!r}: correct the file"
        )
    chosen = {part: {known[name] for name in named[part]} for part in PARTS}
    rule = content.get("rule")
    is_all = isinstance(rule, dict) and rule.get("how") == "all"
    twice = [_name(items[k], folder) for k in sorted(chosen["training"] & chosen["validation"])]
    if twice and not is_all:
        raise ValueError(
            f"split_file {path} names {some(twice)} images for training and validation: keep each in one list"
        )
    empty = [part for part in PARTS if not chosen[part]]
    if empty:
        raise ValueError(
            f"split_file {path} names no images for {' and '.join(empty)}; expected at least one in each list"
        )
    left_out = len(items) - len(chosen["training"] | chosen["validation"])
    if left_out:
        logger.info("split_file %s leaves out %d of %d images", path, left_out, len(items))
    return {part: [items[k] for k in sorted(chosen[part])] for part in PARTS}, is_all


def _image(item: Item) -> str:
    """The image that names an item: the first of several channels."""
    image = item["image"]
    return str(image if isinstance(image, (str, PurePath)) else image[0])


def _shared_folder(items: Sequence[Item]) -> Path:
    return Path(os.path.commonpath([Path(_image(item)).absolute().parent for item in items]))


def _name(item: Item, folder: Path) -> str:
    return Path(_image(item)).absolute().relative_to(folder).as_posix()


def _without_ending(name: str) -> str:
    """`07.png` -> "07", `train-volume.tif#page=3` -> "train-volume#page=3"."""
    path, page = split_address(name)
    suffix = image_suffix(path)
    stem = path.as_posix()[: -len(suffix)] if suffix else path.as_posix()
    return stem if page is None else f"{stem}#page={page}"
