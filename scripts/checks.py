"""Check arguments. Shared by several packages."""

from __future__ import annotations

from collections.abc import Collection


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise ValueError if the value of the argument `name` is not among the choices.

    Example:
        >>> check_choice("padding", "valid", ("valid", "same"))
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
