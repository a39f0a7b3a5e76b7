"""Send settings, figures and files of a run to TensorBoard and MLflow.

TensorBoard: through the configuration's single `SummaryWriter`. MLflow: only with `--tracking mlflow`, for which MONAI
attaches an `MLFlowHandler` to each engine. Otherwise MLflow is neither needed nor imported.
"""

from __future__ import annotations

import inspect
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Mapping
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

from ..io.files import sha256_of
from .interruption import at_error

PLAIN = (str, int, float, bool, type(None))
SHOWN = (*PLAIN, torch.device, torch.dtype, Path)  # values short enough for a table
NO_SETTINGS = (ConfigParser.meta_key, "imports", "initialize", "run", "training", "evaluating", "inference", "finalize")
NOT_IN_RESULTS = (  # settings without effect on the results
    r"(bundle_root|dataset_dir|output_dir|run_file|device|memory_limit|tile_size|tile_progress|ckpt_path|backend|skip_finished|"
    r"save_\w+|overlay_labels|verbose|served_instances|displayable_configs|datalist|dataset|dataloader|saver|handlers|evaluator|network|"
    r"exported|settings|key_metric|checks|signals|tracking_uri|experiment_name|run_name|is_not_rank0|\w*execute_config)(\.|$)"
)
PARAMETERS_AT_ONCE = 100  # MLflow's limit for one request
NOT_ALLOWED = re.compile(r"[^\w.\- ]")  # in MLflow's names
PATTERNS = ("*.json", "*.csv", "*.png", "panels/*.png")  # files of an evaluation


def building_parser() -> ConfigParser | None:
    """Find the parser that builds a component, from the component's `__init__`. None: built without a configuration.

    Only the parser knows the whole configuration, with overlays and command line.
    """
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, ConfigParser):
            return found
        frame = frame.f_back
    return None


def config_text(config: Mapping[str, Any]) -> str:
    """Write a configuration as YAML, without metadata. The YAML can be run again.

    Args:
        config: result of `ConfigParser.get()`.

    Example:
        >>> config_text({"rate": 0.1, "net": {"_target_": "Linear"}}).splitlines()
        ['rate: 0.1', 'net:', '  _target_: Linear']
    """
    content = {key: _plain(value) for key, value in config.items() if key != ConfigParser.meta_key}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)


def settings_of(config: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, str]:
    """List the settings of a configuration. References to settings are left out.

    Args:
        config: result of `ConfigParser.get()`.
        resolved: id -> value, with "::" in nested ids (`ConfigParser.ref_resolver.resolved_content`). Replaces
            expressions whose value is a number, a word, or a list of numbers and words. "settings", if present, has the
            values of keys that are null.

    Returns:
        name -> value as text. Nested names are joined by ".". Components in a list have the name of their class.

    Example:
        >>> settings_of({"rate": 0.1, "nets": [{"_target_": "Linear", "size": "$1 + 1"}]}, {"nets::0::size": 2})
        {'rate': '0.1', 'nets.Linear._target_': 'Linear', 'nets.Linear.size': '2'}
    """
    table: dict[str, str] = {}
    used = resolved.get("settings")
    for key, value in config.items():
        if value is None and hasattr(used, key):
            table[key] = str(getattr(used, key))
        elif key not in NO_SETTINGS:
            _add_settings(table, key, key, value, resolved)
    return table


def result_settings(settings: Any, weights: str | Path | None = None) -> dict[str, str]:
    """List what decides the results of the configuration that is being built, for `SegmentationSaver`.

    Folders, device, memory and kinds of results are left out.

    Args:
        settings: of the weights, with the given ones: values of keys that are null.
        weights: the file of weights, or the exported network. Its checksum is listed.

    Returns:
        name -> value as text.

    Example:
        >>> result_settings(None)
        {}
    """
    parser = building_parser()
    table = {} if parser is None else settings_of(parser.get(), {"settings": settings})
    chosen = {name: value for name, value in table.items() if not re.match(NOT_IN_RESULTS, name)}
    if weights is not None and Path(weights).is_file():
        chosen["weights"] = f"sha256 {sha256_of(weights)[:16]}"
    return chosen


def _add_settings(table: dict[str, str], name: str, id: str, value: Any, resolved: Mapping[str, Any]) -> None:
    """Add the settings below an id. `name` is the id with class names instead of list positions."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            _add_settings(table, f"{name}.{key}", f"{id}::{key}", part, resolved)
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        seen: Counter[str] = Counter()
        for k, part in enumerate(value):
            target = part.get("_target_", k) if isinstance(part, Mapping) else k
            kind = str(target).rpartition(".")[2]
            seen[kind] += 1
            number = f"_{seen[kind]}" if seen[kind] > 1 else ""
            _add_settings(table, f"{name}.{kind}{number}", f"{id}::{k}", part, resolved)
    elif not _refers(value):
        result = resolved.get(id, value)
        table[name] = str(result if _is_shown(result) else _plain(value))


def _refers(value: Any) -> bool:
    """Check for a reference, or a list of nothing but references."""
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(isinstance(part, str) and part.startswith("@") for part in parts)


def _is_shown(value: Any) -> bool:
    return all(_is_shown(part) for part in value) if isinstance(value, (list, tuple)) else isinstance(value, SHOWN)


def _plain(value: Any) -> Any:
    """Convert to plain values for YAML: Python objects to their text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, PLAIN) else str(value)


def mlflow_handler(engine: Engine) -> MLFlowHandler | None:
    """Find the `MLFlowHandler` of an engine. None: not attached."""
    for handler, *_ in engine._event_handlers.get(Events.STARTED, []):  # ignite has no public list of handlers
        owner = getattr(handler, "__self__", None)
        if isinstance(owner, MLFlowHandler):
            return owner
    return None


def open_run(engine: Engine) -> tuple[Any, str] | None:
    """Get MLflow's client and the id of an engine's open run. None: no open run."""
    handler = mlflow_handler(engine)
    return None if handler is None or handler.cur_run is None else (handler.client, handler.cur_run.info.run_id)


def log_metrics(engine: Engine, metrics: Mapping[str, float], step: int) -> None:
    """Send an engine's numbers to MLflow, if used.

    Example:
        >>> log_metrics(Engine(lambda *_: None), {"loss": 0.5}, step=1)
    """
    if tracked := open_run(engine):
        client, run_id = tracked
        for name, value in metrics.items():
            client.log_metric(run_id, name, value, step=step)


def log_picture(engine: Engine, path: Path, step: int, name: str) -> None:
    """Send an engine's figure to MLflow, if used: the file, replaced each time, and an image per step under a name.

    Example:
        >>> log_picture(Engine(lambda *_: None), Path("curves.png"), step=1, name="curves")
    """
    if tracked := open_run(engine):
        client, run_id = tracked
        client.log_artifact(run_id, str(path))
        with Image.open(path) as image:
            client.log_image(run_id, image.convert("RGB"), key=name, step=step)


class RunSettings:
    """Record the settings of a run, as they are after overlays and command line.

    TensorBoard gets two texts: `settings` (a table) and `configuration` (YAML, ready to run again). MLflow gets
    parameters, `config.yaml`, and a unique name for the run unless a name is set. Without a unique name, MONAI would
    continue any open MLflow run. A run with an error is marked as failed. An interrupted run stays open and can
    continue.

    Args:
        title: start of the run's name.
        writer: TensorBoard's writer. None: no TensorBoard.
        evaluator: for a training, the validating engine, which tracks into the same run.

    Raises:
        RuntimeError: not built by MONAI from a configuration.
    """

    def __init__(self, title: str, writer: SummaryWriter | None = None, evaluator: Evaluator | None = None) -> None:
        parser = building_parser()
        if parser is None:
            raise RuntimeError(
                "RunSettings found no configuration to record. List it under handlers in a configuration"
            )
        self.parser = parser
        self.title = title
        self.writer = writer
        self.evaluator = evaluator
        self._recorded = False

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or evaluator. Only the first of several processes records."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._name)
            engine.add_event_handler(Events.EPOCH_STARTED, self._record)  # MLflow's run is open by then

    def _name(self, engine: Engine) -> None:
        self._recorded = False
        name = f"{self.title}_{time.strftime('%Y%m%d_%H%M%S')}_{secrets.token_hex(2)}"
        for followed in (engine, self.evaluator):
            handler = None if followed is None else mlflow_handler(followed)
            if handler is not None:
                handler.run_name = handler.run_name or name
        if mlflow_handler(engine) is not None and not engine.has_event_handler(self._fail, Events.EXCEPTION_RAISED):
            at_error(engine, self._fail)

    def _record(self, engine: Engine) -> None:
        if self._recorded:
            return
        self._recorded = True
        text = config_text(self.parser.get())
        settings = settings_of(self.parser.get(), self.parser.ref_resolver.resolved_content)
        if self.writer is not None:
            rows = [f"| {name} | {value.replace('|', '&#124;')} |" for name, value in settings.items()]
            self.writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]), engine.state.epoch)
            indented = "".join(f"    {line}\n" for line in text.splitlines())  # Markdown's block of code
            self.writer.add_text("configuration", indented, engine.state.epoch)
            self.writer.flush()
        if tracked := open_run(engine):
            client, run_id = tracked
            _log_settings(client, run_id, settings)
            client.log_text(run_id, text, "config.yaml")

    def _fail(self, engine: Engine, error: BaseException) -> None:
        tracked = open_run(engine)
        if tracked is not None and not isinstance(error, KeyboardInterrupt):
            client, run_id = tracked
            client.set_terminated(run_id, "FAILED")


class RunFiles:
    """Send the files of an evaluation to MLflow, if used, and close the run.

    Numbers in `metrics.json`, `object_metrics.json` and `em_metrics.json` become MLflow's metrics, for example
    `object_metrics.seg`. Unchanged files are not sent.

    Args:
        folder: folder of the evaluation. Place `RunFiles` after all handlers with files in this folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._before: dict[Path, int] = {}

    def attach(self, evaluator: Evaluator) -> None:
        """Follow an evaluator. Only the first of several processes sends."""
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
        if not handler.close_on_complete:  # as in a training, where the trainer closes the run
            handler.close()

    def _files(self) -> dict[Path, int]:
        """List the files, with the time of their last change in nanoseconds."""
        paths = [path for pattern in PATTERNS for path in sorted(self.folder.glob(pattern))]
        return {path: path.stat().st_mtime_ns for path in paths}


def numbers(content: Mapping[str, Any], name: str) -> dict[str, float]:
    """Collect the numbers in nested dictionaries. Lists are skipped.

    Returns:
        name -> number: `name` and the keys, joined by ".". Characters that MLflow refuses become "_".

    Example:
        >>> numbers({"seg": 0.5, "mean": {"dice": 1}}, "metrics")
        {'metrics.seg': 0.5, 'metrics.mean.dice': 1.0}
    """
    found: dict[str, float] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{name}.{key}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[NOT_ALLOWED.sub("_", f"{name}.{key}")] = float(value)
    return found


def _log_settings(client: Any, run_id: str, settings: Mapping[str, str]) -> None:
    """Send settings as parameters. A continued run keeps earlier parameters."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    allowed = {NOT_ALLOWED.sub("_", name): value for name, value in settings.items()}
    new = [Param(name, value) for name, value in allowed.items() if name not in known]
    for k in range(0, len(new), PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=new[k : k + PARAMETERS_AT_ONCE])
