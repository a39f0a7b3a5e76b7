"""Check what a command line would change in a config before anything is built.

`monai.bundle run` adds an unknown key to the config without a word, where nothing reads it: `--max_epoch 3` trains for
all 400 epochs. Here a key must exist, or be an argument that its component accepts, and a number stays a number.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle.config_item import ComponentLocator, ConfigComponent
from monai.bundle.reference_resolver import ReferenceResolver

from bundle.errors import UsageError

COMPONENT_KEYS = set(ConfigComponent.non_arg_keys)  # what MONAI itself reads of a component
WORDS = {"true": True, "false": False, "null": None, "~": None}  # YAML's words, which a command line gives as text
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")  # YAML 1.1 takes 1e-3, without a point, for text
MARKS = ("$", "@", "%")  # expression, reference, macro: their type is known only when they are resolved


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what the config does not know; read values as YAML would.

    Args:
        config: the merged config, as loaded.
        overrides: id -> value, ids nested by "#" or "::".

    Returns:
        the overrides to give to MONAI: same ids, values converted. An empty value (None, null) becomes the expression
        "$None", since MONAI drops None without a word.

    Raises:
        UsageError: unknown id, or text for a number or a switch; names the nearest known ids.
    """
    checked = {}
    for id, given in overrides.items():
        _check_id(config, id)
        value = _as_yaml(given)
        _check_kind(id, _lookup(config, _split(id)), value)
        checked[id] = "$None" if value is None else value
    return checked


def nearest(id: str, config: Mapping[str, Any]) -> str:
    """A hint for a misspelt id.

    Args:
        id: what was given.
        config: the merged config.

    Returns:
        "; did you mean 'a' or 'b'?", or "" if nothing is near.
    """
    near = close_ids(id, known_ids(config))
    return "; did you mean " + " or ".join(f"'{name}'" for name in near) + "?" if near else ""


def close_ids(id: str, known: Iterable[str]) -> list[str]:
    """Up to three known ids like `id`: by the whole name, then by their last part (`lr` finds `optimizer#lr`)."""
    wanted = "#".join(_split(id.lstrip("+-")))
    names = [name for name in known if not wanted.startswith(f"{name}#")]  # its own section is no better name for it
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.7)
    if not near:
        last = wanted.rsplit("#", 1)[-1]
        ends = {name: name.rsplit("#", 1)[-1] for name in sorted(names, key=len)}
        close = difflib.get_close_matches(last, sorted(set(ends.values())), n=2, cutoff=0.8)
        near = [name for end in close for name in ends if ends[name] == end]
    return near[:3]


def known_ids(config: Any, prefix: str = "") -> Iterator[str]:
    """All ids of a config, nested by "#", parents before children; `_meta_` and list positions are left out."""
    items = config.items() if isinstance(config, Mapping) else ()
    for key, value in items:
        if not prefix and key == "_meta_":
            continue
        id = f"{prefix}{key}"
        yield id
        yield from known_ids(value, f"{id}#")


def _split(id: str) -> list[str]:
    """Parts of an id, whichever separator was used."""
    parts: list[str] = ReferenceResolver.split_id(id)
    return parts


_MISSING = object()


def _lookup(config: Any, parts: list[str]) -> Any:
    """What the config holds at an id; `_MISSING` if nothing."""
    for part in parts:
        if isinstance(config, Mapping) and part in config:
            config = config[part]
        elif isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        else:
            return _MISSING
    return config


def _check_id(config: Mapping[str, Any], id: str) -> None:
    """Raise UsageError unless the id exists or is an argument that its component accepts."""
    parts = _split(id)
    if _lookup(config, parts) is not _MISSING:
        return
    parent, name = _lookup(config, parts[:-1]), parts[-1]
    shown = "#".join(parts)
    if len(parts) > 1 and isinstance(parent, str):
        raise UsageError(
            f"unknown key '{shown}': '{'#'.join(parts[:-1])}' is {parent!r}, which has no keys of its own"
            f"{nearest(name, config)}"
        )
    if len(parts) > 1 and ConfigComponent.is_instantiable(parent):
        accepted = accepted_arguments(parent["_target_"])
        if name in COMPONENT_KEYS or accepted is None or name in accepted:
            return
        near = difflib.get_close_matches(name, accepted, n=2)
        hint = "; did you mean " + " or ".join(f"'{word}'" for word in near) + "?" if near else ""
        raise UsageError(f"unknown key '{shown}': {parent['_target_']} takes no argument '{name}'{hint}")
    raise UsageError(f"unknown key '{shown}'{nearest(id, config) or _what_there_is(config, parts)}")


def _what_there_is(config: Mapping[str, Any], parts: list[str]) -> str:
    """The keys beside the wrong one, when none is near."""
    parent = _lookup(config, parts[:-1])
    keys = [str(key) for key in parent if key != "_meta_"] if isinstance(parent, Mapping) else []
    where = f"'{'#'.join(parts[:-1])}'" if len(parts) > 1 else "the config"
    return f"; {where} has {', '.join(keys)}" if keys else ""


def find_component(target: str) -> Any | None:
    """The class or function that a component names, None if it cannot be imported.

    Args:
        target: value of `_target_`: a dotted name, or the bare name of a MONAI class.
    """
    module = _locator().get_component_module_name(target)
    module = module[0] if isinstance(module, list) else module
    try:
        return locate(f"{module}.{target}" if module else target)
    except ErrorDuringImport:
        return None


@functools.cache
def _locator() -> ComponentLocator:
    """MONAI's table of its own names, which takes a moment to make."""
    return ComponentLocator()


def accepted_arguments(target: str) -> set[str] | None:
    """Names of the arguments of a component.

    Args:
        target: value of `_target_`: a dotted name, or the bare name of a MONAI class.

    Returns:
        the names; None if anything is accepted (**kwargs) or the component cannot be inspected: then it judges itself.
    """
    try:
        parameters = inspect.signature(find_component(target)).parameters.values()  # type: ignore[arg-type]  # None: TypeError
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def _as_yaml(value: Any) -> Any:
    """Read text as YAML reads it, plus 1e-3, which YAML 1.1 takes for text; other values stay."""
    if isinstance(value, str):
        if value.lower() in WORDS:
            return WORDS[value.lower()]
        if NUMBER.fullmatch(value):
            return float(value)
    return value


def _check_kind(id: str, old: Any, new: Any) -> None:
    """Raise UsageError for plain text where the config has a number or a switch; expressions and references pass."""
    if not isinstance(new, str) or new.startswith(MARKS):
        return
    if isinstance(old, bool):
        raise UsageError(f"{id} is a switch (now {old}), got {new!r}; give true or false")
    if isinstance(old, (int, float)):
        raise UsageError(f"{id} is a number (now {old}), got {new!r}; give a number")
