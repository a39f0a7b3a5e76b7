"""The folders that MONAI Label serves from: its app, and in it the bundle in the shape that it takes.

    <app>/monaibundle/                       MONAI Label's app, copied out of its wheel, with our main.py
        model/original_unet_segmentation/    its name says "segmentation", from which MONAI Label takes the task
            configs/                         inference.yaml, train.yaml (one file each, nothing beside), metadata.json
            scripts                          a link to the bundle's own
            models/model.pt                  a copy: training overwrites it

MONAI Label takes the shortest name in models/ for the weights, hence a folder of their own.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from bundle.errors import RunError, UsageError
from bundle.running.overrides import check_overrides
from scripts.handlers.checkpoints import load_weights
from scripts.io.files import replacing

ROOT = Path(__file__).resolve().parents[2]
APP = "monaibundle"  # name of MONAI Label's app for bundles
NAME = "original_unet_segmentation"
IN_FOLDER = {  # whatever an overlay says: where MONAI Label looks for weights, and figures beside them
    "inference": {"ckpt_path": "models/model.pt", "output_dir": "output/segmentation"},
    "training": {"model_dir": "models", "output_dir": "output/train"},
}
KINDS = ("inference", "training")


def read_configs(
    inference: Sequence[str | Path], training: Sequence[str | Path], overrides: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Merge what is to be served.

    Args:
        inference: configuration files, the later ones over the earlier.
        training: likewise.
        overrides: id -> value, for whichever of the two knows it.

    Returns:
        {"inference": configuration, "training": configuration}. Unless the overrides say otherwise, the kind of labels
        to train with is the one that is served, and a training keeps the weights that it starts from until it has found
        better ones.

    Raises:
        UsageError: no such file, or a key that neither knows.
    """
    configs = {}
    for kind, files in zip(KINDS, (inference, training), strict=True):
        missing = [str(name) for name in files if not Path(name).is_file()]
        if missing or not files:
            raise UsageError(f"--{kind}: no configuration at {', '.join(missing) or 'all'}; give YAML or JSON files")
        configs[kind] = ConfigParser.load_config_files([str(name) for name in files])
    for id, value in overrides.items():
        refusals = []
        for config in configs.values():
            try:
                (checked,) = check_overrides(config, {id: value}).values()
            except UsageError as error:
                refusals.append(error)
            else:
                _set(config, id, checked)
        if len(refusals) == len(configs):
            raise refusals[0]
    for kind, config in configs.items():
        config.update({id: f"$@bundle_root + '/{place}'" for id, place in IN_FOLDER[kind].items()})
    # MONAI Label sets what trains and what validates; 3D Slicer asks it for the empty run id, which evaluates every key
    configs["training"].update({"datalist": [], "split": {"training": [], "validation": []}})
    if "validate_first" not in overrides:
        configs["training"]["validate_first"] = True
    if "label_kind" not in overrides:
        classes = "binary" if len(configs["inference"]["class_names"]) == 2 else "classes"
        configs["training"]["label_kind"] = "instances" if configs["inference"]["served_instances"] else classes
    return configs


def check_weights(config: Mapping[str, Any], weights: Path, kind: str) -> None:
    """Load weights into the network of a configuration, all of them: MONAI Label itself goes on with random ones.

    Raises:
        UsageError: no file, or one that does not fit.
    """
    if not weights.is_file():
        raise UsageError(
            f"no weights at {weights}: train some (make demo writes demo/models/model.pt; python -m bundle run "
            "training --config_file configs/train.yaml writes models/model.pt), or say --weights FILE"
        )
    try:
        load_weights(ConfigParser(dict(config)).get_parsed_content("network_def"), weights)
    except ValueError as error:
        raise UsageError(f"{error} (--{kind} names the files of the {kind} configuration)") from error


def prepare_app(app: Path, python: Path) -> Path:
    """Copy MONAI Label's app for bundles out of its wheel, once, and put our main.py into it.

    Args:
        app: folder for apps; made if absent.
        python: interpreter of the environment that holds MONAI Label.

    Returns:
        the folder of the app.

    Raises:
        UsageError: a folder of that name that this command did not make.
        RunError: MONAI Label could not be run.
    """
    folder = app / APP
    theirs = folder / f"{APP}.py"
    if not theirs.is_file():
        if folder.exists():  # somebody's own app, or what is left of one: it may hold weights
            raise UsageError(f"{folder} is there and was not made by this command; choose another --app, or remove it")
        command = [str(python), "-m", "monailabel.main", "apps", "--download", "--name", APP, "--output", str(app)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not (folder / "main.py").is_file():
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise RunError(f"MONAI Label's app could not be copied by {' '.join(command)}: {' '.join(lines[-1:])}")
        (folder / "main.py").rename(theirs)
    with replacing(folder / "main.py") as temporary:
        shutil.copyfile(Path(__file__).with_name("label_app.py"), temporary)
    return folder


def prepare_bundle(
    folder: Path, configs: Mapping[str, Mapping[str, Any]], weights: Path | None, overwrite: bool
) -> Path:
    """Make or renew the bundle that the app serves.

    Args:
        folder: of the app.
        configs: what `read_configs` gives.
        weights: file to serve; None: those that are there, else the bundle's own models/model.pt.
        overwrite: whether other weights that are there, perhaps trained by clients, may be replaced.

    Returns:
        the folder of the served bundle.

    Raises:
        UsageError: weights missing, not fitting, or about to be lost.
    """
    served = folder / "model" / NAME
    target = served / "models" / "model.pt"
    source = weights or (target if target.is_file() else ROOT / "models" / "model.pt")
    for kind in KINDS:
        check_weights(configs[kind], source, kind)
    if source != target:
        if target.is_file() and not filecmp.cmp(source, target, shallow=False) and not overwrite:
            raise UsageError(
                f"{target} holds other weights than {source}, perhaps trained by clients: leave out --weights to serve "
                "them, --overwrite to replace them, or choose another --app"
            )
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    for kind, name in zip(KINDS, ("inference.yaml", "train.yaml"), strict=True):
        with replacing(served / "configs" / name) as temporary:
            ConfigParser.export_config_file(dict(configs[kind]), str(temporary), fmt="yaml", sort_keys=False)
    with replacing(served / "configs" / "metadata.json") as temporary:
        temporary.write_text(json.dumps(_metadata(configs["inference"]), indent=4), encoding="utf-8")
    shutil.copyfile(ROOT / "configs" / "logging.conf", served / "configs" / "logging.conf")
    _link(ROOT / "scripts", served / "scripts")
    return served


def _metadata(inference: Mapping[str, Any]) -> dict[str, Any]:
    """The bundle's metadata with the classes that are served.

    Class 0 is called background, whatever it shows: MONAI Label leaves out a class of this name, and its clients number
    the other names from 1 in their order, so that "membrane" would stand for the pixels of the cells.
    """
    metadata: dict[str, Any] = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    classes = ["background", *inference["class_names"][1:]]
    formats = metadata["network_data_format"]
    formats["inputs"]["image"]["num_channels"] = inference["in_channels"]
    formats["outputs"]["pred"]["num_channels"] = len(classes)
    formats["outputs"]["pred"]["channel_def"] = {str(number): name for number, name in enumerate(classes)}
    return metadata


def _set(config: dict[str, Any], id: str, value: Any) -> None:
    """Put a value where `id` says."""
    parser = ConfigParser(config)
    parser[id.replace("::", "#")] = value
    config.update(parser.get())


def _link(source: Path, target: Path) -> None:
    """A link to a folder, or a copy of it where links cannot be made."""
    if target.is_symlink():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
