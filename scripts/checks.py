"""Check arguments. Shared by several packages."""

from __future__ import annotations

from collections.abc import Collection


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise an error if an argument is not among the choices.

    Args:
        name: name of the argument, for the message.
        value: value of the argument.
        choices: allowed values.

    Raises:
        ValueError: `value` is not among `choices`.

    Example:
        >>> check_choice("padding", "valid", ("valid", "same"))
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
