"""Check the changes of a command line to a config before anything is built.

`monai.bundle run` adds an unknown key to the config without a warning, and nothing reads the key: `--max_epoch 3`
trains for all 400 epochs. Here a key must exist or be an argument of its component, and a number stays a number. The
settings of this bundle have types and ranges, too, in the table `scripts.options`.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from pydoc import ErrorDuringImport, locate
from typing import Any

from .configuration import COMPONENT_KEYS, MISSING, is_component, look_up, split_id
from .errors import UsageError, did_you_mean
from .package import own_name

WORDS = {"true": True, "false": False, "null": None, "~": None}  # YAML's words; a command line passes them as text
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")  # YAML 1.1 reads 1e-3, without a point, as text
MARKS = ("$", "@", "%")  # expression, reference, macro: types are known only after resolving

READ_BY_MONAI = ("imports", "initialize", "run", "finalize", "_meta_")
OF_PLANS = "plan"  # facts about a plan, which the command train reads


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse unknown keys and wrong types; read values as YAML does.

    Args:
        config: the merged config, as loaded.
        overrides: id -> value, ids nested by "#" or "::".

    Returns:
        the overrides for MONAI: same ids, values converted. None and "null" become the expression "$None", since MONAI
        drops None without a warning. Text with # becomes an expression, since MONAI turns # into ::, also in paths.

    Raises:
        UsageError: unknown id, or text for a number or a switch. The message names similar ids.

    Example:
        >>> check_overrides({"optimizer": {"lr": 0.1}}, {"optimizer#lr": "1e-3"})
        {'optimizer#lr': 0.001}
    """
    table = settings_table(config)
    checked = {}
    for id, given in overrides.items():
        _check_id(config, id, table)
        value = _as_yaml(given)
        if table is not None and id in table.SETTINGS:
            value = _converted(table, id, value)
        else:
            _check_kind(id, look_up(config, id), value)
        checked[id] = "$None" if value is None else _with_hashes(value)
    return checked


def check_changes(content: Mapping[str, Any], base: Mapping[str, Any], merged: Mapping[str, Any]) -> None:
    """Refuse keys that nothing reads, misspelt arguments and wrong values in a file of changes.

    Args:
        content: keys and values of the file.
        base: the other files of the workflow, merged.
        merged: all files, merged. A new key is known if another key refers to it.

    Raises:
        UsageError: the message names the key and similar keys.

    Example:
        >>> check_changes({"max_epochs": 3}, {"max_epochs": 400}, {"max_epochs": 3})
    """
    table = settings_table(merged)
    referenced = set(re.findall(r"[@%](\w+)", repr(merged)))
    for key, value in content.items():
        id = key.lstrip("+")
        top = split_id(id)[0]
        own = top not in base and (top in referenced or _is_run(value))
        if not own and top not in (*READ_BY_MONAI, OF_PLANS):
            _check_id(base, id, table)
        if table is not None:
            _converted(table, id, value)


def settings_table(config: Mapping[str, Any]) -> Any | None:
    """Find the table of settings that belongs to a config, the module `scripts.options`; None for other bundles.

    Example:
        >>> settings_table({"max_epochs": 3}) is None
        True
    """
    checks = config.get("checks")
    if not isinstance(checks, Mapping) or checks.get("_target_") != "scripts.options.check_config":
        return None
    try:
        return import_module(own_name("scripts.options"))
    except Exception:  # whatever a module of another bundle raises
        return None


def close_ids(id: str, known: Iterable[str]) -> list[str]:
    """Find up to three known ids like `id`, by the whole name, else by the last part.

    Example:
        >>> close_ids("lr", ["train", "optimizer", "optimizer#lr"])
        ['optimizer#lr']
    """
    wanted = "#".join(split_id(id.lstrip("+-")))
    names = [name for name in known if not wanted.startswith(f"{name}#")]  # not the section of the id
    near = get_close_matches(wanted, names, n=3, cutoff=0.7)
    if not near:
        ends = {name: split_id(name)[-1] for name in sorted(names, key=len)}
        close = get_close_matches(split_id(wanted)[-1], sorted(set(ends.values())), n=2, cutoff=0.8)
        near = [name for end in close for name in ends if ends[name] == end]
    return near[:3]


def known_ids(config: Any, prefix: str = "") -> Iterator[str]:
    """List the ids of a config, nested by "#", parents before children; without `_meta_` and positions in lists.

    Example:
        >>> list(known_ids({"_meta_": {}, "train": {"loader": {"batch_size": 1}}}))
        ['train', 'train#loader', 'train#loader#batch_size']
    """
    for key, value in config.items() if isinstance(config, Mapping) else ():
        if prefix or key != "_meta_":
            yield f"{prefix}{key}"
            yield from known_ids(value, f"{prefix}{key}#")


def _check_id(config: Mapping[str, Any], id: str, table: Any | None = None) -> None:
    """Raise UsageError unless the id exists or is an argument of its component. The table knows more names."""
    *above, name = split_id(id)
    exact = all(part and part == part.strip() and part[0] != "-" for part in (*above, name))  # MONAI is less strict
    if exact and look_up(config, id, MISSING) is not MISSING:
        return
    shown, section = "#".join([*above, name]), "#".join(above)
    parent = look_up(config, section, MISSING) if above else config
    if table is not None and not above and name in table.SETTINGS:
        raise UsageError(table.unknown(name, look_up(config, "checks#workflow")))
    near = table.similar(name, [str(key) for key in config]) if table is not None and not above else []
    hint = did_you_mean(near or close_ids(id, known_ids(config)))
    if above and isinstance(parent, str):
        hint = did_you_mean(close_ids(name, known_ids(config)))
        raise UsageError(f"unknown key '{shown}': '{section}' is {parent!r}, which has no keys of its own{hint}")
    if above and is_component(parent):
        accepted = accepted_arguments(parent["_target_"])
        if name in COMPONENT_KEYS or accepted is None or name in accepted:
            return
        hint = did_you_mean(get_close_matches(name, accepted, n=2))
        raise UsageError(f"unknown key '{shown}': {parent['_target_']} takes no argument '{name}'{hint}")
    if not hint and isinstance(parent, Mapping) and parent:
        where = f"'{section}'" if above else "the config"
        hint = f"; {where} has {', '.join(str(key) for key in parent if key != '_meta_')}"
    raise UsageError(f"unknown key '{shown}'{hint}")


def find_component(target: str) -> Any | None:
    """Import the class or function of a component; None if the import fails.

    Args:
        target: value of `_target_`: a dotted name, or the bare name of a MONAI class. Names of `scripts` are found in
            the installed package, if this module belongs to it.

    Example:
        >>> find_component("torch.nn.ReLU")
        <class 'torch.nn.modules.activation.ReLU'>
    """
    target = own_name(target)
    module = None if "." in target else _locator().get_component_module_name(target)
    module = module[0] if isinstance(module, list) else module
    try:
        return locate(f"{module}.{target}" if module else target)
    except ErrorDuringImport:
        return None


@functools.cache
def _locator() -> Any:
    """Keep MONAI's table of its own names, which takes a moment to make."""
    from monai.bundle.config_item import ComponentLocator  # takes seconds, and only bare names need the table

    return ComponentLocator()


def accepted_arguments(target: str) -> set[str] | None:
    """Find the argument names of a component, see `find_component`.

    Returns:
        the names; None if the component accepts any name (**kwargs) or cannot be inspected.

    Example:
        >>> accepted_arguments("torch.nn.ReLU")
        {'inplace'}
    """
    try:
        parameters = inspect.signature(find_component(target)).parameters.values()  # type: ignore[arg-type]  # None: TypeError
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def _as_yaml(value: Any) -> Any:
    """Read text as YAML does, and 1e-3 as a number; return other values unchanged."""
    if isinstance(value, str):
        if value.lower() in WORDS:
            return WORDS[value.lower()]
        if NUMBER.fullmatch(value):
            return float(value)
    return value


def _converted(table: Any, name: str, value: Any) -> Any:
    """Check the value of a public setting by the table, and convert it. Expressions and references pass."""
    try:
        return table.checked({name: value}).get(name, value)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _is_run(value: Any) -> bool:
    """Whether a value is a list of steps to run, or an alias of such a list."""
    return value == "@run" or (isinstance(value, list) and all(str(step).startswith("$") for step in value))


def _with_hashes(value: Any) -> Any:
    """Write plain text with # as an expression without #; return other values unchanged."""
    if not isinstance(value, str) or value.startswith(MARKS) or "#" not in value:
        return value
    escaped = re.sub("[#@]", "%c", value.replace("%", "%%"))
    return f"${escaped!r} % {tuple(ord(mark) for mark in re.findall('[#@]', value))}"


def _check_kind(id: str, old: Any, new: Any) -> None:
    """Raise UsageError for plain text in place of a number, switch or component; expressions and references pass."""
    if not isinstance(new, str) or new.startswith(MARKS):
        return
    if isinstance(old, Mapping):
        parts = ", ".join(f"--{id}#{key}" for key in old if key not in COMPONENT_KEYS)
        hint = f"set a part ({parts})" if parts else "change it in a file (--overlay)"
        raise UsageError(f"{id} is a component ({old.get('_target_', 'keys')}), got {new!r}; {hint}")
    if isinstance(old, bool):
        raise UsageError(f"{id} is a switch (now {old}), got {new!r}; give true or false")
    if isinstance(old, (int, float)):
        raise UsageError(f"{id} is a number (now {old}), got {new!r}; give a number")
