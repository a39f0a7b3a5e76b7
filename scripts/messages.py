"""Show the messages of a run as short lines, without those of libraries that no reader can act upon.

MONAI sets up logging by `configs/logging.conf`, which may name classes of Python alone. `short_messages`, the first
step of every `run`, then takes over the output on the console.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections import deque
from typing import TextIO

from .failures import explain_failures

OURS = str(__package__).partition(".")[0]  # scripts, or original_unet when installed
CONSOLE = "console"  # name of the handler in logging.conf
MUTED = ("ignite", "monai.data.nvimgcodec_pydicom_plugin")  # loggers; errors of ignite are raised, too, and then shown
MUTED_WARNINGS = ("NvImgCodecPydicomReader",)  # MONAI builds all of its readers, one without its decoder
FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
LONG_FORM = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
NOTICE = (
    "MONAI's notice above concerns every configuration: it is a program. Those of this bundle call the components that "
    "they name, and nothing else"
)


def short_messages(verbose: bool = False) -> None:
    """Show messages as short lines on the console, and end a failed run with one message. The first step of a `run`.

    This project's messages are shown from INFO on, those of libraries from WARNING on. Without `logging.conf`, with
    another logging configuration of the user, the messages stay as they are.

    Args:
        verbose: show all messages, also those of ignite and MONAI, with time and source.

    Example:
        >>> import sys, threading
        >>> before = sys.excepthook, threading.excepthook
        >>> short_messages()
        >>> sys.excepthook, threading.excepthook = before
    """
    explain_failures()
    root = logging.getLogger()
    configured = [handler for handler in root.handlers if handler.name == CONSOLE]
    for handler in configured:
        root.removeHandler(handler)
        root.addHandler(ConsoleHandler(verbose))
    if configured:
        drop_earlier_messages()
        root.addHandler(_Earlier())
        warnings.showwarning = _log_warning
        if _started_by_monai() and _first_process():
            logging.getLogger(__name__).info(NOTICE)


class ConsoleHandler(logging.StreamHandler):
    """Write messages on the present `sys.stdout`. A live display on the terminal replaces `sys.stdout` meanwhile.

    Args:
        verbose: all messages, with time and source.

    Example:
        >>> import logging
        >>> handler = ConsoleHandler()
        >>> handler.emit(logging.LogRecord("scripts", logging.WARNING, "", 0, "no objects in %s", ("a.png",), None))
        warning: no objects in a.png
    """

    def __init__(self, verbose: bool = False) -> None:
        logging.Handler.__init__(self, logging.INFO)
        self.name = CONSOLE
        if verbose:
            self.setFormatter(logging.Formatter(LONG_FORM))
        else:
            self.setFormatter(_ShortForm())
            self.addFilter(concerns_readers)

    @property
    def stream(self) -> TextIO:
        """The present standard output."""
        return sys.stdout


class _ShortForm(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


class _Earlier(logging.Handler):
    """Keep the messages before a run starts, for its log file."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: deque[logging.LogRecord] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def earlier_messages() -> list[logging.LogRecord]:
    """List the messages since `short_messages`, until `drop_earlier_messages`.

    Example:
        >>> earlier_messages()
        []
    """
    return [record for handler in _earlier() for record in handler.records]


def drop_earlier_messages() -> None:
    """Keep no more messages.

    Example:
        >>> drop_earlier_messages()
    """
    for handler in _earlier():
        logging.getLogger().removeHandler(handler)


def _earlier() -> list[_Earlier]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, _Earlier)]


def concerns_readers(record: logging.LogRecord) -> bool:
    """Choose messages for the console: of this project, and warnings of libraries except for known noise.

    Of several processes, only the first tells how the run goes.

    Example:
        >>> import logging
        >>> def record(name, level):
        ...     return logging.LogRecord(name, level, "", 0, "text", (), None)
        >>> [concerns_readers(record(name, logging.INFO)) for name in ("scripts.messages", "matplotlib")]
        [True, False]
    """
    if any(f"{record.name}.".startswith(f"{name}.") for name in MUTED):
        return False
    ours = record.name.partition(".")[0] == OURS
    return record.levelno >= logging.WARNING or (ours and _first_process())


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log a warning of Python as a single line, as `warnings.showwarning`. Warnings for developers are details."""
    text = " ".join(str(message).split())
    muted = issubclass(category, FOR_DEVELOPERS) or text.startswith(MUTED_WARNINGS)
    logging.getLogger("py.warnings").log(logging.INFO if muted else logging.WARNING, "%s", text)


def _started_by_monai() -> bool:
    """Whether the program is `python -m monai.bundle`."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name.startswith("monai.bundle")


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"  # of torchrun
