"""`train`, `evaluate`, `segment` and `rank`: short commands for the workflows in configs/, run by the strict `run`.

Values on the command line win over overlays. Overlays win over the defaults of these commands.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .configuration import ROOT, merge, merge_files, read_file
from .errors import RunError, UsageError, did_you_mean
from .overrides import MARKS, OF_PLANS, WORDS, check_overrides
from .package import library_module, library_package
from .plan import (
    KNOWN,
    LABELLED,
    anew,
    check_exists,
    check_plain,
    existing_plan,
    note_of,
    plan_for_training,
    read_plan,
    results_of,
)
from .program import CALLED_AS, command_line
from .run import FIXED, run, tracking_keys
from .settings_list import help_text
from .terminal import printable
from .weights import named_weights

CONFIGS = ROOT / "configs"
WORKFLOWS = ("train", "evaluate", "inference")  # files of CONFIGS that are no overlays
TRAIN, EVALUATE, INFERENCE = (str(CONFIGS / f"{name}.yaml") for name in WORKFLOWS)
RANK, PREVIEW, LARGE = (str(CONFIGS / f"{name}.yaml") for name in ("rank", "preview", "large"))
WEIGHTS = str(ROOT / "models" / "model.pt")  # of this bundle
OF_RUN = {*FIXED, "args_file"} - {"meta_file", "logging_file", "tracking"}  # arguments that only `run` takes
OPTIONS = ("output", "overlay", "plan", "weights", "trace")
EXPORTED = "an exported network; segment takes it as --backend, other commands need the weights (.pt) themselves"
STATE = "training_state.pt"  # of a training, in model_dir
RANKING = ("rank", "image", "score")  # columns of a ranking
NOT_LARGE = {  # keys of inference.yaml without a meaning in large.yaml: what the result has
    **dict.fromkeys(("save_overlays", "overlay_labels"), "has no pictures; viewers open it"),
    "save_uncertainty": "has no uncertainty",
    "save_classes": "always has the classes",
    "class_map_values": "has the numbers of the classes",
    "skip_finished": "always goes on where the last run ended",
    "tile_progress": "shows blocks",
}
NO_WEIGHTS = {  # by suffix
    **dict.fromkeys((".onnx", ".ts", ".pt2"), EXPORTED),
    ".json": "the settings of weights; give the file of weights beside it (.pt)",
}


def train(
    dataset: str,
    *,
    output: str | None = None,
    overlay: str | list[str] | None = None,
    plan: str | None = None,
    trace: bool = False,
    **key: Any,
) -> None:
    """Train the network on images with labels.

    Runs configs/train.yaml with the plan of the data set: DATASET/plan.yaml, made if there is none. Writes the best
    weights (model.pt), the state to resume from, curves and split to OUTPUT. Every key of the configuration can be set,
    for example --label_kind instances. --from (or --finetune) starts from trained weights: a file, or the name of
    published weights such as em.

    Values on the command line win over overlays, overlays over the plan. With --overlay or --resume, an existing plan
    is used, and none is made.

    Examples:
        python -m bundle train data/cells
        python -m bundle train data/cells --max_minutes 60
        python -m bundle train data/cells --resume true
        python -m bundle train data/cells --plan false --label_kind instances --overlay variant_fast --max_minutes 30

    Args:
        dataset: folder with images/ and labels/ of equal names, a folder with a pair like train-volume.tif and
            train-labels.tif, or a datalist (.json).
        output: folder for the results. Default: output/<name of DATASET>.
        overlay: name (variant_fast) or file of changes to the configuration. Several: a,b.
        plan: false: train without a plan. A file: that plan. Default: the plan of the data set.
        trace: show the full trace of an error.
        key: keys of the configuration and their new values, listed below with types and defaults.
    """
    if "weights" in key:  # in train.yaml, the key of the weight map
        raise UsageError("train takes no --weights; start from weights with --from, or continue with --resume true")
    # the word "from" is a keyword of Python, and no name of an argument
    start = named_weights("--from", key.pop("from", None))
    check_exists("DATASET", dataset, LABELLED)
    files, overlaid = _with_overlays(overlay, [TRAIN], key)
    paths = {"dataset_dir": ("DATASET", dataset), "output_dir": ("--output", output)}
    changes = _changes(key, **paths, finetune=("--from", start))
    if "output_dir" in changes:
        changes.setdefault("model_dir", changes["output_dir"])
    folder = str(results_of(dataset))
    changes = {name: folder for name in ("output_dir", "model_dir") if name not in overlaid} | changes
    _find_weights("finetune", changes, "--finetune" if start is None else "--from")
    config = _check(files, changes)  # before a plan is made
    if config["resume"] is True and not str(config["model_dir"]).startswith(MARKS):
        _refuse(library_package("handlers").check_state_file, Path(config["model_dir"], STATE))
    files, changes = _with_plan(dataset, plan, files, overlaid, changes)
    weights_folder, results = _run("training", files, changes, trace, "model_dir", "output_dir")
    weights = str(weights_folder / "model.pt")
    _tell(f"weights: {weights}")
    _tell_pictures(results, "panel.png", "curves.png")
    if library_package("handlers").nothing_found(results / "history.csv", weights):
        _tell(f"next: {command_line('report', str(results))}")
    else:
        _tell(f"next: {command_line('segment', 'my/images', '--weights', weights)}")


def _with_plan(
    dataset: str, asked: str | None, files: list[str], overlaid: Mapping[str, Any], changes: dict[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Put the plan of a data set, and the overlays that it names, between train.yaml and the overlays of the user.

    Returns:
        all files in order; the changes of the command line, with those that follow from them.
    """
    resumes = str(changes.get("resume", overlaid.get("resume", False))).lower() == "true"
    folder = changes.get("output_dir")
    known = Path(folder) if isinstance(folder, str) and not folder.startswith(MARKS) else None
    unchecked = changes.get("check_labels") in ("warn", "off", False)
    try:
        file, is_new, lines = plan_for_training(dataset, asked, known, changes, makes=len(files) == 1 and not resumes)
    except RunError as error:
        if not unchecked:
            raise
        file, is_new, lines = None, False, [f"{error}. Training without a plan"]
    for line in lines:
        _tell(f"plan: {line}")
    if file is None:
        return files, changes
    content, users = read_plan(file, dataset), files[1:]
    recipe = [_overlay_file(name) for name in note_of(file, dataset).get("overlays", [])]
    own = "optimizer" in overlaid  # a recipe of the user
    if is_new:
        _tell(file.read_text(encoding="utf-8").rstrip())
        _tell(f"plan: {file}\n")
    else:
        given = {name: changes[name] for name in KNOWN if name in changes}
        _tell(f"plan: {file}, {len(content.keys() - {OF_PLANS})} settings. For a new plan: {anew(dataset, given)}")
    if isinstance({**overlaid, **changes}.get("max_epochs"), int) and "max_minutes" not in {**overlaid, **changes}:
        changes["max_minutes"] = None  # the length is given in epochs
    if changes.get("finetune") is not None:  # the weights know their own scaling, and the names of their classes
        names = [] if content.get("label_kind") == "classes" else ["class_names"]
        changes = dict.fromkeys({"intensity", "flatten", *names} - overlaid.keys()) | changes
    return [files[0], *([] if own else recipe), str(file), *users], changes


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
        weights: file of weights, or the name of published weights. Default: em, for membranes in electron micrographs.
        output: folder for the results. Default: output/evaluation/<name of DATASET>.
        overlay: name (data_nuclei) or file of changes to the configuration. Several: a,b.
        trace: show the full trace of an error.
        key: keys of the configuration and their new values, listed below with types and defaults.
    """
    for name in {"finetune", "from"} & key.keys():
        raise UsageError(f"evaluate takes no --{name}; name the weights to measure with --weights")
    check_exists("DATASET", dataset, LABELLED)
    files, overlaid = _with_overlays(overlay, [TRAIN, EVALUATE], key)
    own = read_file("--config_file", EVALUATE).keys() - {"run"}  # evaluate.yaml comes after the overlays
    paths = {"dataset_dir": ("DATASET", dataset), "ckpt_path": ("--weights", named_weights("--weights", weights))}
    changes = {name: overlaid[name] for name in own & overlaid.keys()}
    changes |= _changes(key, **paths, evaluation_dir=("--output", output))
    if not {"output_dir", "evaluation_dir"} & changes.keys():
        changes["evaluation_dir"] = str(_evaluation_folder(dataset))
    if "evaluation_dir" in changes:
        changes.setdefault("output_dir", changes["evaluation_dir"])
    changes = {"ckpt_path": WEIGHTS, "split_rule": "all"} | changes
    _find_weights("ckpt_path", changes)
    changes = _files_of_plan(dataset, overlaid) | changes
    (results,) = _run("evaluating", files, changes, trace, "evaluation_dir")
    _tell(f"results: {results}")
    _tell_pictures(results, "panels", "object_iou.png", "threshold_curves.png")


def _evaluation_folder(dataset: str) -> Path:
    """Return output/evaluation/<name of the data set>.

    Raises:
        UsageError: the folder holds the evaluation of another data set of this name.
    """
    folder = Path("output") / "evaluation" / results_of(dataset).name
    try:
        measured = str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, TypeError, KeyError):
        return folder
    if os.path.realpath(measured) != os.path.realpath(Path(dataset).expanduser()):
        where = "which has the same name" if os.path.exists(measured) else "moved, or of another machine"
        raise UsageError(f"{folder} holds the evaluation of {measured}, {where}. Give --output FOLDER, or move it away")
    return folder


def _files_of_plan(dataset: str, overlaid: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a plan beside the data that find its files, such as datalist#image_dir."""
    file = existing_plan(dataset, None)
    if file is None:
        return {}
    check_plain(file, dataset)
    content = read_plan(file, dataset)
    return {name: content[name] for name in library_package("planning").OF_LISTS if name in content.keys() - overlaid}


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

    An OUTPUT that ends in .zarr is for one image of any size, also larger than memory: see configs/large.yaml. Killed,
    the same command goes on.

    Examples:
        python -m bundle segment my/images
        python -m bundle segment my/stack.tif --weights output/cells/model.pt --output my/segmentation --min_area 50
        python -m bundle segment big.ome.zarr --output big_segmented.ome.zarr

    Args:
        path: an image, a stack, a folder of images, or a plane of a stack (stack.tif#page=3).
        output: folder for the results. Default: output/segmentation. For one large image a name that ends in .zarr.
        weights: file of weights, or the name of published weights. Default: em, for membranes in electron micrographs.
        overlay: name or file of changes to the configuration. Several: a,b.
        trace: show the full trace of an error.
        key: keys of the configuration and their new values, listed below with types and defaults.
    """
    if _to_zarr(path, output, key):
        large = _to_segment(path, weights, overlay, [INFERENCE, LARGE], key, output_dir=("--output", output))
        config = _check(*large)
        paths = (config["dataset_dir"], config["output_dir"])
        _refuse(library_package("large").check_output, *paths, config["overwrite"] is True)
        try:
            (result,) = _run("run", *large, trace, "output_dir")
        except KeyboardInterrupt as stop:
            without = ", without --overwrite" if key.get("overwrite") else ""
            stop.remedy = f"; the same command goes on{without}"  # type: ignore[attr-defined]
            raise
        _tell(f"results: {result}")
        stem = result.name.removesuffix(".zarr").removesuffix(".ome")
        tables = (f"{stem}.{kind}.csv" for kind in ("objects", "images"))
        _tell_pictures(result.parent, *tables)
        return
    files, changes = _to_segment(path, weights, overlay, [INFERENCE], key, output_dir=("--output", output))
    (results,) = _run("inference", files, changes, trace, "output_dir")
    _tell(f"results: {results}")
    _tell_pictures(results, "overlays", "objects.csv", "images.csv")


def _to_zarr(path: str, output: str | None, key: Mapping[str, Any]) -> bool:
    """Decide whether an image is segmented block by block, into OME-Zarr.

    Raises:
        UsageError: a folder of images, an output, or keys that only one of both ways takes.
    """
    suffix = "" if output is None else Path(output).suffix
    zarr = suffix == ".zarr"
    if not zarr and get_close_matches(suffix.lower(), [".zarr"], cutoff=0.8):
        raise UsageError(
            f"--output {output} ends in {suffix}; did you mean '{Path(str(output)).with_suffix('.zarr')}'?"
        )
    if zarr and _is_plain_folder(Path(path)):
        raise UsageError(
            f"{path} is a folder; an --output that ends in .zarr takes one image. Give an image of the folder"
        )
    if Path(path).suffix == ".zarr" and not zarr:
        given = "" if output is None else f", got {output}"
        raise UsageError(f"{path} is segmented block by block; give --output a name that ends in .ome.zarr{given}")
    ours = read_file("--config_file", LARGE).keys() - {"output_dir", "memory_limit", "large", "run"}
    for name in key.keys() & ours if not zarr else ():
        raise UsageError(f"--{name} is for large images; give --output a name that ends in .ome.zarr, too")
    for name in key.keys() & set(NOT_LARGE) if zarr else ():
        raise UsageError(f"--{name} is for results in files; an --output that ends in .zarr {NOT_LARGE[name]}")
    return zarr


def _is_plain_folder(path: Path) -> bool:
    """Check for a folder without the name and metadata of Zarr."""
    metadata = (".zgroup", ".zarray", ".zattrs", "zarr.json")
    return path.suffix != ".zarr" and path.is_dir() and not any((path / name).exists() for name in metadata)


def rank(
    path: str,
    *,
    output: str | None = None,
    weights: str | None = None,
    overlay: str | list[str] | None = None,
    trace: bool = False,
    **key: Any,
) -> None:
    """Sort images by what is most worth annotating next.

    Runs configs/inference.yaml and configs/rank.yaml. Segments without writing segmentations, prints the first images,
    and writes rank, image and score of all images to OUTPUT. A high score: the objects are uncertain.

    Examples:
        python -m bundle rank my/images --weights output/cells/model.pt
        python -m bundle rank my/images --weights output/cells/model.pt --output my/ranking.csv --orientations 8

    Args:
        path: a folder of images, or a stack.
        output: file for the table. Default: output/ranking/ranking.csv.
        weights: file of weights, or the name of published weights. Default: em, for membranes in electron micrographs.
        overlay: name or file of changes to the configuration. Several: a,b.
        trace: show the full trace of an error.
        key: keys of the configuration and their new values, listed below with types and defaults.
    """
    unused = sorted(name for name in key if name.startswith("save_") or name == "skip_finished")
    if unused:
        raise UsageError(f"rank takes no --{unused[0]}, since no segmentation is written. Use segment")
    files, changes = _to_segment(path, weights, overlay, [INFERENCE, RANK], key)
    if output is not None:
        if Path(output).suffix != ".csv" or Path(output).is_dir():
            raise UsageError(f"--output {output}: expected a file that ends in .csv")
        _refuse(library_package("io").check_table, Path(output).expanduser(), RANKING)
        changes["saver#path"] = os.path.join(os.curdir, Path(output).expanduser())
    (table,) = _run("inference", files, changes, trace, "saver#path")
    _tell(f"ranking: {table}")


def run_preview(
    dataset: str,
    overlay: str | list[str] | None,
    plan: str | None,
    output: str | None,
    images: int,
    trace: bool,
    key: Mapping[str, Any],
) -> Path:
    """Run configs/train.yaml and configs/preview.yaml. Arguments as in `preview`. Return the file of the page."""
    if "weights" in key:  # in train.yaml, the key of the weight map
        raise UsageError("preview takes no --weights; fine-tuning shows the same images with --from")
    key = dict(key)
    start = named_weights("--from", key.pop("from", None))
    check_exists("DATASET", dataset, LABELLED)
    files, overlaid = _with_overlays(overlay, [TRAIN, PREVIEW], key)
    changes = _changes(key, dataset_dir=("DATASET", dataset), finetune=("--from", start))
    changes = ({} if "output_dir" in overlaid else {"output_dir": str(results_of(dataset))}) | changes
    _find_weights("finetune", changes, "--finetune" if start is None else "--from")
    if output is not None:
        if Path(output).suffix.lower() not in (".html", ".htm") or Path(output).is_dir():
            raise UsageError(f"--output {output}: expected a file that ends in .html")
        _refuse(library_package("reporting").check_page, Path(output).expanduser())
        changes["preview#path"] = os.path.join(os.curdir, Path(output).expanduser())
    _check(files, changes)  # before a plan is made
    planned, changes = _with_plan(dataset, plan, files[:-1], overlaid, changes)
    (page,) = _run("run", [*planned, PREVIEW], changes | {"preview#images": images}, trace, "preview#path")
    return page


def keys_help(workflow: str) -> str:
    """List the keys of a workflow, with type, default and meaning.

    Args:
        workflow: train, evaluate or inference.

    Example:
        >>> "--momentum: a number of at least 0 and below 1. Default: 0.99" in keys_help("train")
        True
    """
    files = ("train", "evaluate") if workflow == "evaluate" else (workflow,)
    return help_text({name: read_file("--config_file", str(CONFIGS / f"{name}.yaml")) for name in files}, workflow)


def _to_segment(
    path: str,
    weights: str | None,
    overlay: str | list[str] | None,
    bases: list[str],
    key: Mapping[str, Any],
    **paths: tuple[str, str | None],
) -> tuple[list[str], dict[str, Any]]:
    """Find images and weights of a workflow of inference.yaml. Return all configuration files, and the changes."""
    check_exists("PATH", path, "an image, a stack or a folder of images")
    files, overlaid = _with_overlays(overlay, bases, key)
    paths = {"dataset_dir": ("PATH", path), "ckpt_path": ("--weights", named_weights("--weights", weights)), **paths}
    changes = _changes(key, **paths)
    if "ckpt_path" not in overlaid:
        changes.setdefault("ckpt_path", WEIGHTS)
    if "backend" not in {**overlaid, **changes}:
        _find_weights("ckpt_path", changes)
    return files, changes


def _changes(key: Mapping[str, Any], **paths: tuple[str, str | None]) -> dict[str, Any]:
    """Join keys of the command line with paths, each (option, path), under their keys.

    Raises:
        UsageError: an argument of `run`, a key given twice, or a file as folder for the results.
    """
    for name in OF_RUN & key.keys():
        raise UsageError(f"--{name} cannot be changed; give --overlay, or use {CALLED_AS.get()} run")
    changes = dict(key)
    for name, (option, path) in paths.items():
        if path is None:
            continue
        if name in key:
            raise UsageError(f"--{name} and {option} are the same; give only {option}")
        if option == "--output" and Path(path).expanduser().is_file():
            raise UsageError(f"--output {path} is a file; give a folder")
        changes[name] = os.path.join(os.curdir, Path(path).expanduser())  # ./$x and ./null are no expressions
    return changes


def _find_weights(key: str, changes: dict[str, Any], option: str = "--weights") -> None:
    """Check that the weights under a key exist. Names and models/model.pt become the paths of this bundle's files.

    Raises:
        UsageError: there is no such file. Expressions pass.
    """
    given = changes.get(key)
    if not isinstance(given, str) or given.startswith(MARKS) or given.lower() in WORDS:
        return
    path = Path(str(named_weights(option, given)))
    if path.suffix.lower() in NO_WEIGHTS:
        raise UsageError(f"{option} {given}: {NO_WEIGHTS[path.suffix.lower()]}")
    own = path if path.is_file() else ROOT / path
    if own.is_file():
        changes[key] = os.path.join(os.curdir, own)  # ./$x.pt is no expression
        return
    folder = path if path.is_dir() else path.parent
    near = [str(other) for other in sorted(folder.glob("*.pt")) if not other.name.startswith("training_state.")]
    hint = did_you_mean(near[:3]) or f". {library_module('published').listed()}"
    raise UsageError(f"{option} {path} is no file{hint}")


def _with_overlays(given: str | list[str] | None, bases: list[str], key: Mapping[str, Any]) -> tuple[list[str], Any]:
    """Put overlays, names or files, after the first file of the workflow.

    Returns:
        all files in order; keys and values of the overlays.

    Raises:
        UsageError: an overlay does not exist or cannot be read; a misspelt option of these commands, which arrives as a
            key. `run` checks the keys of overlays.
    """
    names = given.strip("[]").split(",") if isinstance(given, str) else given or []
    overlays = {file: read_file("--overlay", file) for file in map(_overlay_file, names)}
    known = {_top(name) for base in bases for name in read_file("--config_file", base)}
    known.update(tracking_keys(key.get("tracking")))
    options = (*OPTIONS, "from") if bases == [TRAIN] else OPTIONS
    for name in key.keys() - known:
        near = get_close_matches(name, [*options, *known], n=1, cutoff=0.7)
        if near and near[0] in options:
            raise UsageError(f"unknown key '{name}'{did_you_mean(f'--{option}' for option in near)}")
    return [bases[0], *overlays, *bases[1:]], {name: content[name] for content in overlays.values() for name in content}


def _overlay_file(name: str) -> str:
    """Find an overlay: a file, or a name in `configs`; UsageError if there is none."""
    path = Path(str(name).strip()).expanduser()
    if path.is_file() and path.suffix:
        return str(path)
    own = {file.stem: str(file) for file in sorted(CONFIGS.glob("*.yaml")) if file.stem not in WORKFLOWS}
    stem = path.name.removesuffix(".yaml")
    if stem in own and path.parent in (Path(), Path("configs")):
        return own[stem]
    hint = did_you_mean(get_close_matches(path.stem, own, n=2)) or f"; give a file, or {', '.join(own)}"
    raise UsageError(f"--overlay {path} does not exist{hint}")


def _top(name: str) -> str:
    """Return the first part of a key in a file: +train#handlers -> train."""
    return re.split("#|::", name.lstrip("+"))[0]


def _run(run_id: str, files: list[str], changes: Mapping[str, Any], trace: bool, *results: str) -> list[Path]:
    """Run a workflow. Return the folders or files under the keys `results`."""
    run(run_id, config_file=files, trace=trace, **changes)
    from monai.bundle import ConfigParser  # after all checks, since the import takes seconds

    parser = ConfigParser(_check(files, changes))
    return [Path(parser.get_parsed_content(key)) for key in results]


def _check(files: list[str], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Check the changes of a command line. Return the configuration with all changes."""
    config = merge_files("--config_file", files)
    known = {**tracking_keys(changes.get("tracking")), **config}
    merge(config, check_overrides(known, {name: changes[name] for name in changes if name not in FIXED}))
    return config


def _refuse(check: Callable[..., None], *given: Any) -> None:
    """Let the library check files before torch is loaded. The run checks again. UsageError as said by the check."""
    try:
        check(*given)
    except (ValueError, FileExistsError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error


def _tell_pictures(folder: Path, *names: str) -> None:
    """Name files and folders to open, if they exist."""
    there = [name + os.sep * (folder / name).is_dir() for name in names if (folder / name).exists()]
    if there:
        _tell(f"look at: {', '.join(there)} in {folder}")


def _tell(line: str) -> None:
    """Print a line, of several processes in the first only."""
    if os.environ.get("RANK", "0") == "0":
        print(printable(line))
