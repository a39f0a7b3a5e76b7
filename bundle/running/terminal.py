"""Print lines and progress bars in a terminal: with rich if installed, else as plain text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO, TypeVar, cast

T = TypeVar("T")


def show(text: str, heading: str = "", error: bool = False) -> None:
    """Print a line, to standard error if `error`. The heading is printed before the text, in bold with rich.

    Example:
        >>> show(" measures the training step", heading="step")
        step measures the training step
    """
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print(heading + text, file=sys.stderr if error else sys.stdout)
        return
    Console(stderr=error, highlight=False, soft_wrap=True).print(Text.assemble((heading, "bold"), text))


def printable(text: str) -> str:
    """Replace control characters and bytes that are no UTF-8 by escapes. Line ends stay.

    File names may hold the escape sequences of a terminal.

    Example:
        >>> printable("cells\\x1b[2J.png") == "cells" + chr(92) + "x1b[2J.png"
        True
    """
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def waiting(text: str) -> AbstractContextManager[Any]:
    """Show a text on standard error while a block runs: in a terminal, by the first process; nothing without rich.

    Example:
        >>> with waiting("loading"):
        ...     import json
    """
    try:
        from rich.console import Console
    except ImportError:
        return nullcontext()
    console = Console(stderr=True)
    shown = console.is_terminal and os.environ.get("RANK", "0") == "0"
    return console.status(text) if shown else nullcontext()


def tracked(items: Sequence[T], description: str) -> Iterable[T]:
    """Show a progress bar on standard error while items are processed; nothing without rich.

    The description is before the bar. The bar disappears at the end.

    Example:
        >>> [n * n for n in tracked(range(3), "squaring")]
        [0, 1, 4]
    """
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        return items
    return track(items, description, console=Console(stderr=True), transient=True)


def tracked_reading(stream: object, length: int, description: str) -> AbstractContextManager[BinaryIO]:
    """Show a progress bar on standard error while a stream is read; nothing without rich.

    Args:
        stream: an open binary file or HTTP answer.
        length: bytes expected.
        description: as in `tracked`.

    Example:
        >>> import io
        >>> with tracked_reading(io.BytesIO(b"abc"), 3, "reading") as stream:
        ...     stream.read()
        b'abc'
    """
    file = cast(BinaryIO, stream)
    try:
        from rich.console import Console
        from rich.progress import wrap_file
    except ImportError:
        return nullcontext(file)
    return wrap_file(file, length, description=description, console=Console(stderr=True), transient=True)
