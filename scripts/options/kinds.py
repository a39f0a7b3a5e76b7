"""Types and ranges of settings, for pydantic and in words for messages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Union

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from ..published import find_weights

NULL_WORDS = ("null", "none", "~")  # a plain `monai.bundle run` passes these words as text


@dataclass(frozen=True)
class Kind:
    """A type of values.

    Args:
        type: annotated type for pydantic.
        expected: the values in words, after "expected ...".

    Example:
        >>> whole(1).convert("3"), switch().convert("no")
        (3, False)
    """

    type: Any
    expected: str

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.type)

    def convert(self, value: Any) -> Any:
        """Convert a value.

        Raises:
            ValueError: wrong type or range.
        """
        return self._adapter.validate_python(value)


def switch() -> Kind:
    """Accept true and false, also yes, no, on, off, 1 and 0."""
    return Kind(bool, "true or false")


def whole(least: int = 0, most: int | None = None) -> Kind:
    """Accept whole numbers in a range."""
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Kind(Annotated[int, Field(ge=least, le=most), BeforeValidator(_no_switch)], f"a whole number {limits}")


def number(
    least: float | None = None, most: float | None = None, above: float | None = None, below: float | None = None
) -> Kind:
    """Accept finite numbers in a range."""
    words = (("of at least", least), ("above", above), ("of at most", most), ("below", below))
    limits = " and ".join(f"{word} {limit:g}" for word, limit in words if limit is not None)
    if least is not None and most is not None:
        limits = f"from {least:g} to {most:g}"
    field = Field(ge=least, le=most, gt=above, lt=below, allow_inf_nan=False)
    return Kind(Annotated[float, field, BeforeValidator(_no_switch)], f"a number {limits}")


def choice(*values: str | int) -> Kind:
    """Accept one of several words or numbers."""
    by_text = {str(value): value for value in values}
    if "off" in values:
        by_text["False"] = "off"  # YAML reads off as false
    known = Annotated[Literal[values], BeforeValidator(lambda value: by_text.get(str(value), value))]  # type: ignore[valid-type]
    words = [str(value) for value in values]
    return Kind(known, f"{', '.join(words[:-1])}{' or ' * (len(words) > 1)}{words[-1]}")


def text(expected: str = "text") -> Kind:
    """Accept text. Numbers become text: a folder may be named 2015."""
    return Kind(Annotated[str, BeforeValidator(_as_text), Field(min_length=1)], expected)


def axes() -> Kind:
    """Accept a letter for each axis of an image, with Y and X."""
    return Kind(
        Annotated[str, BeforeValidator(_as_text), AfterValidator(_with_y_and_x)], "axes such as CYX, with Y and X"
    )


def path(expected: str = "a path") -> Kind:
    """Accept text, and path objects of Python. Path objects stay unchanged."""
    return either(Kind(Annotated[Any, BeforeValidator(_path_object)], ""), text(expected), expected=expected)


def file(expected: str = "an existing file") -> Kind:
    """Accept the path of a file that exists, as `path` does."""
    known = path()
    return Kind(Annotated[known.type, AfterValidator(_existing_file)], expected)


def weights() -> Kind:
    """Accept a file of weights, also as path object, and names of published weights, which become their file."""
    named = path()
    return Kind(
        Annotated[named.type, AfterValidator(_weights_file)], "a file, or the name of published weights such as em"
    )


def names(least: int = 1) -> Kind:
    """Accept a list of different names."""
    kind = Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(_listed),
        Field(min_length=least),
        AfterValidator(_different),
    ]
    return Kind(kind, f"a list of at least {least} different names, such as [background, cell]")


def listed(each: Kind, expected: str, different: bool = False) -> Kind:
    """Accept a list with values of a kind, all different if `different`."""
    kind: Any = Annotated[list[each.type], BeforeValidator(_listed), Field(min_length=1)]  # type: ignore[name-defined]
    return Kind(Annotated[kind, AfterValidator(_different)] if different else kind, expected)


def mapping(keys: Kind, values: Kind, expected: str) -> Kind:
    """Accept keys with values."""
    return Kind(Annotated[dict[keys.type, values.type], Field(min_length=1)], expected)  # type: ignore[name-defined]


def anything(expected: str) -> Kind:
    """Accept any value, for values with checks in their component."""
    return Kind(Any, expected)


def either(*kinds: Kind, expected: str | None = None) -> Kind:
    """Accept values of several kinds. The first fitting kind converts the value."""
    types: Any = Union[tuple(kind.type for kind in kinds)]  # noqa: UP007  # known when called
    return Kind(
        Annotated[types, Field(union_mode="left_to_right")], expected or " or ".join(kind.expected for kind in kinds)
    )


def or_null(kind: Kind) -> Kind:
    """Accept null, too."""
    return Kind(Annotated[Union[kind.type, None], BeforeValidator(_no_null_word)], f"{kind.expected}, or null")  # noqa: UP007


def _no_switch(value: Any) -> Any:
    """Refuse true and false, which Python counts as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a switch")
    return value


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _path_object(value: Any) -> Any:
    if not isinstance(value, os.PathLike):
        raise ValueError("no path")
    return value


def _existing_file(value: Any) -> Any:
    if not os.path.isfile(value):
        raise ValueError("no file")
    return value


def _weights_file(value: Any) -> Any:
    return find_weights(value) if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _with_y_and_x(value: str) -> str:
    letters = set(value.upper())
    if not value.isalpha() or len(letters) < len(value) or not {"Y", "X"} <= letters:
        raise ValueError
    return value


def _different(values: Sequence[str | int]) -> Sequence[str | int]:
    if len(set(values)) < len(values):
        raise ValueError("a value twice")
    return values


def _no_null_word(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() in NULL_WORDS else value
