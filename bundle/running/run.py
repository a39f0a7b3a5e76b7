"""`python -m bundle run`: run a workflow like `python -m monai.bundle run`; refuse unknown keys, explain failures."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .configuration import MISSING, ROOT, check_file, look_up, merge, merge_files, read_file
from .errors import RunError, UsageError, did_you_mean
from .failures import explain, first_to_fail
from .overrides import MARKS, check_changes, check_overrides, close_ids
from .package import INSTALLED, library_package
from .terminal import printable, waiting

RUN_ARGUMENTS = ("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking")
WORKFLOW_ARGUMENTS = ("workflow_name", "workflow_type", "properties_path")  # MONAI passes these to its workflow class
FIXED = (*RUN_ARGUMENTS, *WORKFLOW_ARGUMENTS)
MONAI_LOGGERS = ("monai.bundle.scripts", "monai.bundle.workflows")  # tell arguments and files that the user has given
NOTICE = "a configuration is a program that is run. Use only files that you have read"
TRACKING_PARTS = ("handlers_id", "configs")  # of MONAI's settings for experiment tracking


def run(
    run_id: str | None = None,
    init_id: str | None = None,
    final_id: str | None = None,
    meta_file: str | list[str] | None = None,
    config_file: str | list[str] | None = None,
    logging_file: str | bool | None = None,
    tracking: str | dict[str, Any] | None = None,
    args_file: str | None = None,
    trace: bool = False,
    **override: Any,
) -> None:
    """Run a workflow like monai.bundle, but refuse unknown keys.

    Takes the arguments of `python -m monai.bundle run`. Every key of the config can be set; nested keys are joined
    by #. A config is a program: run only configs that you trust.

    Examples:
        python -m bundle run training --config_file configs/train.yaml --dataset_dir data/isbi2012/train
        python -m bundle run training --config_file "['configs/train.yaml','configs/demo.yaml']" --max_epochs 3
        python -m bundle run training --config_file configs/train.yaml --network_def#dropout 0.2

    Args:
        run_id: key to run. Default: run.
        init_id: key to run first. Default: initialize, if present.
        final_id: key to run last. Default: finalize, if present.
        meta_file: metadata. Default: metadata.json beside the config.
        config_file: YAML or JSON file, or a list "['a.yaml','b.yaml']". Later files override earlier files.
        logging_file: logging configuration. Default: logging.conf beside the config; False: none.
        tracking: mlflow, or a file of settings for experiment tracking. The keys of the settings (tracking_uri,
            experiment_name, run_name) can then be set, too.
        args_file: YAML or JSON file with any of these arguments and keys of the config. The command line overrides it.
        trace: show the full trace of an error.
        override: keys of the config and their new values.
    """
    for key in override:
        if key.startswith("+"):  # MONAI would read it as the plain key
            raise UsageError(f"unknown key '{key}'; + merges in config files only, give the whole value as --{key[1:]}")
    values = (run_id, init_id, final_id, meta_file, config_file, logging_file, tracking)
    given: dict[str, Any] = {**dict(zip(RUN_ARGUMENTS, values, strict=True)), **override}
    given = {key: value for key, value in given.items() if value is not None or key in override}
    merged = _updated(read_file("--args_file", args_file) if args_file else {}, given)

    files = _files(merged.get("config_file"))
    config = merge_files("--config_file", files)
    metadata = _metadata_files(merged.get("meta_file"), files[0])
    if metadata:
        config["_meta_"] = merge_files("--meta_file", metadata)
    check_file("--logging_file", merged.get("logging_file"))
    _check_run_ids(config, merged)
    loud = str(merged.get("verbose", config.get("verbose"))).lower() == "true"
    with _importable(_bundle_roots(config, merged, files[0]), _folders(files)), _quiet(trace, loud):
        fixed = {key: merged[key] for key in FIXED if merged.get(key) is not None}
        fixed["config_file"] = files if len(files) > 1 else files[0]
        known = {**tracking_keys(merged.get("tracking")), **config}  # MONAI adds tracking keys that the config lacks
        changes = check_overrides(known, {key: value for key, value in merged.items() if key not in FIXED})
        _check_files(files, config)  # may load the components of the files, which takes seconds
        _note_foreign(files)
        if INSTALLED and fixed.get("workflow_name", "ConfigWorkflow") == "ConfigWorkflow":
            from .installed import InstalledWorkflow

            fixed["workflow_name"] = InstalledWorkflow
        hook = sys.excepthook  # the workflow changes it, see `scripts.failures`
        try:
            _explained({**fixed, **changes}, trace)
        except KeyboardInterrupt as stop:
            stop.told = not first_to_fail()  # type: ignore[attr-defined]  # by another process
            raise
        finally:
            sys.excepthook = hook


def _updated(old: Any, new: Any) -> Any:
    """Return the new value, of keys in keys the old values without a new one, too."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {key: _updated(old.get(key), value) for key, value in new.items()}


def _explained(arguments: Mapping[str, Any], trace: bool) -> None:
    """Run a workflow. Any failure ends as one message, of several processes in one of them."""
    with waiting("loading torch and MONAI"):
        from monai.bundle import run as monai_run  # after all checks, since the import takes seconds

    try:
        monai_run(**arguments)
    except Exception as error:
        if trace:
            raise
        message = f"{explain(error)}\n(--trace shows where it arose)" if first_to_fail(error) else ""
        raise RunError(message) from error


def _files(given: Any) -> list[str]:
    """List the config files from a name, a list, or names joined by commas; all must exist.

    The file configs/train.yaml is the bundle's if the current folder has no such file.
    """
    if given is None or given == []:
        raise UsageError("no --config_file given; give for example --config_file configs/train.yaml")
    if isinstance(given, str) and not Path(given).is_file():
        given = given.strip("[]").split(",")  # [a.yaml,b.yaml] without inner quotes arrives as text
    names = [str(name).strip() for name in ([given] if isinstance(given, str) else given)]
    files = [name if Path(name).is_file() or not (ROOT / name).is_file() else str(ROOT / name) for name in names]
    for name in files:
        check_file("--config_file", name)
    return files


def _check_files(files: list[str], config: Mapping[str, Any]) -> None:
    """Check the files of changes, after the first. The message names the file, and the files that it changes."""
    contents = {name: read_file("--config_file", name) for name in files} if len(files) > 1 else {}
    for name in files[1:]:
        base: dict[str, Any] = {}
        for other, content in contents.items():
            merge(base, deepcopy(content) if other != name else {})
        try:
            check_changes(contents[name], base, config)
        except UsageError as error:
            others = " and ".join(_shown(other) for other in files if other != name)
            raise UsageError(f"{_shown(name)} (changes of {others}): {error}") from error


def _shown(name: str) -> str:
    """Shorten the path of a file of this bundle."""
    path = Path(name).resolve()
    return str(path.relative_to(ROOT)) if path.parent == ROOT / "configs" else name


def _note_foreign(files: list[str]) -> None:
    """Say in a line, in place of MONAI's long warning, that configs of others are programs. Plain values are none."""
    others = [name for name in files if Path(name).resolve().parent != ROOT / "configs"]
    coded = [name for name in others if re.search(r"_target_|\$", Path(name).read_text(encoding="utf-8"))]
    foreign = [name for name in coded if library_package("planning").code_in(read_file("--config_file", name))]
    if foreign and os.environ.get("RANK", "0") == "0":
        print(printable(f"note: {', '.join(foreign)}: {NOTICE}"), file=sys.stderr)


def _metadata_files(given: Any, config_file: str) -> list[str]:
    """List the given metadata files, else an existing metadata.json beside the config."""
    if given is not None:
        return [str(name) for name in ([given] if isinstance(given, str) else given)]
    default = Path(config_file).parent / "metadata.json"
    return [str(default)] if default.is_file() else []


def _check_run_ids(config: Mapping[str, Any], merged: Mapping[str, Any]) -> None:
    """Raise UsageError for an unknown run id; MONAI ignores a missing init or final id."""
    for option in ("run_id", "init_id", "final_id"):
        id = merged.get(option, "run" if option == "run_id" else None)
        if id is None or (isinstance(id, str) and look_up(config, id, MISSING) is not MISSING):
            continue
        hint = did_you_mean(close_ids(str(id), (key for key in config if key != "_meta_"))) or _runnable(config)
        raise UsageError(f"nothing to run under '{id}' ({option}){hint}")


def _runnable(config: Mapping[str, Any]) -> str:
    """Name the runnable keys: lists of expressions, and their aliases."""
    steps = {key: value for key, value in config.items() if isinstance(value, list) and value and key != "imports"}
    names = [key for key, value in steps.items() if all(str(step).startswith("$") for step in value)]
    names += [key for key, value in config.items() if isinstance(value, str) and value.lstrip("@") in names]
    return f"; the config has {', '.join(names) or 'nothing that can be run'}"


def tracking_keys(tracking: Any) -> dict[str, Any]:
    """Find the keys and values that experiment tracking adds to a config; without handlers.

    Args:
        tracking: value of --tracking: mlflow, the name of a file of settings, the settings themselves, or None.

    Raises:
        UsageError: neither a tracker of MONAI nor settings; or mlflow is not installed.

    Example:
        >>> tracking_keys({"handlers_id": {"trainer": {}}, "configs": {"trainer": {}, "tracking_uri": "runs"}})
        {'tracking_uri': 'runs'}
    """
    if tracking is None:
        return {}
    from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

    settings, where = tracking, ""
    if isinstance(tracking, str):
        if tracking == "mlflow" and find_spec("mlflow") is None:
            raise UsageError('--tracking mlflow: not installed; run: pip install mlflow "sqlalchemy<2.1"')
        if tracking not in DEFAULT_EXP_MGMT_SETTINGS and not Path(tracking).is_file():
            trackers = sorted(DEFAULT_EXP_MGMT_SETTINGS)
            near = get_close_matches(tracking.lower(), trackers, n=1, cutoff=0.5)
            hint = did_you_mean(near) or f"; give {' or '.join(trackers)}, or a file of settings"
            raise UsageError(f"--tracking {tracking}: no tracker and no file has this name{hint}")
        settings = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) or read_file("--tracking", tracking)
        where = f" {tracking}"
    if not isinstance(settings, Mapping) or not set(settings) >= set(TRACKING_PARTS):
        example = "monai.bundle.utils.DEFAULT_MLFLOW_SETTINGS"
        raise UsageError(f"--tracking{where}: expected the keys {' and '.join(TRACKING_PARTS)}, as in {example}")
    return {key: value for key, value in settings["configs"].items() if key not in settings["handlers_id"]}


def _bundle_roots(config: Mapping[str, Any], merged: Mapping[str, Any], config_file: str) -> list[str]:
    """List possible folders of `scripts`: a literal bundle_root, then the bundle of the config."""
    folder = Path(config_file).resolve().parent
    if INSTALLED and folder == ROOT / "configs":
        return []  # its modules are those of a package
    roots = [str(folder.parent if folder.name == "configs" else folder)]
    named = merged.get("bundle_root", config.get("bundle_root"))
    if isinstance(named, str) and not named.startswith(MARKS) and (Path(named) / "scripts").is_dir():
        roots.insert(0, str(Path(named).resolve()))
    return roots


def _folders(files: list[str]) -> list[str]:
    """List the folders of overlays, which may name components in modules beside them."""
    own = ROOT / "configs"
    folders = (Path(name).resolve().parent for name in files[1:])
    return list(dict.fromkeys(str(folder) for folder in folders if folder != own))


@contextmanager
def _importable(first: list[str], last: list[str]) -> Iterator[None]:
    """Put folders first and last on the import path. MONAI would add the first only at `initialize`."""
    before = list(sys.path)
    sys.path[:] = [*first, *before, *last]
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _quiet(trace: bool, verbose: bool) -> Iterator[None]:
    """Keep traces and MONAI's own messages out of the log unless asked for. `_note_foreign` replaces its warning."""
    factory = logging.getLogRecordFactory()
    levels = {logger: logger.level for logger in map(logging.getLogger, MONAI_LOGGERS)}

    def without_trace(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.exc_info = None  # some handlers log the trace, and `explain` follows
        if not (text := record.getMessage()).isprintable():  # names of files may control a terminal
            record.msg, record.args = printable(text), ()
        return record

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="parsing config_file", category=UserWarning)
        if not trace:
            logging.setLogRecordFactory(without_trace)
        if not verbose:
            for logger in levels:
                logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.setLogRecordFactory(factory)
            for logger, level in levels.items():
                logger.setLevel(level)
