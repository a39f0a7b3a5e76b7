"""Guard the folder of a run: one process at a time, and no file of the user is replaced."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..data.items import paths_in
from ..io.files import identities, refuse_overwriting
from ..io.locks import FolderLock
from ..io.names import ResultNames, shown, split_address
from .interruption import at_error

logger = logging.getLogger(__name__)

FIGURES = ("curves.png", "panel.png", "threshold_curves.png", "object_iou.png")
TABLES = (
    *("history.csv", "metrics_per_image.csv", "em_metrics_per_slice.csv"),
    *("objects_per_image.csv", "objects_reference.csv"),
)


class GuardFolder:
    """Lock a folder during a run, and refuse to start if figures, tables or panels would replace the run's data.

    Args:
        folder: folder of the files.
        items: images with labels, as from `scripts.data.find_pairs`.
        key: setting that names the folder, for messages.
        panels: `panels/<name>.png` is written for every image.

    Raises:
        ValueError: at the start of the run: a result would replace an image or a label.
        FolderInUseError: at the start of the run: another process writes into the folder.

    Example::

        val_handlers:
        - _target_: scripts.handlers.GuardFolder
          folder: evaluation
          items: "@datalist"
          key: evaluation_dir
    """

    def __init__(
        self,
        folder: str | Path,
        items: Sequence[Mapping[str, Any]] = (),
        key: str = "output_dir",
        panels: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.items = items
        self.key = key
        self.panels = panels
        self._lock = FolderLock(self.folder, key)

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or evaluator. Only the first of several processes guards."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.COMPLETED, self._lock.release)
            at_error(engine, lambda *_: self._lock.release())

    def _start(self, _: Engine) -> None:
        self._lock.acquire()
        sources = dict.fromkeys(split_address(path)[0] for item in self.items for path in paths_in(item.values()))
        results = [self.folder / name for name in (*FIGURES, *TABLES)]
        if self.panels:
            results += self._panels()
        refuse_overwriting(results, identities(sources), f"set {self.key} to another folder")
        earlier = set((self.folder / "panels").glob("*.png")) - set(results) if self.panels else ()
        if earlier:
            logger.warning(
                "%s holds %d panels of other images, of an earlier evaluation. Tables and figures there are replaced",
                *(shown(self.folder / "panels"), len(earlier)),
            )

    def _panels(self) -> list[Path]:
        channels = [list(paths_in([item.get("image")])) for item in self.items]
        images = [paths[0] for paths in channels if paths]
        names, files = ResultNames(images), []
        for image in images:
            with suppress(ValueError):  # two images with one name
                files.append(self.folder / "panels" / f"{names.of(image)}.png")
        return files
