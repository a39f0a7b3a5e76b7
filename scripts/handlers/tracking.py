"""What the experiment trackers are told besides metrics: the settings of a run, its figures, its files.

TensorBoard is written through the one `SummaryWriter` of a configuration. MLflow takes part where MONAI has been
started with `--tracking mlflow`, which attaches an `MLFlowHandler` to each engine: what is said here goes into the run
that this handler has open. Without it MLflow is neither needed nor imported by anything here.

The configuration that a run goes by: found by a handler that stands in it, as text and as a table of settings.

MONAI hands a component its own arguments only. What the configuration as a whole looks like, overlays and command line
included, is known to the parser that builds the component, and to nothing else while TensorBoard alone records.
"""

from __future__ import annotations

import inspect
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import ignite.distributed as idist
import torch
import yaml
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.engines import Evaluator
from monai.handlers import MLFlowHandler
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

PLAIN = (str, int, float, bool, type(None))
SHOWN = (*PLAIN, torch.device, torch.dtype, Path)  # what an expression may come to and still be told in a word
UNTOLD = ("imports", "initialize", "run", "training", "evaluating", "inference", "finalize")  # steps, not settings


def building_parser() -> ConfigParser | None:
    """The parser that is building a component, asked from within that component's `__init__`; None without one."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, ConfigParser):
            return found
        frame = frame.f_back
    return None


def config_text(config: Mapping[str, Any]) -> str:
    """The whole configuration as YAML, without the metadata: it can be run again as it is.

    Args:
        config: what `ConfigParser.get()` gives.
    """
    content = {key: _plain(value) for key, value in config.items() if key != ConfigParser.meta_key}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)


def settings_of(config: Mapping[str, Any], resolved: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The settings of a configuration, one by one.

    Args:
        config: what `ConfigParser.get()` gives.
        resolved: id -> what it came to, ids nested by "::" (`ConfigParser.ref_resolver.resolved_content`).

    Returns:
        name -> value. Names are nested by "."; components in a list go by the name of their class. An expression is
        told by what it came to if that is a number, a word, or a list of these. What only refers to another setting is
        left out.
    """
    table: dict[str, str] = {}
    for key, value in config.items():
        if key != ConfigParser.meta_key and key not in UNTOLD:
            _tell(table, key, key, value, resolved or {})
    return table


def _tell(table: dict[str, str], name: str, id: str, value: Any, resolved: Mapping[str, Any]) -> None:
    """Add what an id holds to the table; `name` is the id with names of classes in place of positions."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            _tell(table, f"{name}.{key}", f"{id}::{key}", part, resolved)
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for k, part in enumerate(value):
            target = part.get("_target_", k) if isinstance(part, Mapping) else k
            _tell(table, _unused(table, f"{name}.{str(target).rpartition('.')[2]}"), f"{id}::{k}", part, resolved)
    elif not (isinstance(value, str) and value.startswith("@")) and not _refers_only(value):
        came_to = resolved.get(id, value)
        table[name] = str(came_to if _is_shown(came_to) else _plain(value))


def _unused(table: Mapping[str, str], name: str) -> str:
    """A name for one of several components of a class: name, name_2, name_3, ..."""
    names = (name if k == 1 else f"{name}_{k}" for k in range(1, len(table) + 2))
    return next(other for other in names if not any(key == other or key.startswith(f"{other}.") for key in table))


def _refers_only(value: Any) -> bool:
    """Whether a list holds nothing but references."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v.startswith("@") for v in value)


def _is_shown(value: Any) -> bool:
    return all(_is_shown(part) for part in value) if isinstance(value, (list, tuple)) else isinstance(value, SHOWN)


def _plain(value: Any) -> Any:
    """What YAML can hold; anything else, set from Python, by its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, PLAIN) else str(value)


PARAMETERS_AT_ONCE = 100  # as many as MLflow takes in one request
ODD = re.compile(r"[^\w.\- ]")  # what MLflow refuses in names; ":" and "/" are for it to use


def mlflow_handler(engine: Engine) -> MLFlowHandler | None:
    """The `MLFlowHandler` attached to an engine, None if there is none."""
    for handler, *_ in engine._event_handlers.get(Events.STARTED, []):  # ignite lists its handlers nowhere else
        owner = getattr(handler, "__self__", None)
        if isinstance(owner, MLFlowHandler):
            return owner
    return None


def open_run(engine: Engine) -> tuple[Any, str] | None:
    """MLflow's client and the id of the run into which an engine is tracked now; None if it is not."""
    handler = mlflow_handler(engine)
    return None if handler is None or handler.cur_run is None else (handler.client, handler.cur_run.info.run_id)


def log_metrics(engine: Engine, metrics: Mapping[str, float | None], step: int) -> None:
    """Tell MLflow numbers, where it follows an engine; None is passed over."""
    tracked = open_run(engine)
    if tracked is not None:
        client, run_id = tracked
        for name, value in metrics.items():
            if value is not None:
                client.log_metric(run_id, name, value, step=step)


def log_picture(engine: Engine, path: Path, step: int) -> None:
    """Give MLflow a figure, where it follows an engine: the file, renewed, and one image a step under its name."""
    tracked = open_run(engine)
    if tracked is not None:
        client, run_id = tracked
        client.log_artifact(run_id, str(path))
        with Image.open(path) as image:
            client.log_image(run_id, image.convert("RGB"), key=path.stem, step=step)


class RunSettings:
    """Write down what a run was started with, all settings as they are after overlays and command line.

    To TensorBoard as two texts, `settings` (a table) and `configuration` (the YAML, which can be run again); to MLflow,
    where it is used, as parameters and as `config.yaml`. There it also gives the run a name of its own, unless one
    was set: MONAI would otherwise go on in any run that is still marked as running, such as that of an interrupted
    training or one that is going on beside this one. A run that ends with an error is marked as failed, one that is
    interrupted stays open to go on in.

    Args:
        title: what the name of a run begins with.
        writer: of TensorBoard's events; None: none.
        evaluator: of a training: the engine that validates, which tracks into the same run.

    Raises:
        RuntimeError: not built by MONAI from a configuration.
    """

    def __init__(self, title: str, writer: SummaryWriter | None = None, evaluator: Evaluator | None = None) -> None:
        parser = building_parser()
        if parser is None:
            raise RuntimeError("RunSettings tells the configuration it stands in: name it in one, under handlers")
        self.parser = parser
        self.title = title
        self.writer = writer
        self.evaluator = evaluator
        self._told = False

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or evaluator; of several processes the first tells."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._name)
            engine.add_event_handler(Events.EPOCH_STARTED, self._tell)  # the run of MLflow is open by then

    def _name(self, engine: Engine) -> None:
        self._told = False
        name = f"{self.title}_{time.strftime('%Y%m%d_%H%M%S')}_{secrets.token_hex(2)}"
        for followed in (engine, self.evaluator):
            handler = None if followed is None else mlflow_handler(followed)
            if handler is not None:
                handler.run_name = handler.run_name or name
        if mlflow_handler(engine) is not None and not engine.has_event_handler(self._fail, Events.EXCEPTION_RAISED):
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)
            handlers = engine._event_handlers[Events.EXCEPTION_RAISED]
            handlers.insert(0, handlers.pop())  # first: those of other handlers end by raising the error

    def _tell(self, engine: Engine) -> None:
        if self._told:
            return
        self._told = True
        text = config_text(self.parser.get())
        settings = settings_of(self.parser.get(), self.parser.ref_resolver.resolved_content)
        if self.writer is not None:
            rows = [f"| {name} | {value.replace('|', '&#124;')} |" for name, value in settings.items()]
            self.writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]), engine.state.epoch)
            indented = "".join(f"    {line}\n" for line in text.splitlines())  # Markdown's block of code
            self.writer.add_text("configuration", indented, engine.state.epoch)
            self.writer.flush()
        tracked = open_run(engine)
        if tracked is not None:
            client, run_id = tracked
            _log_settings(client, run_id, settings)
            client.log_text(run_id, text, "config.yaml")

    def _fail(self, engine: Engine, error: BaseException) -> None:
        tracked = open_run(engine)
        if tracked is not None and not isinstance(error, KeyboardInterrupt):
            client, run_id = tracked
            client.set_terminated(run_id, "FAILED")
        if len(engine._event_handlers[Events.EXCEPTION_RAISED]) == 1:
            raise error  # ignite leaves that to whoever waits for it


class RunFiles:
    """Give MLflow, where it is used, the files that an evaluation has written, and close its run.

    The numbers in `metrics.json`, `object_metrics.json` and `em_metrics.json` become metrics to compare runs by:
    `object_metrics.seg`.

    Args:
        folder: where the files are written.
        patterns: which of them; those that were there before and did not change are left out.
    """

    def __init__(
        self, folder: str | Path, patterns: Sequence[str] = ("*.json", "*.csv", "*.png", "panels/*.png")
    ) -> None:
        self.folder = Path(folder)
        self.patterns = tuple(patterns)
        self._before: dict[Path, int] = {}

    def attach(self, evaluator: Evaluator) -> None:
        """Follow an evaluator; the handlers that write stand before this one in the list."""
        if idist.get_rank() == 0:
            evaluator.add_event_handler(Events.STARTED, self._look)
            evaluator.add_event_handler(Events.COMPLETED, self._log)

    def _look(self, _: Engine) -> None:
        self._before = self._files()

    def _log(self, evaluator: Engine) -> None:
        handler, tracked = mlflow_handler(evaluator), open_run(evaluator)
        if handler is None or tracked is None:
            return
        client, run_id = tracked
        for path, changed in self._files().items():
            if self._before.get(path) != changed:
                place = path.relative_to(self.folder).parent.as_posix()
                client.log_artifact(run_id, str(path), None if place == "." else place)
                if path.name.endswith("metrics.json"):
                    content = json.loads(path.read_text(encoding="utf-8"))
                    log_metrics(evaluator, numbers(content, path.stem), evaluator.state.epoch)
        if not handler.close_on_complete:  # as in a training, whose trainer closes the run
            handler.close()

    def _files(self) -> dict[Path, int]:
        """The files, and when each last changed."""
        paths = [path for pattern in self.patterns for path in sorted(self.folder.glob(pattern))]
        return {path: path.stat().st_mtime_ns for path in paths}


def numbers(content: Mapping[str, Any], name: str) -> dict[str, float]:
    """The numbers in nested dictionaries, with their keys joined by "."; those in lists are left out."""
    found: dict[str, float] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{name}.{key}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[ODD.sub("_", f"{name}.{key}")] = float(value)
    return found


def _log_settings(client: Any, run_id: str, settings: Mapping[str, str]) -> None:
    """Tell settings as parameters; one that the run has already, as when it goes on, stays as it was."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    allowed = {ODD.sub("_", name): value for name, value in settings.items()}
    new = [Param(name, value) for name, value in allowed.items() if name not in known]
    for k in range(0, len(new), PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=new[k : k + PARAMETERS_AT_ONCE])
