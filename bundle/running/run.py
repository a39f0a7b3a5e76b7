"""`python -m bundle run`: `python -m monai.bundle run` that refuses unknown keys and fails with one message."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser, update_kwargs
from monai.bundle import run as monai_run

from bundle.errors import RunError, UsageError
from bundle.running.failures import explain
from bundle.running.overrides import check_overrides, close_ids
from bundle.running.tracking import tracking_keys

ROOT = Path(__file__).resolve().parents[2]
RUN_ARGUMENTS = ("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking")
WORKFLOW_ARGUMENTS = ("workflow_name", "workflow_type", "properties_path")  # MONAI gives these to its workflow class
FIXED = (*RUN_ARGUMENTS, *WORKFLOW_ARGUMENTS)


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

    Takes the arguments of `python -m monai.bundle run`, e.g.
    `run training --config_file "['configs/train.yaml','configs/demo.yaml']" --max_epochs 3 --network_def#dropout 0.2`.
    Any key of the config can be set; nested ones are joined by #. A config is a program: run only those that you trust.

    Args:
        run_id: key to run; by default run.
        init_id: key to run before it; by default initialize, where there is one.
        final_id: key to run after it; by default finalize, where there is one.
        meta_file: metadata; by default metadata.json beside the config.
        config_file: YAML or JSON file, or a list "['a.yaml','b.yaml']" in which later files override earlier ones.
        logging_file: logging configuration; by default logging.conf beside the config; False for none.
        tracking: mlflow, or a file of settings for experiment tracking, whose keys (tracking_uri, experiment_name,
            run_name) can then be set, too.
        args_file: YAML or JSON file with any of these arguments and of the keys to set.
        trace: show the full trace of an error.
        override: keys of the config and their new values.
    """
    for key in override:
        if key.startswith("+"):  # MONAI would take it for the plain key
            raise UsageError(
                f"unknown key '{key}'; + merges in config files only, give --{key[1:]} with the whole value"
            )
    values = (run_id, init_id, final_id, meta_file, config_file, logging_file, tracking)
    given: dict[str, Any] = {**dict(zip(RUN_ARGUMENTS, values, strict=True)), **override}
    merged = update_kwargs(_read("--args_file", args_file) if args_file else {}, True, **given)
    merged |= {key: None for key, value in override.items() if value is None}  # which update_kwargs drops

    files = _files(merged.get("config_file"))
    config = _merge("--config_file", files)
    metadata = _metadata_files(merged.get("meta_file"), files[0])
    if metadata:
        config["_meta_"] = _merge("--meta_file", metadata)
    _check_file("--logging_file", merged.get("logging_file"))
    _check_run_ids(config, merged)
    with _importable(_bundle_roots(config, merged, files[0])), _quiet(files, trace):
        fixed = {key: merged[key] for key in FIXED if merged.get(key) is not None}
        fixed["config_file"] = files if len(files) > 1 else files[0]
        known = {**tracking_keys(merged.get("tracking")), **config}  # MONAI adds to the config what it lacks of these
        changes = check_overrides(known, {key: value for key, value in merged.items() if key not in FIXED})
        try:
            monai_run(**fixed, **changes)
        except Exception as error:  # the edge of the program: whatever a workflow raises ends as one message
            if trace:
                raise
            raise RunError(f"{explain(error, config)}\n(--trace shows where it arose)") from error


def _files(given: Any) -> list[str]:
    """The config files as a list: from one name, a list, or names joined by commas; all of them exist."""
    if given is None or given == []:
        raise UsageError("no --config_file given; give for example --config_file configs/train.yaml")
    if isinstance(given, str) and not Path(given).is_file():
        given = given.strip("[]").split(",")  # [a.yaml,b.yaml] without inner quotes reaches this program as text
    files = [str(name).strip() for name in ([given] if isinstance(given, str) else given)]
    for name in files:
        _check_file("--config_file", name)
    return files


def _check_file(option: str, name: Any) -> None:
    """Raise UsageError, with the nearest names, for a file that does not exist; None and False pass."""
    if name is None or name is False or Path(str(name)).is_file():
        return
    path = Path(str(name))
    kinds = (".conf",) if option == "--logging_file" else (".yaml", ".yml", ".json")
    here = _neighbours(path.parent, kinds) or _neighbours(Path("configs"), kinds)
    near = get_close_matches(path.name, [Path(other).name for other in here], n=2)
    matches = [other for other in here if Path(other).name in near] or here[:8]
    hint = f"; there are {', '.join(matches)}" if matches else f"; {path.parent.resolve()} has none"
    raise UsageError(f"{option} {path} does not exist{hint}")


def _neighbours(folder: Path, kinds: tuple[str, ...]) -> list[str]:
    """Files of a folder with one of the suffixes, sorted; none if it does not exist."""
    return sorted(str(path) for path in folder.glob("*") if path.suffix in kinds)


def _read(option: str, name: str) -> dict[str, Any]:
    """Read one YAML or JSON file; one that cannot be read, or gives a key twice, becomes one message."""
    _check_file(option, name)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Duplicate key")
        try:
            content = ConfigParser.load_config_file(name)
        except (yaml.YAMLError, ValueError, UserWarning) as error:  # ValueError: JSON syntax or an unknown suffix
            raise UsageError(f"{option} {name} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{option} {name} holds {type(content).__name__}, expected keys and values")
    return content


def _merge(option: str, files: list[str]) -> dict[str, Any]:
    """Merge config files as MONAI does; files that do not fit together become one message."""
    for name in files:
        _read(option, name)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Can't merge entry")
        try:
            merged: dict[str, Any] = ConfigParser.load_config_files(files)
        except (UserWarning, ValueError, KeyError) as error:  # +key without its base; a#b where there is no a
            raise UsageError(f"{option} {', '.join(files)} do not fit together: {error}") from error
    return merged


def _metadata_files(given: Any, config_file: str) -> list[str]:
    """Metadata files: those given, else metadata.json beside the config if there is one."""
    if given is not None:
        return [str(name) for name in ([given] if isinstance(given, str) else given)]
    default = Path(config_file).parent / "metadata.json"
    return [str(default)] if default.is_file() else []


def _check_run_ids(config: Mapping[str, Any], merged: Mapping[str, Any]) -> None:
    """Raise UsageError for a run id that the config does not have; MONAI passes over a missing init or final id."""
    parser = ConfigParser(dict(config))
    for option in ("run_id", "init_id", "final_id"):
        id = merged.get(option, "run" if option == "run_id" else None)
        if id is None or (isinstance(id, str) and id and id in parser):
            continue
        near = close_ids(str(id), (key for key in config if key != "_meta_"))
        hint = "did you mean " + " or ".join(f"'{name}'" for name in near) + "?" if near else _runnable(config)
        raise UsageError(f"nothing to run under '{id}' ({option}); {hint}")


def _runnable(config: Mapping[str, Any]) -> str:
    """The keys that look like something to run: lists of expressions, and aliases of these."""
    steps = {key: value for key, value in config.items() if isinstance(value, list) and value and key != "imports"}
    names = [key for key, value in steps.items() if all(str(step).startswith("$") for step in value)]
    names += [key for key, value in config.items() if isinstance(value, str) and value.lstrip("@") in names]
    return f"the config has {', '.join(names)}" if names else "the config has nothing that can be run"


def _bundle_roots(config: Mapping[str, Any], merged: Mapping[str, Any], config_file: str) -> list[str]:
    """Folders in which `scripts` may lie: a literal bundle_root, then the folder of the configs."""
    folder = Path(config_file).resolve().parent
    roots = [str(folder.parent if folder.name == "configs" else folder)]
    named = merged.get("bundle_root", config.get("bundle_root"))
    if isinstance(named, str) and not named.startswith(("$", "@", "%")) and (Path(named) / "scripts").is_dir():
        roots.insert(0, str(Path(named).resolve()))
    return roots


@contextmanager
def _importable(folders: list[str]) -> Iterator[None]:
    """Put folders first on the import path, earlier than MONAI, which does so only after `initialize`."""
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _quiet(files: list[str], trace: bool) -> Iterator[None]:
    """Keep traces out of the log unless asked for; keep MONAI's "configs are programs" for those from elsewhere."""
    factory = logging.getLogRecordFactory()

    def without_trace(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.exc_info = None  # some handlers log the trace of an error which is about to be explained
        return record

    with warnings.catch_warnings():
        if all(Path(name).resolve().parent == ROOT / "configs" for name in files):
            warnings.filterwarnings("ignore", message="parsing config_file", category=UserWarning)
        if not trace:
            logging.setLogRecordFactory(without_trace)
        try:
            yield
        finally:
            logging.setLogRecordFactory(factory)
