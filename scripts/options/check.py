"""Check and convert values of settings. Find the setting meant by a wrong name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from ..published import UnknownWeightsError
from .table import SETTINGS

MARKS = ("$", "@", "%")  # of expressions, references and macros: the value is known later


def converted(name: str, value: Any) -> Any:
    """Check the value of a setting.

    Args:
        name: key of `SETTINGS`.
        value: as written in a file or on a command line. Text for a switch or a number is converted.

    Raises:
        ValueError: wrong type or range, or an unknown name of weights. The message names setting, value, range and
            meaning.

    Example:
        >>> converted("resume", "false"), converted("learning_rate", "1e-3")
        (False, 0.001)
    """
    setting = SETTINGS[name]
    try:
        return setting.kind.convert(value)
    except ValidationError as error:
        for cause in (one.get("ctx", {}).get("error") for one in error.errors()):
            if isinstance(cause, UnknownWeightsError):
                raise ValueError(f"{name}: {cause}") from None
        unit = f"; {setting.unit}" if setting.unit else ""
        raise ValueError(f"{name} is {value!r}, expected {setting.kind.expected} ({setting.help}{unit})") from None


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Check several settings. Names without a row in the table, expressions and components are left out.

    Returns:
        the converted values.

    Raises:
        ValueError: wrong values, all in a single message.

    Example:
        >>> checked({"batch_size": 2, "device": "$torch.device('cpu')"})
        {'batch_size': 2}
    """
    good, wrong = {}, []
    for name, value in values.items():
        if name in SETTINGS and not _computed(value):
            try:
                good[name] = converted(name, value)
            except ValueError as error:
                wrong.append(str(error))
    if wrong:
        raise ValueError(". ".join(wrong))
    return good


def similar(name: str, known: Collection[str]) -> list[str]:
    """Find up to three known settings for a wrong name: by other names in use, else by similar spellings.

    Example:
        >>> similar("lr", ["learning_rate", "momentum"])
        ['learning_rate']
    """
    plain = name.lower().replace("-", "_")
    meant = [key for key in known if key in SETTINGS and plain in SETTINGS[key].also]
    return meant or get_close_matches(plain, known, n=3, cutoff=0.7)


def unknown(name: str, workflow: str, keys: Collection[str] = ()) -> str:
    """Write the message for a key that a workflow does not have.

    Args:
        name: the key.
        workflow: as in `Setting.of`.
        keys: other keys of the configuration, such as components.

    Example:
        >>> unknown("lr", "train")
        "unknown key 'lr'; did you mean 'learning_rate'?"
    """
    known = {*keys, *(key for key, setting in SETTINGS.items() if workflow in setting.of)} - {name}
    found, near = f"unknown key '{name}'", similar(name, known)
    if name in SETTINGS:
        found = f"'{name}' is a setting of {' and '.join(SETTINGS[name].of)}, not of {workflow}"
        near = [key for key in near if key in SETTINGS and name in SETTINGS[key].also]
    return found + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")


def _computed(value: Any) -> bool:
    """Whether a value is an expression, a reference or a component, or has such parts."""
    if isinstance(value, str):
        return value.startswith(MARKS)
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_computed, value.values()))
    return isinstance(value, list | tuple) and any(map(_computed, value))
