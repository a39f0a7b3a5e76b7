"""Export a package's names without importing its modules at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package, which imports a module at the first use of its names.

    Args:
        package: the package's `__name__`.
        modules: exported name -> module of the package.

    Example:
        >>> find = lazy("scripts.plot", {"class_key": "overlays"})
        >>> find("class_key").__module__
        'scripts.plot.overlays'
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return find
