"""Explain the failure of a workflow in one message: `explain` of the library's module `failures`."""

from __future__ import annotations

from .package import library_module


def explain(error: BaseException) -> str:
    """Name the cause of a failed workflow, the key of the configuration and the remedy; see `scripts.failures`.

    Example:
        >>> explain(ZeroDivisionError("division by zero"))
        'ZeroDivisionError: division by zero'
    """
    return str(library_module("failures").explain(error))


def first_to_fail(error: BaseException | None = None) -> bool:
    """Tell whether this process is the first failed one of several processes; see `scripts.failures`.

    Example:
        >>> first_to_fail()
        True
    """
    return bool(library_module("failures").first_to_fail(error))
