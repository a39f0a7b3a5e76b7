"""Input and output of the rules: `Bundle` reads the files to check, `Finding` describes an error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

STANDALONE = ("train.yaml", "inference.yaml")  # MONAI Label and the zoo read these files without overlays


@dataclass(frozen=True)
class Finding:
    """One error in the bundle."""

    what: str  # what was found, and what was expected
    where: str  # the file, and the place in the file
    mend: str  # what to do


class NotChecked(Exception):  # not an error: the bundle may be right
    """A rule cannot be checked on the local machine. The text says why."""


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle, read when a rule asks for them.

    Example:
        >>> from bundle.running.run import ROOT
        >>> Bundle(ROOT).bases("demo.yaml")
        ['train.yaml', 'variant_adam.yaml']
    """

    root: Path  # a checkout or an unpacked zip file
    schema: Path | None = None  # local copy of the metadata's schema. None: download from the address in the metadata
    zoo: bool = False  # check the model zoo's own limits, too

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of configs/metadata.json."""
        return json.loads(self.text("configs/metadata.json"))

    @cached_property
    def workflows(self) -> Mapping[str, dict[str, Any]]:
        """Content of every YAML configuration, by file name, as MONAI reads it."""
        return {path.name: ConfigParser.load_config_file(path) for path in sorted(self.root.glob("configs/*.yaml"))}

    @property
    def overlays(self) -> list[str]:
        """Names of the configurations that change other configurations."""
        return [name for name in self.workflows if name not in STANDALONE]

    def text(self, name: str) -> str:
        """Text of a file, by the path relative to `root`."""
        return (self.root / name).read_text(encoding="utf-8")

    def has(self, name: str) -> bool:
        """Whether a file exists. An unpacked bundle lacks some files of the repository, e.g. pyproject.toml."""
        return (self.root / name).is_file()

    def bases(self, overlay: str) -> list[str]:
        """Names of the base files of an overlay, in order, from the command in the overlay's first two lines."""
        header = "".join(self.text(f"configs/{overlay}").splitlines(keepends=True)[:2])
        named = re.findall(r"configs/([\w.]+\.yaml)", header)
        return named[: named.index(overlay)] if overlay in named else []

    def merged(self, names: list[str]) -> dict[str, Any]:
        """Merge configurations as MONAI does: later files override earlier ones."""
        parser = ConfigParser({})
        for name in names:
            if name not in self.workflows:
                raise FileNotFoundError(f"configs/{name} does not exist, but an overlay names it as a base file")
            for key, value in deepcopy(self.workflows[name]).items():
                merge_kv(parser, key, value)
        return parser.get()
