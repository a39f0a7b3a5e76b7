"""`train`, `evaluate` and `segment`: short commands for the workflows in configs/, run by the strict `run`.

Values on the command line win over overlays. Overlays win over the defaults of these commands.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from .errors import UsageError, did_you_mean
from .overrides import MARKS, NUMBER, WORDS, check_overrides, close_ids
from .program import CALLED_AS
from .run import FIXED, ROOT, merge_files, read_file, run, tracking_keys

CONFIGS = ROOT / "configs"
WORKFLOWS = ("train", "evaluate", "inference")  # files of CONFIGS that are no overlays
TRAIN, EVALUATE, INFERENCE = (str(CONFIGS / f"{name}.yaml") for name in WORKFLOWS)
WEIGHTS = str(ROOT / "models" / "model.pt")  # of this bundle
LABELLED = "a folder with images/ and labels/"
OF_RUN = {*FIXED, "args_file"} - {"meta_file", "logging_file", "tracking"}  # arguments that only `run` takes
READ_BY_MONAI = ("imports", "initialize", "run", "finalize", "_meta_")
OPTIONS = ("output", "overlay", "weights", "trace")
EXPORTED = "an exported network; segment takes it as --backend, other commands need the weights (.pt) themselves"
NO_WEIGHTS = {  # by suffix
    **dict.fromkeys((".onnx", ".ts", ".pt2"), EXPORTED),
    ".json": "the settings of weights; give the file of weights beside it (.pt)",
}
REFERENCE = re.compile(r"[@%](\w+)")


def train(
    dataset: str, *, output: str | None = None, overlay: str | list[str] | None = None, trace: bool = False, **key: Any
) -> None:
    """Train the network on images with labels.

    Runs configs/train.yaml. Writes the best weights (model.pt), the state to resume from, curves and split to OUTPUT.
    Every key of the configuration can be set, for example --label_kind instances.

    Examples:
        python -m bundle train data/cells --label_kind instances
        python -m bundle train data/cells --label_kind instances --overlay variant_fast --max_minutes 30
        python -m bundle train data/cells --label_kind instances --resume true
        python -m bundle train data/cells --label_kind instances --finetune models/model.pt

    Args:
        dataset: folder with images/ and labels/ of equal names, a folder with a pair like train-volume.tif and
            train-labels.tif, or a datalist (.json).
        output: folder for the results. Default: output/<name of DATASET>.
        overlay: name (variant_fast) or file of changes to the configuration. Several: a,b.
        trace: show the full trace of an error.
        key: keys of the configuration and their new values.
    """
    if "weights" in key:  # in train.yaml, the key of the weight map
        raise UsageError("train takes no --weights; start from weights with --finetune, or continue with --resume true")
    data = _existing("DATASET", dataset, LABELLED)
    files, set_by_overlays = _with_overlays(overlay, [TRAIN], key)
    changes = _given(key, {"dataset_dir": ("DATASET", data), "output_dir": ("--output", _folder(output))})
    if "output_dir" in changes:
        changes.setdefault("model_dir", changes["output_dir"])
    name = Path(data).resolve()
    folder = str(Path("output") / (name.name if name.is_dir() else name.stem))
    changes = {name: folder for name in ("output_dir", "model_dir") if name not in set_by_overlays} | changes
    _find_weights("finetune", changes)
    run("training", config_file=files, trace=trace, **changes)
    weights = str(Path(_value("model_dir", files, changes)) / "model.pt")
    _tell(f"weights: {weights}")
    _tell(f"next: {CALLED_AS.get()} segment my/images --weights {subprocess.list2cmdline([weights])}")


def evaluate(
    dataset: str,
    *,
    weights: str | None = None,
    output: str | None = None,
    overlay: str | list[str] | None = None,
    trace: bool = False,
    **key: Any,
) -> None:
    """Measure weights on images with labels.

    Runs configs/train.yaml and configs/evaluate.yaml. Measures all images of DATASET; with --split_file only the images
    held out by a training. Labels are read as in the training.

    Examples:
        python -m bundle evaluate data/test --weights output/cells/model.pt
        python -m bundle evaluate data/cells --weights output/cells/model.pt --split_file output/cells/split.json

    Args:
        dataset: images with labels, as for `train`.
        weights: file of weights. Default: the weights that come with this program.
        output: folder for the results. Default: output/evaluation.
        overlay: name (data_nuclei) or file of changes to the configuration. Several: a,b.
        trace: show the full trace of an error.
        key: keys of the configuration and their new values.
    """
    data = _existing("DATASET", dataset, LABELLED)
    files, set_by_overlays = _with_overlays(overlay, [TRAIN, EVALUATE], key)
    own = read_file("--config_file", EVALUATE)
    set_by_overlays = {name: value for name, value in set_by_overlays.items() if name in own and name != "run"}
    folder = _folder(output)
    named = {"ckpt_path": ("--weights", _text(weights)), "evaluation_dir": ("--output", folder)}
    changes = set_by_overlays | _given(key, {"dataset_dir": ("DATASET", data), **named})
    if not {"output_dir", "evaluation_dir"} & changes.keys():
        changes["evaluation_dir"] = str(Path("output") / "evaluation")
    if "evaluation_dir" in changes:
        changes.setdefault("output_dir", changes["evaluation_dir"])
    changes = {"ckpt_path": WEIGHTS, "split_rule": "all"} | changes
    _find_weights("ckpt_path", changes)
    run("evaluating", config_file=files, trace=trace, **changes)
    _tell(f"results: {Path(_value('evaluation_dir', files, changes))}")


def segment(
    path: str,
    *,
    output: str | None = None,
    weights: str | None = None,
    overlay: str | list[str] | None = None,
    trace: bool = False,
    **key: Any,
) -> None:
    """Segment an image, a stack or a folder of images.

    Runs configs/inference.yaml. Writes classes, probabilities, instances, overlays and objects.csv to OUTPUT.

    Examples:
        python -m bundle segment my/images
        python -m bundle segment my/stack.tif --weights output/cells/model.pt --output my/segmentation --min_area 50

    Args:
        path: an image, a stack, a folder of images, or a plane of a stack (stack.tif#page=3).
        output: folder for the results. Default: output/segmentation.
        weights: file of weights. Default: the weights that come with this program.
        overlay: name or file of changes to the configuration. Several: a,b.
        trace: show the full trace of an error.
        key: keys of the configuration and their new values.
    """
    data = _existing("PATH", path, "an image, a stack or a folder of images")
    files, set_by_overlays = _with_overlays(overlay, [INFERENCE], key)
    named = {"ckpt_path": ("--weights", _text(weights)), "output_dir": ("--output", _folder(output))}
    changes = _given(key, {"dataset_dir": ("PATH", data), **named})
    if "ckpt_path" not in set_by_overlays:
        changes.setdefault("ckpt_path", WEIGHTS)
    if "backend" not in {**set_by_overlays, **changes}:
        _find_weights("ckpt_path", changes)
    run(config_file=files, trace=trace, **changes)
    _tell(f"results: {Path(_value('output_dir', files, changes))}")


def _existing(name: str, given: Any, expected: str) -> str:
    """Return a path as text for a configuration; UsageError if nothing exists there."""
    text = str(_text(given))
    path = Path(re.sub(r"#page=\d+$", "", text))
    if not path.exists():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = [str(path.parent / other) for other in get_close_matches(path.name, siblings, n=2)]
        raise UsageError(f"{name} {path} does not exist{did_you_mean(near) or f'; expected {expected}'}")
    return text


def _folder(given: Any) -> str | None:
    """Return the folder for the results as text for a configuration, or None; UsageError if a file is there."""
    if given is not None and Path(str(given)).expanduser().is_file():
        raise UsageError(f"--output {given} is a file; give a folder")
    return _text(given)


def _text(path: Any) -> str | None:
    """Write a path for a configuration, never to be read as an expression, a reference, a number or null."""
    if path is None:
        return None
    text = str(Path(str(path)).expanduser())
    special = text.startswith(MARKS) or text.lower() in WORDS or NUMBER.fullmatch(text)
    return os.path.join(os.curdir, text) if special else text


def _given(key: Mapping[str, Any], named: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Join keys of the command line and values with an option of their own.

    Args:
        key: keys and values.
        named: key -> (option, value). None: not given.

    Raises:
        UsageError: an argument of `run`, or a key given twice.
    """
    for name in OF_RUN & key.keys():
        raise UsageError(f"--{name} cannot be changed; give --overlay, or use {CALLED_AS.get()} run")
    named = {name: (option, value) for name, (option, value) in named.items() if value is not None}
    for name in named.keys() & key.keys():
        raise UsageError(f"--{name} and {named[name][0]} are the same; give only {named[name][0]}")
    return {**key, **{name: value for name, (_, value) in named.items()}}


def _find_weights(key: str, changes: dict[str, Any]) -> None:
    """Check that the file of weights under a key exists. models/model.pt may also be this bundle's file.

    Raises:
        UsageError: there is no such file. Expressions pass.
    """
    given = changes.get(key)
    if isinstance(given, str) and Path(given).suffix.lower() in NO_WEIGHTS:
        raise UsageError(
            f"--{'weights' if key == 'ckpt_path' else key} {given}: {NO_WEIGHTS[Path(given).suffix.lower()]}"
        )
    if not isinstance(given, str) or given.startswith(MARKS) or given.lower() in WORDS or Path(given).is_file():
        return
    if (ROOT / given).is_file():
        changes[key] = str(ROOT / given)
        return
    path = Path(given)
    folder = path if path.is_dir() else path.parent
    near = [str(other) for other in sorted(folder.glob("*.pt")) if other.name != "training_state.pt"]
    option = "--weights" if key == "ckpt_path" else f"--{key}"
    what = "is a folder" if path.is_dir() else "does not exist"
    raise UsageError(f"{option} {path} {what}{did_you_mean(near[:3]) or '; give a file of weights, such as model.pt'}")


def _with_overlays(
    given: str | list[str] | None, bases: Sequence[str], key: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Find the overlays, and put them after the first base.

    Args:
        given: names or files.
        bases: files of the workflow.
        key: keys of the command line.

    Returns:
        all files in order; keys and values of all overlays, merged.

    Raises:
        UsageError: an overlay does not exist, cannot be read, or sets a key that the workflow never reads.
    """
    names = given.strip("[]").split(",") if isinstance(given, str) else given or []
    overlays = [_overlay_file(str(name).strip()) for name in names]
    files = [bases[0], *overlays, *bases[1:]]
    contents = {file: read_file("--overlay", file) for file in files}
    known = {*tracking_keys(key.get("tracking")), *(_top(name) for base in bases for name in contents[base])}
    _check_options(key, known)
    read = _read_keys(contents.values(), known)
    for file in overlays:
        for name in contents[file]:
            if _top(name) not in read:
                near = did_you_mean(close_ids(_top(name), known))
                where = " and ".join(f"configs/{Path(base).name}" for base in bases)
                shown = Path(file).stem if Path(file).parent == CONFIGS else file
                raise UsageError(f"--overlay {shown}: unknown key '{name}', not used by {where}{near}")
    return files, {name: value for file in overlays for name, value in contents[file].items()}


def _check_options(key: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise UsageError for a misspelt option of these commands, which arrives as an unknown key."""
    for name in key:
        near = [f"--{option}" for option in get_close_matches(name, OPTIONS, n=1, cutoff=0.7)]
        if near and name not in known:
            raise UsageError(f"unknown key '{name}'{did_you_mean(near)}")


def _overlay_file(name: str) -> str:
    """Find an overlay: a file, or a name in `configs`; UsageError if there is none."""
    path = Path(name).expanduser()
    if path.is_file() and path.suffix:
        return str(path)
    own = {file.stem: file for file in sorted(CONFIGS.glob("*.yaml")) if file.stem not in WORKFLOWS}
    if path.name.removesuffix(".yaml") in own and path.parent in (Path(), Path("configs")):
        return str(own[path.name.removesuffix(".yaml")])
    hint = did_you_mean(get_close_matches(path.stem, own, n=2)) or f"; give a file, or {', '.join(own)}"
    raise UsageError(f"--overlay {name} does not exist{hint}")


def _top(name: str) -> str:
    """Return the first part of a key in a file: +train#handlers -> train."""
    return re.split("#|::", name.lstrip("+"))[0]


def _read_keys(contents: Iterable[Mapping[str, Any]], start: Collection[str]) -> set[str]:
    """Follow references from the keys `start` through the contents of files; return all keys on the way."""
    references: dict[str, set[str]] = {}
    for name, value in (entry for content in contents for entry in content.items()):
        found = {reference for text in _texts(value) for reference in REFERENCE.findall(text)}
        references.setdefault(_top(name), set()).update(found)
    read, waiting = set(READ_BY_MONAI), set(start)
    while waiting:
        name = waiting.pop()
        read.add(name)
        waiting |= references.get(name, set()) - read
    return read


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in nested dicts and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _value(id: str, files: list[str], changes: Mapping[str, Any]) -> Any:
    """Compute the value of a key in a changed configuration."""
    parser = ConfigParser(merge_files("--config_file", files))
    known = {**tracking_keys(changes.get("tracking")), **parser.get()}
    changes = {name: value for name, value in changes.items() if name not in FIXED}
    parser.update(check_overrides(known, changes))
    return parser.get_parsed_content(id)


def _tell(line: str) -> None:
    """Print a line, of several processes in the first only."""
    if os.environ.get("RANK", "0") == "0":
        print(line)
