"""Compile loops over pixels with numba. Without numba the same functions run as plain Python, slowly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

try:
    import numba
except ImportError:
    numba = None  # type: ignore[assignment]

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function at its first call. Decorator.

    numba keeps the machine code next to the module (`__pycache__`) or in the user's cache folder. Only the first
    process compiles. The function releases the GIL.

    Args:
        function: loops over numbers and numpy arrays, in the part of Python supported by numba. May call compiled
            functions.

    Returns:
        The compiled function. Without numba: the function itself, with a warning at its first call.

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
        return numba.njit(cache=True, nogil=True)(function)  # type: ignore[return-value]
    except RuntimeError:  # no folder is writable for the machine code
        return numba.njit(nogil=True)(function)  # type: ignore[return-value]


def _as_python(function: Function) -> Function:
    """Warn at the first call, then run as plain Python."""
    warned = False

    @wraps(function)
    def slow(*args: Any, **kwargs: Any) -> Any:
        nonlocal warned
        if not warned:
            warned = True
            warnings.warn(
                f"numba is missing: {function.__name__} runs as plain Python, about 100 times slower. "
                "Install it with: pip install numba",
                stacklevel=2,
            )
        return function(*args, **kwargs)

    return slow  # type: ignore[return-value]
