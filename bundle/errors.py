"""The two ways a command may end badly; `bundle.__main__` turns each into one message and an exit code, no trace."""

from __future__ import annotations


class UsageError(Exception):
    """What was asked for cannot be done as asked: wrong word, key, value or path. Exit code 2."""


class RunError(Exception):
    """What was asked for was tried and failed: a download, a damaged file, a workflow. Exit code 1."""
