"""Where an item comes from: the file of an image, for messages and for names of results."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any


def source_of(item: Mapping[Any, Any], key: Hashable = "image") -> str:
    """The address an image was loaded from, "" where nothing is known of it."""
    return str(getattr(item.get(key), "meta", {}).get("filename_or_obj", ""))


def file_of(item: Mapping[Any, Any], *keys: Hashable) -> str:
    """How an error names an entry: by the file of the first of `keys` that has one, else by the first key."""
    return next(filter(None, (source_of(item, key) for key in keys)), f"{keys[0]!r} (no file name known)")
