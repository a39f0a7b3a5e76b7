"""Compile loops over pixels with numba. Without numba the same functions run as plain Python, slowly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

import numpy as np

try:
    import numba
except ImportError:
    numba = None  # type: ignore[assignment]

_warned = False  # a warning in each process is enough

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function at its first call. Decorator.

    numba keeps the machine code next to the module (`__pycache__`) or in the user's cache folder. Only the first
    process compiles. The function releases the GIL.

    Args:
        function: loops over numbers and numpy arrays, in the part of Python supported by numba. May call compiled
            functions.

    Returns:
        The compiled function. Without numba: the function itself, with a warning at the first call.

    Example:
        >>> @compiled
        ... def double(value):
        ...     return 2 * value
        >>> double(21)
        42
    """
    if numba is None:
        return _as_python(function)
    try:
        dispatcher: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder is writable for the machine code
        return numba.njit(nogil=True)(function)  # type: ignore[return-value]
    cache = getattr(dispatcher, "_cache", None)  # missing with NUMBA_DISABLE_JIT=1
    if cache is not None:
        cache.save_overload = _without_disk_errors(cache.save_overload)
    return dispatcher


def _without_disk_errors(save: Callable[..., None]) -> Callable[..., None]:
    """Ignore a full disk or quota: the machine code is used now, and the next process compiles again."""

    def save_if_possible(*args: Any) -> None:
        with suppress(OSError):
            save(*args)

    return save_if_possible


def as_native(array: np.ndarray) -> np.ndarray:
    """Prepare an array for a compiled function: C order and the byte order of the processor. Copies only if needed.

    numba has no other byte order, and compiles again for each order of the axes.

    Example:
        >>> as_native(np.array([1, 2], dtype=">u2")).dtype == np.uint16
        True
    """
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _as_python(function: Function) -> Function:
    """Warn at the first call of any such function, then run as plain Python."""

    @wraps(function)
    def slow(*args: Any, **kwargs: Any) -> Any:
        global _warned
        if not _warned:
            _warned = True
            warnings.warn(
                f"numba is missing: {function.__name__} and all other loops over pixels run as plain Python, about 100 "
                "times slower. Install it with: pip install numba",
                stacklevel=2,
            )
        return function(*args, **kwargs)

    return slow  # type: ignore[return-value]
