"""Find the weights that a command names: a file, or the name of published weights."""

from __future__ import annotations

from typing import Any

from .errors import UsageError
from .package import library_module


def named_weights(option: str, given: Any) -> str | None:
    """Return the file of published weights under a name. None and paths are returned unchanged.

    Args:
        option: of the command, for messages.
        given: value of the option.

    Raises:
        UsageError: the option has no value, or an unknown name.

    Example:
        >>> named_weights("--weights", "output/cells/model.pt")
        'output/cells/model.pt'
    """
    if given is None:
        return None
    if isinstance(given, bool):
        raise UsageError(f"{option} needs a value")
    try:
        return str(library_module("published").find_weights(str(given)))
    except ValueError as error:
        raise UsageError(f"{option} {error}") from error
