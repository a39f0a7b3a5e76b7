"""The parts of every rule: `Rule`, `Finding`, `NotChecked`, and `Bundle`, which reads the files to check."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

STANDALONE = ("train.yaml", "inference.yaml")  # MONAI Label and the zoo read one file each


@dataclass(frozen=True)
class Finding:
    """One error in the bundle.

    Attributes:
        what: what was found, and what was expected.
        where: the file, and the place in the file.
        mend: what to do.
    """

    what: str
    where: str
    mend: str


class NotChecked(Exception):  # not an error: the bundle may be right
    """A rule cannot be checked on this machine. The text says why."""


@dataclass(frozen=True)
class Rule:
    """One check.

    Attributes:
        name: printed before the outcome.
        checks: what holds if nothing is found, in one line.
        find: takes a bundle and yields its errors.
    """

    name: str
    checks: str
    find: Callable[[Bundle], Iterator[Finding]]


def rule(name: str) -> Callable[[Callable[[Bundle], Iterator[Finding]]], Rule]:
    """Turn a function into a `Rule`. Decorator.

    Args:
        name: of the rule. The first line of the function's docstring becomes `Rule.checks`.

    Example:
        >>> @rule("readme")
        ... def readme(bundle):
        ...     '''README.md exists.'''
        ...     if not bundle.has("README.md"):
        ...         yield Finding("missing", "README.md", "write one")
        >>> [finding.where for finding in readme.find(Bundle(Path("empty")))]
        ['README.md']
    """

    def named(find: Callable[[Bundle], Iterator[Finding]]) -> Rule:
        return Rule(name, (find.__doc__ or "").splitlines()[0], find)

    return named


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle, read when a rule asks for them.

    Attributes:
        root: folder of the bundle: a checkout or an unpacked zip file.
        schema: local copy of the metadata's schema. None: download the schema that the metadata names.
        zoo: check the model zoo's own limits, too.

    Example:
        >>> from bundle.running.run import ROOT
        >>> Bundle(ROOT).bases("demo.yaml")
        ['train.yaml', 'variant_adam.yaml']
    """

    root: Path
    schema: Path | None = None
    zoo: bool = False

    @property
    def configs(self) -> Path:
        """Folder of the configurations."""
        return self.root / "configs"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of configs/metadata.json."""
        content: dict[str, Any] = json.loads(self.text("configs/metadata.json"))
        return content

    @cached_property
    def workflows(self) -> Mapping[str, dict[str, Any]]:
        """Content of every YAML configuration, by file name, as MONAI reads it."""
        return {path.name: ConfigParser.load_config_file(path) for path in sorted(self.configs.glob("*.yaml"))}

    @property
    def overlays(self) -> list[str]:
        """Names of the configurations that need other files before them."""
        return [name for name in self.workflows if name not in STANDALONE]

    def text(self, name: str) -> str:
        """Text of a file, by its path below `root`."""
        return (self.root / name).read_text(encoding="utf-8")

    def has(self, name: str) -> bool:
        """Whether a file exists. An unpacked bundle lacks the repository's own files, such as pyproject.toml."""
        return (self.root / name).is_file()

    def bases(self, overlay: str) -> list[str]:
        """Names of the files that an overlay changes, in order, from the command in its first two lines."""
        header = "".join(self.text(f"configs/{overlay}").splitlines(keepends=True)[:2])
        named = re.findall(r"configs/([\w.]+\.yaml)", header)
        return named[: named.index(overlay)] if overlay in named else []

    def merged(self, names: list[str]) -> dict[str, Any]:
        """Merge configurations as MONAI does: later files override earlier ones."""
        parser = ConfigParser({})
        for name in names:
            for key, value in deepcopy(self.workflows[name]).items():
                merge_kv(parser, key, value)
        merged: dict[str, Any] = parser.get()
        return merged
