"""Explain a full disk during a training, with the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = {errno.ENOSPC: "the disk is full", errno.EFBIG: "the file is too large for this disk or account"}
if hasattr(errno, "EDQUOT"):
    FULL[errno.EDQUOT] = "the space of this account is used up"


@contextmanager
def continuing_later(path: Path) -> Iterator[None]:
    """Explain a full disk in the block with the file and the remedy. An earlier file at `path` is expected to be whole.

    Example:
        >>> with continuing_later(Path("model.pt")):
        ...     raise OSError(errno.ENOSPC, "No space left on device", "model.pt")
        Traceback (most recent call last):
        OSError: model.pt cannot be written: the disk is full. ...
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        system = error if isinstance(error, OSError) else error.__context__  # torch.save tells of a wrong length alone
        number = getattr(system, "errno", None)
        if number not in FULL:
            raise
        told = OSError(
            f"{path} cannot be written: {FULL[number]}. Earlier files are whole. Free some space, then continue with "
            "--resume true"
        )
        told.errno = number
        raise told from error
