"""Record a run in `run.json` beside its results: command, settings, data, program versions, machine, time.

A report reads the file: the results alone do not say which images they belong to.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from ..io.files import write_json
from ..io.names import PathLike, shown
from ..machine import hardware, versions
from .tracking import building_parser, settings_of

logger = logging.getLogger(__name__)

RUN = "run.json"
FORMAT = 1
SECRET = re.compile(r"tracking_uri|token|password")  # addresses of servers may hold passwords
FILES = ("image", "label", "markers")  # entries of an item


class RunFile:
    """Write `run.json` when the first image or step is done, and again at the end with the time taken.

    | key                                                   | content                                              |
    |-------------------------------------------------------|------------------------------------------------------|
    | `workflow`, `command`                                 | what ran, and the words of the command line          |
    | `folder`                                              | of the file: a moved folder names no images          |
    | `data`, `items`                                       | folder of the data; files of each image, below `data`|
    | `weights`                                             | file of the weights that the run used or wrote       |
    | `settings`                                            | as in `scripts.handlers.tracking.settings_of`        |
    | `versions`, `hardware`                                | as in `scripts.machine`                              |
    | `started`, `seconds`                                  | time (UTC); seconds until the end, null: interrupted |
    | `failures`                                            | a line for each failed image                         |

    A file `run.json` of another program stays, with a warning. A full disk gives a warning, too. Only the first of
    several processes writes.

    Args:
        folder: folder of the results. None: write nothing.
        workflow: "training", "evaluation" or "segmentation".
        data: folder or file of the data set.
        items: items of the data set: the segmented, measured or validating images.
        weights: file of the weights. None: none.

    Example, in a configuration::

        handlers:
        - _target_: scripts.handlers.RunFile
          folder: "@output_dir"
          workflow: segmentation
          data: "@dataset_dir"
          items: "@datalist"
    """

    def __init__(
        self,
        folder: str | Path | None,
        workflow: str,
        data: PathLike,
        items: Sequence[Mapping[str, Any]] = (),
        weights: PathLike | None = None,
    ) -> None:
        self.path = None if folder is None else Path(folder) / RUN
        self.workflow = workflow
        self.data = data
        self.items = items
        self.weights = weights
        self.parser = building_parser()
        self._content: dict[str, Any] = {}
        self._began = 0.0

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or evaluator."""
        if self.path is not None and idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._begin)
            engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, _: Engine) -> None:
        self._content, self._began = {}, time.time()

    def _begin(self, _: Engine) -> None:
        if self._content:
            return
        self._content = self.describe()
        self._write(self._content)

    def _finish(self, engine: Engine) -> None:
        if self._content:
            failures = list(getattr(engine, "failures", []))
            self._content |= {"seconds": round(time.time() - self._began, 1), "failures": failures}
            self._write(self._content)

    def describe(self) -> dict[str, Any]:
        """Collect the content of the file at the start of a run."""
        settings: dict[str, str] = {}
        if self.parser is not None:
            settings = settings_of(self.parser.get(), self.parser.ref_resolver.resolved_content)
        data = os.path.abspath(str(self.data))
        root = data if os.path.isdir(data) else os.path.dirname(data)
        return {
            "format": FORMAT,
            "workflow": self.workflow,
            "command": typed_command(sys.orig_argv),
            "folder": None if self.path is None else os.path.abspath(self.path.parent),
            "data": data,
            "items": [_below(item, root) for item in self.items],
            "weights": None if self.weights is None else os.path.abspath(str(self.weights)),
            "settings": {name: value for name, value in settings.items() if not SECRET.search(name)},
            "versions": versions(),
            "hardware": hardware(),
            "started": datetime.fromtimestamp(self._began or time.time(), timezone.utc).isoformat(timespec="seconds"),
            "seconds": None,
            "failures": [],
        }

    def _write(self, content: Mapping[str, Any]) -> None:
        assert self.path is not None
        if self.path.exists() and not is_run_file(self.path):
            logger.warning("%s is of another program and stays: this run has no record for reports", shown(self.path))
            return
        try:
            write_json(self.path, content)
        except OSError as error:  # the results are worth more than their record
            logger.warning(
                "%s was not written (%s): reports will not know the images", shown(self.path), error.strerror
            )


def typed_command(words: Sequence[str]) -> str:
    """Write a command line as typed, without the folder of the program, and without addresses of servers.

    Args:
        words: program and arguments, as in `sys.orig_argv`.

    Example:
        >>> typed_command(["/usr/bin/python", "-m", "monai.bundle", "run", "my key", "--tracking_uri", "http://a:b@c"])
        "python -m monai.bundle run 'my key' --tracking_uri ..."
    """
    kept, hidden = [], False
    for number, word in enumerate(words):
        name, equals, _ = word.partition("=")
        secret = word.startswith("--") and SECRET.search(name) is not None
        kept.append("..." if hidden else f"{name}=..." if secret and equals else word)
        hidden = secret and not equals
        if number < 2 and not word.startswith("-"):  # python, and the installed program
            kept[-1] = Path(word).name
    if len(kept) > 1 and kept[0].startswith("python") and kept[1] != "-m":  # of the installed program
        kept = kept[1:]
    return " ".join(word if word == "..." else shlex.quote(word) for word in kept)


def is_run_file(path: Path) -> bool:
    """Check for a file of this program.

    Example:
        >>> is_run_file(Path("absent.json"))
        False
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {"format", "workflow", "settings"} <= content.keys()
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _below(item: Mapping[str, Any], root: str) -> dict[str, Any]:
    """List the files of an item, with paths below the folder of the data where possible."""
    return {key: _relative(item[key], root) for key in FILES if item.get(key) is not None}


def _relative(value: Any, root: str) -> Any:
    if isinstance(value, (list, tuple)):
        return [_relative(part, root) for part in value]
    path = os.path.abspath(str(value))
    inside = path.startswith(os.path.join(root, ""))
    return Path(os.path.relpath(path, root)).as_posix() if inside else path
