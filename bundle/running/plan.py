"""`plan`: look at images and labels, and write the settings of a training as plan.yaml. `train` uses the file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from .configuration import ROOT, read_file
from .errors import RunError, UsageError, did_you_mean
from .overrides import MARKS, OF_PLANS, settings_table
from .package import library_package
from .program import CALLED_AS, command_line
from .terminal import printable, tracked

FILE = "plan.yaml"
LABELLED = "a folder with images/ and labels/"
BASE = str(ROOT / "configs" / "train.yaml")
SHOWN, LONGEST = 5, 40  # differences in a message, and characters of a value
KNOWN = ("label_kind", "label_values", "class_names", "in_channels", "split_rule")  # facts about the data, for `train`


def plan(dataset: str, *, output: str | None = None, overwrite: bool = False, **key: Any) -> None:
    """Look at images and labels, and choose the settings of a training.

    Reads each file once. Writes plan.yaml into DATASET, an overlay of configs/train.yaml with the reason of each value.
    `train` uses the file. An existing file is kept.

    Examples:
        python -m bundle plan my/data
        python -m bundle plan my/data --label_kind classes --overwrite

    Args:
        dataset: images with labels, as for `train`.
        output: folder for plan.yaml. Default: DATASET, or output/<name of DATASET> if DATASET is read-only.
        overwrite: replace an existing plan.yaml.
        key: settings for the plan to keep, for example label_kind, tiff_axes or datalist#image_dir.
    """
    check_exists("DATASET", dataset, LABELLED)
    given = given_settings(key, "output", "overwrite")
    file = place_of(dataset, None if output is None else Path(output).expanduser())
    keeps = file.is_file() and not overwrite
    if keeps:
        read_plan(file, dataset)  # before the images
    made = make(dataset, given, file)
    if keeps:
        _compare(file, dataset, made.text, anew(dataset, key))
    else:
        _write(file, made.text)
        print(printable(made.text))
        print(printable(f"plan: {file}"))
    print(printable(f"next: {command_line('train', dataset)}"))


def given_settings(key: Mapping[str, Any], *options: str) -> dict[str, Any]:
    """Return the settings of a command line for a plan to keep, converted. Expressions are left out.

    Args:
        key: of the command line.
        options: of the command, for hints. Without options, other keys are left out, too.

    Raises:
        UsageError: a wrong value; with options, another key than those of plans, or an expression.

    Example:
        >>> given_settings({"label_kind": "instances", "seed": 3})
        {'label_kind': 'instances'}
    """
    planning = library_package("planning")
    known = {
        name: value
        for name, value in key.items()
        if name in (*planning.CHOSEN, *planning.OF_LISTS) and not (isinstance(value, str) and value.startswith(MARKS))
    }
    unknown = sorted(set(key) - set(known))
    if options and unknown:
        names = sorted({*planning.CHOSEN, *planning.OF_LISTS})
        near = did_you_mean(get_close_matches(unknown[0], [*names, *options], n=2))
        raise UsageError(f"unknown key '{unknown[0]}'{near or '; a plan takes ' + ', '.join(names)}")
    table = settings_table(read_file("--config_file", BASE))
    try:
        return {
            name: table.checked({name: value}).get(name, value) if table else value for name, value in known.items()
        }
    except ValueError as error:
        raise UsageError(str(error)) from error


def make(dataset: str, given: Mapping[str, Any], file: Path, single: bool = False) -> Any:
    """Measure a data set and choose settings; see `scripts.planning.make_plan`.

    Raises:
        RunError: images or labels are missing, damaged, or say no kind. The message has the remedy.
    """
    planning = library_package("planning")
    try:
        return planning.make_plan(dataset, given, None, lambda items: tracked(items, "looking"), file, single)
    except (ValueError, FileNotFoundError) as error:
        raise RunError(f"no plan for {dataset}: {error}") from error


def existing_plan(dataset: str, folder: Path | None) -> Path | None:
    """Find the plan of a data set: beside the data, else in the folder of the results.

    Example:
        >>> existing_plan(".", None) is None
        True
    """
    places = [_beside(dataset), *([folder / FILE] if folder else [])]
    return next((file for file in places if file.is_file()), None)


def place_of(dataset: str, folder: Path | None) -> Path:
    """Return the file of a new plan: in the given folder, else beside the data, else in the folder of the results.

    Example:
        >>> place_of(".", None).name
        'plan.yaml'
    """
    own = _beside(dataset)
    if folder is not None:
        return folder / FILE
    return own if library_package("machine").writable(own.parent) else results_of(dataset) / FILE


def results_of(dataset: str) -> Path:
    """Return the default folder of the results of a training.

    Example:
        >>> results_of("my/data.json").name
        'data'
    """
    data = Path(dataset).expanduser().resolve()
    return Path("output") / (data.name if data.is_dir() else data.stem)


def plan_for_training(
    dataset: str, asked: str | None, folder: Path | None, key: Mapping[str, Any], makes: bool
) -> tuple[Path | None, bool, list[str]]:
    """Find or make the plan of a training.

    Args:
        dataset: of the training.
        asked: value of --plan: true, false, a file, or None.
        folder: of the results. None: known to the configuration alone.
        key: settings of the command line.
        makes: make a plan if none exists.

    Returns:
        The file, or None for a training without a plan. True: the file was made here. Lines for the user.

    Raises:
        UsageError: the file does not exist.
        RunError: as `make`.
    """
    word = str(asked).lower() if asked is not None else None
    if word in ("false", "none", "no", "off"):
        return None, False, []
    if word not in (None, "true", "yes", "on"):
        file = Path(str(asked)).expanduser()
        if not file.is_file():
            raise UsageError(f"--plan {file} does not exist; give true, false, or a file by `{CALLED_AS.get()} plan`")
        return file, False, _outdated(dataset, file)
    file = existing_plan(dataset, folder)  # type: ignore[assignment]
    if file is not None:
        check_plain(file, dataset)
        return file, False, _outdated(dataset, file, key)
    if not makes and word is None:
        return None, False, []
    beside = place_of(dataset, None)
    file = beside if beside.parent == _beside(dataset).parent or folder is None else folder / FILE
    given = given_settings({name: key[name] for name in (*KNOWN, *library_package("planning").OF_LISTS) if name in key})
    if os.environ.get("RANK", "0") != "0":  # each process makes the same plan, the first one writes the file
        file = Path(gettempdir()) / f"plan-{os.getpid()}.yaml"
    _write(file, make(dataset, given, file, single=key.get("split_file") is not None).text)
    return file, True, []


def anew(dataset: str, key: Mapping[str, Any] | None = None) -> str:
    """Write the command for a new plan.

    Args:
        dataset: of the plan.
        key: settings for the plan to keep.

    Example:
        >>> anew("my/data", {"label_kind": "instances"})
        'original-unet plan my/data --label_kind instances --overwrite'
    """
    options = [word for name, value in (key or {}).items() for word in (f"--{name}", str(value))]
    return command_line("plan", dataset, *options, "--overwrite")


def read_plan(file: Path, dataset: str) -> dict[str, Any]:
    """Read the keys and values of a plan.

    Raises:
        UsageError: the file cannot be read. The message has the line, and the command for a new plan.
    """
    try:
        return read_file("plan", str(file))
    except UsageError as error:
        raise UsageError(f"{error}. Correct the file, or replace it: {anew(dataset)}") from error


def check_plain(file: Path, dataset: str) -> None:
    """Refuse code in a plan found beside the data. Data sets may come with a plan of strangers.

    Raises:
        UsageError: a key may run code. The message has the option to trust the file.
    """
    planning = library_package("planning")
    key = planning.code_in(read_plan(file, dataset))
    if key is not None:
        near = did_you_mean(name for name in get_close_matches(key, planning.CHOSEN, n=1) if name != key)
        raise UsageError(
            f"{file}: the key {key!r} is none of a plan, or holds code{near}. Remove or correct it, or move it to an "
            f"--overlay. If you trust the file as it is: --plan {file}"
        )


def note_of(file: Path, dataset: str) -> dict[str, Any]:
    """Read the facts about a plan: images, device, overlays. Empty if a user removed the facts.

    Raises:
        UsageError: the file cannot be read, the facts are no table, or an overlay is no name of this bundle's.
    """
    note = read_plan(file, dataset).get(OF_PLANS) or {}
    names = note.get("overlays", []) if isinstance(note, dict) else None
    if not isinstance(names, list) or not all(re.fullmatch(r"\w+", str(name)) for name in names):
        raise UsageError(f"{file}: {OF_PLANS} is {note!r}, expected {{images: 25, device: cpu, overlays: [...]}}")
    return note


def _outdated(dataset: str, file: Path, key: Mapping[str, Any] | None = None) -> list[str]:
    """Say what has changed since the plan: name of the data set, number of images, device, kind of labels."""
    note, planning = note_of(file, dataset), library_package("planning")
    content = read_plan(file, dataset)
    lines = []
    made_for, name = Path(str(content.get("dataset_dir") or "")).name, Path(dataset).expanduser().resolve().name
    if made_for not in ("", name):
        lines.append(f"{file} is for the data set {made_for}, this is {name}")
    try:
        count = len(planning.find_items(dataset, {**content, **(key or {})}).items)
    except (ValueError, OSError):
        count = None  # the training says it
    if count is not None and note.get("images") not in (None, count):
        lines.append(f"{file} is for {note['images']} images, now {count}")
    device = library_package("machine").Machine.here().device
    if note.get("device") not in (None, device):
        lines.append(f"{file} is for a training on {note['device']}, this is {device}")
    kind = (key or {}).get("label_kind")
    if kind is not None and content.get("label_kind") not in (None, kind):
        lines.append(f"{file} is for label_kind {content['label_kind']}, this is {kind}")
    return lines


def _beside(dataset: str) -> Path:
    """The plan beside the data: in the folder, or beside a list under its name."""
    data = Path(dataset).expanduser()
    if data.is_dir() or data.name == "dataset.json":
        return (data if data.is_dir() else data.parent) / FILE
    return data.with_name(f"{data.stem}.{FILE}")


def _compare(file: Path, dataset: str, text: str, replacing: str) -> None:
    """Say that a plan is kept, whether the data have changed, and how to replace the plan.

    Args:
        file: the existing plan.
        dataset: of the plan.
        text: of a new plan.
        replacing: command for the new plan.

    Raises:
        UsageError: the new plan has other values.
    """
    import yaml

    before = file.read_text(encoding="utf-8")
    then, now = (
        lines.partition("\n")[0].partition(": ")[2].rstrip(".") for lines in (before, text)
    )  # describe the data
    data = "the data are the same" if then == now else f"the data were {then or 'not noted'}; now {now}"
    old, new = read_plan(file, dataset) | note_of(file, dataset), yaml.safe_load(text)
    new |= new[OF_PLANS]
    same = (OF_PLANS, "images", "dataset_dir")  # told by `data`
    keys = [key for key in {**new, **old} if old.get(key) != new.get(key) and key not in same]
    if not keys:
        print(
            printable(f"{before}\nplan: {file} is kept: {data}, and give the same settings. To replace it: {replacing}")
        )
        return
    values = "; ".join(f"{key} {_short(old.get(key))}, new {_short(new.get(key))}" for key in keys[:SHOWN])
    raise UsageError(
        f"{file} is kept: {data}. It differs from a new plan: "
        f"{values}{'; ...' if len(keys) > SHOWN else ''}. To replace it: {replacing}"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _write(file: Path, text: str) -> None:
    with library_package("io").replacing(file) as path:
        path.write_text(text, encoding="utf-8")


def check_exists(name: str, given: str, expected: str) -> None:
    """Raise UsageError, with similar names, if nothing exists at a path.

    Example:
        >>> check_exists("DATASET", ".", "a folder")
    """
    path = Path(given.partition("#page=")[0]).expanduser()
    if not path.exists():
        near = get_close_matches(path.name, [other.name for other in path.parent.glob("*")], n=2)
        hint = did_you_mean(str(path.parent / other) for other in near) or f"; expected {expected}"
        raise UsageError(f"{name} {path} does not exist{hint}")
