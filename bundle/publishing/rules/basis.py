"""What a rule is, what it finds, and the bundle that it looks at."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

STANDALONE = ("train.yaml", "inference.yaml")  # what MONAI Label and the zoo read, one file each


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        what: what was found, and what was expected.
        where: the file, and the place in it.
        mend: what to do.
    """

    what: str
    where: str
    mend: str


class NotChecked(Exception):  # no error: a rule that cannot tell, and says why
    """Raised by a rule that cannot be checked here; the text says why."""


@dataclass(frozen=True)
class Rule:
    """One check.

    Attributes:
        name: how the list calls it.
        checks: what holds when it finds nothing, in a line.
        find: looks at a bundle and yields what is wrong.
    """

    name: str
    checks: str
    find: Callable[[Bundle], Iterator[Finding]]


def rule(name: str) -> Callable[[Callable[[Bundle], Iterator[Finding]]], Rule]:
    """Make a function a rule of that name; the first line of its docstring says what holds."""

    def named(find: Callable[[Bundle], Iterator[Finding]]) -> Rule:
        return Rule(name, (find.__doc__ or "").splitlines()[0], find)

    return named


@dataclass(frozen=True)
class Bundle:
    """What the rules look at.

    Attributes:
        root: the bundle's folder, a checkout or an unpacked one.
        schema: a local copy of the metadata's schema; None: the address that the metadata names.
        zoo: whether the model zoo's own limits hold, too.
    """

    root: Path
    schema: Path | None = None
    zoo: bool = False

    @property
    def configs(self) -> Path:
        """The folder of the configurations."""
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
        """The configurations that do not stand alone."""
        return [name for name in self.workflows if name not in STANDALONE]

    def text(self, name: str) -> str:
        """A file of the bundle as text."""
        return (self.root / name).read_text(encoding="utf-8")

    def has(self, name: str) -> bool:
        """Whether the bundle has a file of that name: an unpacked one lacks what belongs to the repository."""
        return (self.root / name).is_file()

    def bases(self, overlay: str) -> list[str]:
        """The files that an overlay is laid over, in order: those before it in the command of its second line."""
        header = "".join(self.text(f"configs/{overlay}").splitlines(keepends=True)[:2])
        named = re.findall(r"configs/([\w.]+\.yaml)", header)
        return named[: named.index(overlay)] if overlay in named else []

    def merged(self, names: list[str]) -> dict[str, Any]:
        """Configurations laid over each other, as MONAI does."""
        merged: dict[str, Any] = ConfigParser.load_config_files([str(self.configs / name) for name in names])
        return merged
