"""Keep all messages of a run in a file beside its results."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..messages import LONG_FORM, drop_earlier_messages, earlier_messages
from .interruption import at_error

NAME = "run.log"


class LogFile:
    """Append all messages of a run to `<folder>/run.log`, with time and source, also those of ignite and MONAI.

    Messages before the start, which `scripts.messages.short_messages` keeps, come first. Only the first of several
    processes writes. On a full disk the file ends earlier than the run.

    Args:
        folder: folder of the results. Place the handler after those that check or reserve the folder. None: no file.

    Example:
        >>> import logging
        >>> from pathlib import Path
        >>> from ignite.engine import Engine
        >>> engine = Engine(lambda *_: logging.getLogger("scripts").warning("a message"))
        >>> LogFile("out").attach(engine)
        >>> _ = engine.run([0])
        >>> "scripts - WARNING - a message" in Path("out/run.log").read_text()
        True
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.path = None if folder is None else Path(folder) / NAME
        self._file: logging.Handler | None = None

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or evaluator."""
        if self.path is not None and idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._begin)
            at_error(engine, self._end)

    def _begin(self, engine: Engine) -> None:
        assert self.path is not None
        self._end()
        if not engine.has_event_handler(self._end, Events.COMPLETED):  # added here: after all other handlers
            engine.add_event_handler(Events.COMPLETED, self._end)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _QuietFile(self.path, encoding="utf-8")
        self._file.setFormatter(logging.Formatter(LONG_FORM))
        command = logging.LogRecord(__name__, logging.INFO, "", 0, "command: %s", (" ".join(sys.argv),), None)
        for record in (command, *earlier_messages()):
            self._file.handle(record)
        drop_earlier_messages()
        logging.getLogger().addHandler(self._file)

    def _end(self, *_: object) -> None:
        if self._file is not None:
            logging.getLogger().removeHandler(self._file)
            self._file.close()
            self._file = None


class _QuietFile(logging.FileHandler):
    """A file whose errors, as on a full disk, do not disturb the run."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the message."""

    def close(self) -> None:
        """Close the file. Messages that do not fit on the disk are lost."""
        with suppress(OSError):
            super().close()
