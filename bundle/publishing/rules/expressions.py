"""Reading configurations without running them: their strings, references and the names in their expressions."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping
from typing import Any

REFERENCE = re.compile(r"@\w+(?:(?:#|::)\w+)*")
IMPORT = re.compile(r"\$\s*(import|from)\s")
ALWAYS_THERE = {"monai", "torch", "np", "numpy"} | set(dir(builtins))  # MONAI evaluates expressions with these


def strings(config: Any, id: str = "") -> Iterator[tuple[str, str]]:
    """Every string value of a configuration, with its id."""
    if isinstance(config, str):
        yield id, config
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from strings(value, f"{id}#{key}" if id else str(key))
    elif isinstance(config, list):
        for value in config:  # without positions: they say nothing to a reader
            yield from strings(value, id)


def references(config: Any) -> set[str]:
    """The ids that a configuration refers to, nested by "#", each with all that lie above it."""
    found = set()
    for _, text in strings(config):
        if text.startswith(("@", "$")):
            for match in REFERENCE.findall(text):
                parts = match[1:].replace("::", "#").split("#")
                found |= {"#".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return found


def expressions(config: Any) -> Iterator[tuple[str, ast.AST]]:
    """Every expression of a configuration that is no import, with its id; a reference reads as the name `_ref`.

    Raises:
        ValueError: one that is no Python.
    """
    for id, text in strings(config):
        if text.startswith("$") and not IMPORT.match(text):
            try:
                yield id, ast.parse(REFERENCE.sub("_ref", text[1:].strip()), mode="eval")
            except SyntaxError as error:
                raise ValueError(f"{id}: {text!r} is no Python expression ({error.msg})") from error


def imported_names(config: Mapping[str, Any]) -> set[str]:
    """The names that a configuration's imports, its own or those it adds, bring."""
    statements = [text[1:].strip() for key in ("imports", "+imports") for text in config.get(key, [])]
    aliases = (alias for text in statements for node in ast.parse(text).body for alias in getattr(node, "names", []))
    return {(alias.asname or alias.name).split(".")[0] for alias in aliases}


def used_names(config: Any) -> set[str]:
    """The names that a configuration's expressions take from outside of themselves."""
    used = set()
    for _, tree in expressions(config):
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        used |= {node.id for node in names if isinstance(node.ctx, ast.Load)} - own
    return used - {"_ref"}
