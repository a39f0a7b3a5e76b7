"""Rules for the configurations: no unused keys, no wrong names, no code in logging.conf, no absolute paths."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.bundle.workflows import _reject_executable_logging_config
from monai.utils import BundlePropertyConfig

from bundle.publishing.rules.basis import STANDALONE, Bundle, Finding
from bundle.running.configuration import COMPONENT_KEYS
from bundle.running.errors import UsageError
from bundle.running.overrides import accepted_arguments, check_overrides, find_component

LOGGING = "configs/logging.conf"
REFERENCE = re.compile(r"@\w+(?:(?:#|::)\w+)*")
IMPORT = re.compile(r"\$\s*(import|from)\s")
ALWAYS_THERE = {"monai", "torch", "np", "numpy"} | set(dir(builtins))  # known to every expression
ABSOLUTE = re.compile(r"/\w|~[/\w]|[A-Za-z]:[\\/]")
PROPERTIES = {
    str(property[BundlePropertyConfig.ID]).replace("::", "#")
    for known in (TrainProperties, InferProperties, MetaProperties)
    for property in known.values()
}
READ_BY_MONAI = {"imports", "+imports", "initialize", "run", "finalize"} | PROPERTIES


def unused_keys(bundle: Bundle) -> Iterator[Finding]:
    """Every key of train.yaml and inference.yaml is referenced, or read by MONAI."""
    for name in STANDALONE:
        config = bundle.workflows[name]
        used = _references(config) | READ_BY_MONAI
        for id in _ids(config):
            if id not in used and not _is_alias(config, id):
                yield Finding(f"key '{id}' is used nowhere", f"configs/{name}", f"remove it, or refer to it as @{id}")


def dangling_references(bundle: Bundle) -> Iterator[Finding]:
    """Every @reference points to an existing key, in the file or in a base file."""
    for name, config in bundle.workflows.items():
        merged = ConfigParser(config if name in STANDALONE else bundle.merged([*bundle.bases(name), name]))
        for id in sorted(_references(config)):
            if id not in merged:
                yield Finding(f"@{id} points to nothing", f"configs/{name}", "define the key, or correct the reference")


def imports(bundle: Bundle) -> Iterator[Finding]:
    """Every import of a configuration is used. Every name in an expression is imported."""
    for name, config in bundle.workflows.items():
        own, used, where = _imported_names(config), _used_names(config), f"configs/{name}"
        for unused in sorted(own - used):
            yield Finding(f"import of '{unused}' is used nowhere", where, "remove it")
        given = set() if name in STANDALONE else _imported_names(bundle.merged(bundle.bases(name)))
        for missing in sorted(used - own - given - ALWAYS_THERE):
            yield Finding(f"'{missing}' is used, but not imported", where, f'add "$import {missing}" to its imports')


def overlays(bundle: Bundle) -> Iterator[Finding]:
    """Every key of an overlay exists in a base file, or is referenced in the overlay."""
    for name in bundle.overlays:
        where, bases, overlay = f"configs/{name}", bundle.bases(name), bundle.workflows[name]
        if not bases:
            missing = "the second line has no command with the base files and then this file"
            yield Finding(missing, where, "write the purpose in line 1 and the command in line 2, as in other overlays")
            continue
        base, used = bundle.merged(bases), _references(overlay) | READ_BY_MONAI
        for key, value in overlay.items():
            if key in used or _is_alias(overlay, key):
                continue
            try:
                check_overrides(base, {key.lstrip("+"): value})
            except UsageError as error:
                yield Finding(str(error), where, f"use a key of {', '.join(bases)}, or refer to the new key in {name}")


def components(bundle: Bundle) -> Iterator[Finding]:
    """Every `_target_` can be imported and accepts the given arguments."""
    for name, config in bundle.workflows.items():
        for id, component in _walk(config):
            target = component.get("_target_") if isinstance(component, Mapping) else None
            if not isinstance(target, str) or target.startswith(("$", "@")):
                continue
            where = f"configs/{name}, {id}"
            if find_component(target) is None:
                known = "write the dotted name of a class or function, or the bare name of a MONAI class"
                yield Finding(f"'{target}' cannot be imported", where, known)
                continue
            accepted = accepted_arguments(target)
            for key in component:
                if accepted is not None and key not in COMPONENT_KEYS and key not in accepted:
                    known = f"it takes {', '.join(sorted(accepted))}"
                    yield Finding(f"{target} takes no argument '{key}'", where, known)


def logging(bundle: Bundle) -> Iterator[Finding]:
    """logging.conf has only classes of `logging`, literals and sys.stdout. MONAI refuses anything else."""
    try:
        _reject_executable_logging_config(str(bundle.root / LOGGING))  # MONAI has no public function for the check
    except ValueError as error:
        yield Finding(str(error), LOGGING, "write literals, sys.stdout or sys.stderr")


def absolute_paths(bundle: Bundle) -> Iterator[Finding]:
    """No configuration contains an absolute path."""
    contents: dict[str, Any] = {**bundle.workflows, "metadata.json": bundle.metadata}
    for name, config in contents.items():
        plain = [(id, text) for id, text in _strings(config) if not text.startswith("$")]
        for id, text in [*plain, *_texts_in_expressions(config)]:
            if ABSOLUTE.match(text):
                remedy = "write a path below @bundle_root, or leave the path to the command line"
                yield Finding(f"'{text}' is an absolute path", f"configs/{name}, {id}", remedy)


def _texts_in_expressions(config: Any) -> Iterator[tuple[str, str]]:
    """Yield the text literals of expressions. The right side of a sum is left out: `@bundle_root + '/data'`."""
    for id, tree in _expressions(config):
        nodes = list(ast.walk(tree))
        right = {node.right for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in right:
                yield id, node.value


def _ids(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the top-level keys. Sections (mappings with components, e.g. train) give their inner keys."""
    for key, value in config.items():
        inner = value if isinstance(value, Mapping) and "_target_" not in value else {}
        if any(isinstance(part, Mapping) and "_target_" in part for part in inner.values()):
            yield from (f"{key}#{name}" for name in inner)
        else:
            yield key


def _is_alias(config: Mapping[str, Any], id: str) -> bool:
    """Whether a key is an alias of `run`, for example training: "@run"."""
    return config.get(id) == "@run"


def _walk(config: Any, id: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the IDs and values of a configuration at all depths, parents first. IDs omit positions in lists."""
    yield id, config
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _walk(value, f"{id}#{key}" if id else str(key))
    elif isinstance(config, list):
        for value in config:
            yield from _walk(value, id)


def _strings(config: Any) -> Iterator[tuple[str, str]]:
    """Yield the ID and text of every string value."""
    return ((id, value) for id, value in _walk(config) if isinstance(value, str))


def _references(config: Any) -> set[str]:
    """Find the IDs of all references, with their parents: @train#loss gives train and train#loss."""
    texts = (text for _, text in _strings(config) if text.startswith(("@", "$")))
    ids = (match[1:].replace("::", "#").split("#") for text in texts for match in REFERENCE.findall(text))
    return {id for parts in ids for id in accumulate(parts, "{}#{}".format)}


def _expressions(config: Any) -> Iterator[tuple[str, ast.AST]]:
    """Yield the ID and syntax tree of every expression except imports. The name `_ref` replaces references."""
    for id, text in _strings(config):
        if text.startswith("$") and not IMPORT.match(text):
            try:
                yield id, ast.parse(REFERENCE.sub("_ref", text[1:].strip()), mode="eval")
            except SyntaxError as error:
                raise ValueError(f"{id}: {text!r} is not a Python expression ({error.msg})") from error


def _imported_names(config: Mapping[str, Any]) -> set[str]:
    """Find the names defined by the imports of a configuration."""
    statements = [text[1:].strip() for key in ("imports", "+imports") for text in config.get(key, [])]
    aliases = (alias for text in statements for node in ast.parse(text).body for alias in getattr(node, "names", []))
    return {(alias.asname or alias.name).split(".")[0] for alias in aliases}


def _used_names(config: Any) -> set[str]:
    """Find the names used, but not defined, in expressions."""
    used = set()
    for _, tree in _expressions(config):
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        used |= {node.id for node in names if isinstance(node.ctx, ast.Load)} - own
    return used - {"_ref"}
