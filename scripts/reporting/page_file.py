"""Tell pages of this project from other files. Loads no torch, so that commands refuse at once."""

from __future__ import annotations

from pathlib import Path

from ..io.names import shown

PAGE = "report.html"  # of a run, in its folder
GENERATOR = "original-unet"
MARK = f'<meta name="generator" content="{GENERATOR}'


class ForeignPageError(ValueError):
    """The file of a page exists, and is of another program."""


def check_page(path: Path) -> None:
    """Refuse to replace a file of another program.

    Args:
        path: the page to write. It need not exist.

    Raises:
        ForeignPageError: the file exists, and no command of this project has written it.

    Example:
        >>> from pathlib import Path
        >>> check_page(Path("new.html"))
    """
    if path.exists() and not (path.is_file() and is_own(path)):  # a pipe would be waited for
        raise ForeignPageError(f"{shown(path)} exists, and is no page of this program. Choose another file: --output")


def is_own(path: Path) -> bool:
    """Check whether this project has written a page.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("notes.html").write_text("<p>notes")
        >>> is_own(Path("notes.html"))
        False
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        return MARK in file.read(2000)
