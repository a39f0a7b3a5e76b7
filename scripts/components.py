"""Read the names of components in configurations as names of this package.

Configurations name `scripts.losses.WeightedCrossEntropyLoss`. In the installed package, the class is
`original_unet.losses.WeightedCrossEntropyLoss`. A package `scripts` of another project is not imported in its place.
"""

from __future__ import annotations

import re
from pydoc import ErrorDuringImport, locate
from typing import Any

WRITTEN = "scripts"  # the package's name in configurations
IMPORT = re.compile(rf"\$\s*(?P<how>from|import)\s+(?P<module>{WRITTEN}(\.\w+)*)\b(?P<rest>.*)", flags=re.DOTALL)


def renamed(config: Any, package: str | None = __package__) -> Any:
    """Rename all components and imports in a configuration, see `own_name`.

    Args:
        config: content of a configuration: dicts, lists and values. The content stays unchanged.
        package: name of the package with the components. Default: the package of this module.

    Returns:
        a copy with new names under `_target_` and in imports (`$import scripts.losses as losses`). In the package
        `scripts`, `config` unchanged.

    Example:
        >>> renamed({"loss": {"_target_": "scripts.losses.WeightedCrossEntropyLoss"}})
        {'loss': {'_target_': 'scripts.losses.WeightedCrossEntropyLoss'}}
    """
    if package == WRITTEN:
        return config
    if isinstance(config, dict):
        return {
            key: own_name(value, package) if key == "_target_" and isinstance(value, str) else renamed(value, package)
            for key, value in config.items()
        }
    if isinstance(config, list):
        return [renamed(value, package) for value in config]
    return _renamed_import(config, package) if isinstance(config, str) else config


def own_name(name: str, package: str | None = __package__) -> str:
    """Rename a component or module of `scripts` to its name in this package.

    Args:
        name: dotted name.
        package: name of the package with the components. Default: the package of this module.

    Returns:
        the new name; unchanged if `name` belongs to another package, or is missing in this package.

    Example:
        >>> own_name("torch.nn.ReLU")
        'torch.nn.ReLU'
    """
    if package == WRITTEN or not f"{name}.".startswith(f"{WRITTEN}."):
        return name
    own = f"{package}{name.removeprefix(WRITTEN)}"
    try:
        return name if locate(own) is None else own
    except ErrorDuringImport:  # building the component reports this error
        return own


def _renamed_import(text: str, package: str | None) -> str:
    """Rename the module in `$import scripts.x as y` or `$from scripts.x import y`; return other text unchanged."""
    match = IMPORT.fullmatch(text)
    if match is None:
        return text
    own = own_name(match["module"], package)
    plain = match["how"] == "import" and not match["rest"].strip() and match["module"] == WRITTEN  # names have no dots
    alias = f" as {WRITTEN}" if plain else ""
    return f"${match['how']} {own}{match['rest']}{alias if own != match['module'] else ''}"
