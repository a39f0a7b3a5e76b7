"""The configuration that a run goes by: found by a handler that stands in it, as text and as a table of settings.

MONAI hands a component its own arguments only. What the configuration as a whole looks like, overlays and command line
included, is known to the parser that builds the component, and to nothing else while TensorBoard alone records.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

PLAIN = (str, int, float, bool, type(None))
SHOWN = (*PLAIN, torch.device, torch.dtype, Path)  # what an expression may come to and still be told in a word
UNTOLD = ("imports", "initialize", "run", "training", "evaluating", "inference", "finalize")  # steps, not settings


def building_parser() -> ConfigParser | None:
    """The parser that is building a component, asked from within that component's `__init__`; None without one."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, ConfigParser):
            return found
        frame = frame.f_back
    return None


def config_text(config: Mapping[str, Any]) -> str:
    """The whole configuration as YAML, without the metadata: it can be run again as it is.

    Args:
        config: what `ConfigParser.get()` gives.
    """
    content = {key: _plain(value) for key, value in config.items() if key != ConfigParser.meta_key}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)


def settings_of(config: Mapping[str, Any], resolved: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The settings of a configuration, one by one.

    Args:
        config: what `ConfigParser.get()` gives.
        resolved: id -> what it came to, ids nested by "::" (`ConfigParser.ref_resolver.resolved_content`).

    Returns:
        name -> value. Names are nested by "."; components in a list go by the name of their class. An expression is
        told by what it came to if that is a number, a word, or a list of these. What only refers to another setting is
        left out.
    """
    table: dict[str, str] = {}
    for key, value in config.items():
        if key != ConfigParser.meta_key and key not in UNTOLD:
            _tell(table, key, key, value, resolved or {})
    return table


def _tell(table: dict[str, str], name: str, id: str, value: Any, resolved: Mapping[str, Any]) -> None:
    """Add what an id holds to the table; `name` is the id with names of classes in place of positions."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            _tell(table, f"{name}.{key}", f"{id}::{key}", part, resolved)
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for k, part in enumerate(value):
            target = part.get("_target_", k) if isinstance(part, Mapping) else k
            _tell(table, _unused(table, f"{name}.{str(target).rpartition('.')[2]}"), f"{id}::{k}", part, resolved)
    elif not (isinstance(value, str) and value.startswith("@")) and not _refers_only(value):
        came_to = resolved.get(id, value)
        table[name] = str(came_to if _is_shown(came_to) else _plain(value))


def _unused(table: Mapping[str, str], name: str) -> str:
    """A name for one of several components of a class: name, name_2, name_3, ..."""
    names = (name if k == 1 else f"{name}_{k}" for k in range(1, len(table) + 2))
    return next(other for other in names if not any(key == other or key.startswith(f"{other}.") for key in table))


def _refers_only(value: Any) -> bool:
    """Whether a list holds nothing but references."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v.startswith("@") for v in value)


def _is_shown(value: Any) -> bool:
    return all(_is_shown(part) for part in value) if isinstance(value, (list, tuple)) else isinstance(value, SHOWN)


def _plain(value: Any) -> Any:
    """What YAML can hold; anything else, set from Python, by its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, PLAIN) else str(value)
