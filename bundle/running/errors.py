"""Errors that end a command with a message and an exit code, without a trace; checks and hints for the messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class UsageError(Exception):
    """A request cannot be carried out: wrong word, key, value or path. Exit code 2."""


class RunError(Exception):
    """The work failed: a download, a damaged file, a workflow. Exit code 1."""


def check_whole(option: str, value: Any, least: int = 1) -> None:
    """Raise UsageError unless the value of an option is a whole number of at least `least`.

    Example:
        >>> check_whole("epochs", 3)
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"--{option} is {value!r}, expected a whole number of at least {least}")


def did_you_mean(names: Iterable[str]) -> str:
    """Write a hint with similar names, to append to a message; "" without names.

    Example:
        >>> did_you_mean(["train", "training"])
        "; did you mean 'train' or 'training'?"
    """
    near = " or ".join(f"'{name}'" for name in names)
    return f"; did you mean {near}?" if near else ""
