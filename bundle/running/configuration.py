"""Read, merge and look up configurations as MONAI does, without MONAI: importing MONAI takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from .errors import UsageError

ROOT = next(folder for folder in Path(__file__).resolve().parents[1:3] if (folder / "configs").is_dir())
KINDS = (".yaml", ".yml", ".json")
COMPONENT_KEYS = {"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"}  # of a component, read by MONAI
MOST = 100_000  # values in a file, with those of repeated aliases
MISSING = object()  # given as default to `look_up`


def split_id(id: str) -> list[str]:
    """Split an id at "#" or "::".

    Example:
        >>> split_id("train#loader::batch_size")
        ['train', 'loader', 'batch_size']
    """
    return id.replace("#", "::").split("::")


def look_up(config: Any, id: str, default: Any = None) -> Any:
    """Return the value of an id, or the default.

    Args:
        config: keys and values, nested.
        id: keys and positions in lists, joined by "#" or "::".
        default: for a missing id.

    Example:
        >>> look_up({"lines": ["a", {"b": 3}]}, "lines#1#b")
        3
    """
    for key in split_id(id):
        if isinstance(config, Mapping) and key in config:
            config = config[key]
        elif isinstance(config, list) and key.isdecimal() and int(key) < len(config):
            config = config[int(key)]
        else:
            return default
    return config


def is_component(value: Any) -> bool:
    """Tell whether MONAI builds an object from a value.

    Example:
        >>> is_component({"_target_": "torch.nn.ReLU"})
        True
    """
    return isinstance(value, Mapping) and "_target_" in value


def merge(config: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change a configuration in place.

    Args:
        config: keys and values, nested.
        changes: id -> new value. "+id" adds to the list or the keys under the id.

    Raises:
        KeyError, IndexError, ValueError: no such section, or nothing to add to. The text names the id.

    Example:
        >>> config = {"a": {"b": 1}, "c": [2]}
        >>> merge(config, {"a#b": 3, "+c": [4]})
        >>> config
        {'a': {'b': 3}, 'c': [2, 4]}
    """
    for id, value in changes.items():
        *above, key = split_id(id.removeprefix("+"))
        section = look_up(config, "#".join(above)) if above else config
        if not isinstance(section, dict | list):
            raise KeyError(f"'{id}', but there is no section '{'#'.join(above)}'")
        place: Any = key if isinstance(section, dict) else int(key)
        if id.startswith("+"):
            old = section.get(key) if isinstance(section, dict) else section[place]
            if isinstance(old, dict) and isinstance(value, dict):
                old.update(value)
            elif isinstance(old, list) and isinstance(value, list):
                old.extend(value)
            else:
                found = "missing" if old is None else f"{old!r:.40}"
                raise ValueError(f"'{id}' adds to a list or to keys, but '{id[1:]}' is {found}")
        else:
            section[place] = value


def read_file(option: str, name: str) -> dict[str, Any]:
    """Read a YAML or JSON file of keys and values.

    Args:
        option: the option with the file, for messages.
        name: the file.

    Raises:
        UsageError: the file is missing, cannot be read, gives a key twice, or refers to itself.

    Example:
        >>> read_file("--config_file", str(ROOT / "configs/demo.yaml"))["max_epochs"]
        200
    """
    check_file(option, name)
    try:
        found = Path(name).stat()
        content = deepcopy(_parsed(name, (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)))
    except (yaml.YAMLError, ValueError, TypeError, OSError) as error:  # wrong syntax or bytes; a list as key
        raise UsageError(f"{option} {name} cannot be read: {_reason(error)}") from error
    except RecursionError as error:
        raise UsageError(f"{option} {name} cannot be read: values are nested too deeply") from error
    if not isinstance(content, dict):
        raise UsageError(f"{option} {name} holds {type(content).__name__}, expected keys and values")
    if wrong := [key for key in content if not isinstance(key, str)]:
        raise UsageError(f"{option} {name}: the key {wrong[0]!r} is no text; put it in quotes, or remove it")
    return content


def merge_files(option: str, files: list[str]) -> dict[str, Any]:
    """Merge config files as MONAI does.

    Args:
        option: the option with the files, for messages.
        files: YAML or JSON files. Later files override earlier files.

    Returns:
        keys and values.

    Raises:
        UsageError: a file is missing, cannot be read, or changes a key missing in its base.

    Example:
        >>> files = [str(ROOT / "configs" / name) for name in ("train.yaml", "demo.yaml")]
        >>> merge_files("--config_file", files)["max_epochs"]
        200
    """
    merged: dict[str, Any] = {}
    for content in [read_file(option, name) for name in files]:
        try:
            merge(merged, content)
        except (ValueError, KeyError, IndexError) as error:
            raise UsageError(f"{option} {', '.join(files)} do not fit together: {error.args[0]}") from error
    return merged


def check_file(option: str, name: Any) -> None:
    """Raise UsageError, with similar names, for a missing file; None and False pass.

    Example:
        >>> check_file("--config_file", None)
    """
    if name is None or name is False or Path(str(name)).is_file():
        return
    path = Path(str(name))
    kinds = (".conf",) if option == "--logging_file" else KINDS
    here = _neighbours(path.parent, kinds) or _neighbours(Path("configs"), kinds)
    if not here and option == "--config_file":
        here = [own.relative_to(ROOT) for own in _neighbours(ROOT / "configs", kinds)]
    near = get_close_matches(path.name, [other.name for other in here], n=2)
    matches = [str(other) for other in here if other.name in near] or [str(other) for other in here[:8]]
    hint = f"; there are {', '.join(matches)}" if matches else f"; {path.parent.resolve()} has none"
    raise UsageError(f"{option} {path} does not exist{hint}")


def _neighbours(folder: Path, kinds: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in kinds)


@lru_cache(maxsize=64)
def _parsed(name: str, version: tuple[int, ...]) -> Any:
    """Parse a version of a file once: a command needs the keys several times."""
    kind, text = Path(name).suffix.lower(), Path(name).read_text(encoding="utf-8")
    if kind not in KINDS:
        raise ValueError(f"the name ends in {kind or 'nothing'}, expected {', '.join(KINDS)}")
    return json.loads(text, object_pairs_hook=_unique) if kind == ".json" else yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    """Refuse keys given twice, values that hold themselves, and aliases that grow to millions of values."""

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return self.construct_document(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        known = set()
        for place, _ in node.value:
            key = self.construct_object(place, deep=True)
            if key in known:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=place.start_mark)
            known.add(key)
        return super().construct_mapping(node, deep)


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Count the values of a node, those of aliases each time. `known`: the count of finished nodes, None within."""
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise yaml.MarkedYAMLError(problem="a value holds itself, by an alias (*)", problem_mark=node.start_mark)
        return count
    known[id(node)] = None
    count = 1 + sum(_count(part, known) for part in _parts(node))
    if count > MOST:
        raise yaml.MarkedYAMLError(problem=f"more than {MOST} values, by aliases (*)", problem_mark=node.start_mark)
    known[id(node)] = count
    return count


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the key {twice[0]!r} is given twice")
    return dict(pairs)


def _reason(error: Exception) -> str:
    """Write the message of a parser in one line, with the number of the line in the file first."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}: {getattr(error, 'problem', None) or getattr(error, 'context', None)}"
