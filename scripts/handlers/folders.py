"""Prepare the folders of a training: reserve them for this process, and keep an earlier training."""

from __future__ import annotations

import logging
import os
import shutil
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..io.files import replacing
from ..io.locks import FolderLock
from ..settings import settings_path
from .interruption import at_error
from .resuming import read_state
from .run_file import RUN
from .state_file import STATE

logger = logging.getLogger(__name__)

OF_MODEL = ("model.pt", "model.json", STATE)
OF_OUTPUT = ("history.csv", "curves.png", "panel.png", "run.log", RUN)
SPLIT = "split.json"
EVENTS = "events.out.tfevents.*"  # TensorBoard


class TrainingFolders:
    """Reserve the folders of a training for this process, and move the files of an earlier training aside.

    `prepare` reserves, before anything is written. As a handler, moves the earlier training aside when the training
    starts, and frees the folders at its end. Building a configuration, or a training that fails before its start (a
    wrong folder, a damaged label), moves nothing.

    Weights, settings, state, history, split and figures of the earlier training get the same number: model.1.pt,
    model.1.json, training_state.1.pt, history.1.csv. TensorBoard's files move to tensorboard.1/, where TensorBoard
    shows them as a run of their own. Nothing is moved if a training is resumed.

    Files that the new training reads (`finetune`, `split_file`) stay in place under a second name, a link or a copy. A
    server for annotations therefore serves the weights of the file until the training has better ones.

    Args:
        model_dir: folder of model.pt and training_state.pt.
        output_dir: folder of history.csv, split.json, figures and TensorBoard's files.
        resume: the training continues: its state is checked instead.
        finetune, split_file: files to start from. None: no such file.

    Example:
        >>> from pathlib import Path
        >>> folders = TrainingFolders("output/cells", "output/cells")
        >>> folders.prepare()
        >>> Path("output/cells/.lock").is_file()
        True
        >>> folders.release()
    """

    def __init__(
        self,
        model_dir: str | Path,
        output_dir: str | Path,
        resume: bool = False,
        finetune: str | Path | None = None,
        split_file: str | Path | None = None,
    ) -> None:
        self.model, self.output = Path(model_dir), Path(output_dir)
        self.resume = resume
        self.kept = _read_later(finetune, split_file)
        self.locks = [FolderLock(folder, "output_dir and model_dir") for folder in (self.model, self.output)]
        self._ready = False
        self._split: bytes | None = None  # of the earlier training; the new one is written before the start
        self._events: list[Path] = []  # of the earlier training
        self._undo: Any = None  # runs at the end of a training that did not start

    def prepare(self) -> None:
        """Reserve the folders, once. Of several processes, only the first acts.

        Raises:
            FolderInUseError: another process has one of the folders.
            FileNotFoundError, ValueError: `resume`, but there is no state, or the file is damaged.
        """
        if self._ready:
            return
        if idist.get_rank() == 0:
            if self.resume:
                read_state(self.model / STATE)
            try:
                for lock in self.locks:
                    lock.acquire()
            except Exception:
                self.release()
                raise
            split = self.output / SPLIT
            earlier = split.read_bytes() if split.is_file() else None
            self._split = None if self.resume else earlier
            self._events = sorted(self.output.glob(EVENTS))
            self._undo = weakref.finalize(self, _give_up, split, earlier, self.locks)
        if idist.get_world_size() > 1:
            idist.barrier()
        self._ready = True

    def attach(self, engine: Engine) -> None:
        """Follow a trainer. Place first."""
        engine.add_event_handler(Events.STARTED, self._start)
        at_error(engine, self.release)

    def release(self, *_: object) -> None:
        """Free the folders."""
        self._ready = False
        for lock in self.locks:
            lock.release()

    def _start(self, engine: Engine) -> None:
        if not self._ready:
            self.prepare()
            self._events = []  # they may be of this training
        if idist.get_rank() == 0 and not self.resume:
            _move_aside(self.model, self.output, self.kept, self._split, self._events)
        if self._undo is not None:
            self._undo.detach()
        if not engine.has_event_handler(self.release, Events.COMPLETED):  # after all other handlers, which may write
            engine.add_event_handler(Events.COMPLETED, self.release)


def _give_up(path: Path, split: bytes | None, locks: list[FolderLock]) -> None:
    """Put back the split as it was before, and free the folders: the new training did not start."""
    with suppress(OSError):
        if split is None:
            path.unlink(missing_ok=True)
        else:
            with replacing(path) as temporary:
                temporary.write_bytes(split)
    for lock in locks:
        lock.release()


def _read_later(finetune: str | Path | None, split_file: str | Path | None) -> set[Path]:
    """List the files that the new training reads."""
    files = [Path(name) for name in (finetune, split_file) if name is not None]
    if finetune is not None:
        files.append(settings_path(finetune))
    return {file.resolve() for file in files}


def _move_aside(model: Path, output: Path, kept: set[Path], split: bytes | None, events: list[Path]) -> None:
    """Rename the files of an earlier training with the first free number. Files of `kept` stay, too.

    Args:
        model, output: folders of the training.
        kept: files that the new training reads.
        split: content of the earlier split.json, which may be replaced already. None: none.
        events: the earlier files of TensorBoard.
    """
    files = [model / name for name in OF_MODEL] + [output / name for name in OF_OUTPUT]
    found = list(dict.fromkeys(file for file in files if os.path.lexists(file)))
    if not found and split is None:  # files of TensorBoard alone overwrite nothing
        return
    number, names = 1, [*files, output / SPLIT]
    while (
        any(os.path.lexists(_numbered(file, number)) for file in names) or (output / f"tensorboard.{number}").exists()
    ):
        number += 1
    for file in found:
        target = _numbered(file, number)
        if file.resolve() in kept:
            _keep(file, target)
        else:
            file.rename(target)
    if split is not None:
        found.append(output / SPLIT)
        with replacing(_numbered(output / SPLIT, number)) as temporary:
            temporary.write_bytes(split)
    if events:
        (output / f"tensorboard.{number}").mkdir()
        for file in events:
            file.rename(output / f"tensorboard.{number}" / file.name)
    shown = ", ".join(_numbered(file, number).name for file in found)
    where = f"{model}" if model == output else f"{model} and {output}"
    logger.info(f"an earlier training in {where} is kept as {shown}. To continue it, set --resume true instead")


def _numbered(file: Path, number: int) -> Path:
    return file.with_name(f"{file.stem}.{number}{file.suffix}")


def _keep(file: Path, target: Path) -> None:
    """Give a file a second name. Training replaces files as a whole, so that the second name keeps the old content."""
    try:
        os.link(file.resolve(), target)
    except OSError:  # a file system without hard links, or another disk
        shutil.copy2(file, target)
