"""List the public settings with type, default and meaning, for the help of commands and for `docs/settings.md`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from .overrides import MARKS, settings_table
from .package import own_name

WIDTH = 100  # of the help
SAME_PLACE = re.compile(r"^\$@\w+ \+ '/(.+)'$")  # "$@bundle_root + '/models'"


class Row(NamedTuple):
    """A setting in words."""

    group: str
    name: str
    of: tuple[str, ...]
    expected: str
    default: str
    help: str


def rows(configs: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    """List the settings.

    Args:
        configs: name of a workflow (train, evaluate, inference) -> content of its file.

    Example:
        >>> from bundle.running.configuration import ROOT, read_file
        >>> names = ("train", "evaluate", "inference")
        >>> configs = {name: read_file("--config_file", str(ROOT / f"configs/{name}.yaml")) for name in names}
        >>> next(row.expected for row in rows(configs) if row.name == "patience")
        'a whole number of at least 0'
    """
    table = settings_table(next(config for config in configs.values() if "_target_" in config.get("checks", {})))
    if table is None:
        return
    known = import_module(own_name("scripts.model_json")).ModelSettings().model_dump()
    for group, settings in table.GROUPS.items():
        for name, setting in settings.items():
            values = [config[name] for config in configs.values() if name in config]
            default = " / ".join(dict.fromkeys(_shown(value, known.get(name)) for value in values)) or "set by overlays"
            unit = f" ({setting.unit})" if setting.unit else ""
            yield Row(group, name, setting.of, setting.kind.expected + unit, default, setting.help)


def help_text(configs: Mapping[str, Mapping[str, Any]], workflow: str) -> str:
    """Write the keys of a workflow, for the help of a command.

    Args:
        configs: as for `rows`, the files of the workflow.
        workflow: train, evaluate or inference.
    """
    lines, group = ["", "KEYS"], ""
    for row in rows(configs):
        if workflow not in row.of:
            continue
        if row.group != group:
            group = row.group
            lines += ["", f"  {group}"]
        lines.append(f"    --{row.name}: {row.expected}. Default: {row.default}")
        lines += textwrap.wrap(row.help, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)


def _shown(value: Any, of_weights: Any) -> str:
    """Write a default: the value, the file or folder of an expression, or the default of weights without settings."""
    if value is None:
        return "null" if of_weights is None else f"as trained, else {_shown(of_weights, None)}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, Mapping) or (isinstance(value, str) and value.startswith(MARKS)):
        place = SAME_PLACE.match(value) if isinstance(value, str) else None
        return place[1] if place else "computed"
    return f"{value:g}" if isinstance(value, float) else str(value)
