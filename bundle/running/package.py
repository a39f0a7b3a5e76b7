"""Read components `scripts.X` of configurations as `original_unet.X` in the installed package.

In a checkout nothing changes. There the modules of `running` belong to `bundle`, and import nothing of `scripts`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

HOME = str(__package__).rpartition(".")[0]
INSTALLED = HOME != "bundle"


def own_name(name: str) -> str:
    """Rename a component of `scripts` to its name in the installed package; unchanged in a checkout.

    Example:
        >>> own_name("scripts.losses.WeightedCrossEntropyLoss")
        'scripts.losses.WeightedCrossEntropyLoss'
    """
    return str(components("own_name")(name)) if INSTALLED else name


@functools.cache
def library_module(name: str) -> ModuleType:
    """Load a module of the library without relative imports: from the installed package, else by its file in `scripts`.

    `import scripts` would hide the package `scripts` of another bundle, whose configuration may run in this process.

    Example:
        >>> library_module("failures").__name__.endswith("failures")
        True
    """
    if INSTALLED:
        return import_module(f"{HOME}.{name}")
    spec = spec_from_file_location(f"_library_{name}", Path(__file__).resolve().parents[2] / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def library_package(name: str) -> ModuleType:
    """Import a package or module of the library, for commands that run no configuration.

    Example:
        >>> library_package("reporting").__name__
        'scripts.reporting'
    """
    return import_module(f"{HOME if INSTALLED else 'scripts'}.{name}")


def components(name: str) -> Callable[..., Any]:
    """Get a function of the module `components` of the installed package.

    Args:
        name: of the function.
    """
    return getattr(import_module(f"{HOME}.components"), name)
