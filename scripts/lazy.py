"""Export a package's names and import the modules later, on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy(package: str, names: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the `__getattr__` and `__dir__` of a package. A module is imported at the first use of a name.

    `help` and completion list the exported names, too.

    Args:
        package: the package's `__name__`.
        names: module of the package -> exported names.

    Example:
        >>> find, names = lazy("scripts.plot", {"overlays": ["class_key", "fill"]})
        >>> find("class_key").__module__, "fill" in names()
        ('scripts.plot.overlays', True)
    """
    modules = {name: module for module, exported in names.items() for name in exported}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    def known() -> list[str]:
        return sorted({*vars(import_module(package)), *modules})

    return find, known
