"""Prepare MONAI Label's app, and the bundle inside the app.

    <app>/monaibundle/                       MONAI Label's app, with main.py from this project
        guard/, guard.json                   checks of requests; who may call the server
        work/                                empty: the server's working folder
        tmp/, sessions/                      uploaded files
        model/original_unet_segmentation/    MONAI Label reads the task from the name
            configs/                         inference.yaml and train.yaml (overlays merged), metadata.json
            scripts                          link to the bundle's scripts
            models/model.pt, model.json      copy of the weights and their settings; training replaces both

MONAI Label loads the file with the shortest name in models/: model.pt, not model.1.pt of an earlier training.
"""

from __future__ import annotations

import copy
import filecmp
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from bundle.labelling.guard.allowed import check_keys
from bundle.labelling.guard.keys import Options, Refused, Served
from bundle.publishing.layout import NAME, WEIGHTS
from bundle.running.errors import RunError, UsageError
from bundle.running.failures import explain
from bundle.running.overrides import check_overrides
from bundle.running.run import ROOT
from scripts.handlers.checkpoints import load_weights
from scripts.io.files import replacing
from scripts.settings import ModelSettings, settings_path

APP = "monaibundle"  # MONAI Label's app for bundles
FILES = {"inference": "inference.yaml", "training": "train.yaml"}
IN_FOLDER = {  # stronger than overlays, because MONAI Label looks for weights here
    "inference": {"ckpt_path": WEIGHTS, "output_dir": "output/segmentation"},
    "training": {"model_dir": "models", "output_dir": "output/train"},
}


def read_configs(
    inference: Sequence[str | Path], training: Sequence[str | Path], overrides: Mapping[str, Any], weights: Path
) -> dict[str, dict[str, Any]]:
    """Merge the configurations to serve. Network, classes and so on are those of the weights.

    Training expects the kind of labels that inference serves (`label_kind`). Training validates before the first epoch
    (`validate_first`), because only better weights may replace the served weights. Unusual labels are warned of
    (`check_labels`), because clients submit the first labels early. The three keys can be overridden.

    Args:
        inference, training: configuration files; later files override earlier ones.
        overrides: ID -> value. Every configuration with the ID is changed.
        weights: file of the weights to serve.

    Returns:
        {"inference": configuration, "training": configuration}.

    Raises:
        UsageError: a file does not exist, both configurations lack an ID, or a value contradicts the weights.

    Example:
        >>> inference, training = ROOT / "configs" / "inference.yaml", ROOT / "configs" / "train.yaml"
        >>> configs = read_configs([inference], [training], {"orientations": 4}, ROOT / "models" / "model.pt")
        >>> configs["inference"]["orientations"], configs["training"]["label_kind"]
        (4, 'binary')
    """
    configs: dict[str, dict[str, Any]] = {}
    for kind, files in zip(FILES, (inference, training), strict=True):
        missing = [str(name) for name in files if not Path(name).is_file()]
        if missing or not files:
            raise UsageError(f"--{kind}: no configuration at {', '.join(missing) or 'all'}; give YAML or JSON files")
        configs[kind] = ConfigParser.load_config_files([str(name) for name in files])
    for id, value in overrides.items():
        refusals = []
        for config in configs.values():
            try:
                ConfigParser(config).update(check_overrides(config, {id: value}))
            except UsageError as error:
                refusals.append(error)
        if len(refusals) == len(configs):
            raise refusals[0]
    for kind, config in configs.items():
        _check_settings(config, kind)
        config.update({id: f"$@bundle_root + '/{place}'" for id, place in IN_FOLDER[kind].items()})
    # MONAI Label sets both lists. 3D Slicer starts a training with the empty run ID: MONAI evaluates all keys.
    configs["training"].update({"datalist": [], "split": {"training": [], "validation": []}})
    configs["training"]["settings"]["weights"] = f"$@bundle_root + '/{WEIGHTS}'"  # training starts there
    if "check_labels" not in overrides:  # a first label may be empty, a stroke, or one object in pieces
        configs["training"]["check_labels"] = "warn"
    if "validate_first" not in overrides:
        configs["training"]["validate_first"] = True
    if "label_kind" not in overrides:
        settings = settings_of(configs["inference"], weights)
        classes = "binary" if len(settings.class_names) == 2 else "classes"
        configs["training"]["label_kind"] = "instances" if configs["inference"]["served_instances"] else classes
    return configs


def _check_settings(config: dict[str, Any], kind: str) -> None:
    """Check all keys, also of overlays, and take the check out: MONAI Label adds keys of its own to the configuration.

    Raises:
        UsageError: an unknown key, a wrong type or range.
    """
    if "checks" not in config:  # a configuration of the user's own
        return
    try:
        ConfigParser(copy.deepcopy(config)).get_parsed_content("checks")
    except RuntimeError as error:  # MONAI's, around the cause
        raise UsageError(f"{explain(error)} (--{kind} names the files of the {kind} configuration)") from error
    config["checks"] = None


def settings_of(inference: Mapping[str, Any], weights: Path) -> ModelSettings:
    """Return the settings that a configuration for inference has with some weights.

    Raises:
        UsageError: the configuration contradicts the weights, or the file beside the weights is not theirs.

    Example:
        >>> inference = ConfigParser.load_config_file(ROOT / "configs" / "inference.yaml")
        >>> settings_of(inference, ROOT / "models" / "model.pt").class_names
        ['membrane', 'cell']
    """
    parser = ConfigParser({**inference, "ckpt_path": weights})
    try:
        settings: ModelSettings = parser.get_parsed_content("settings")
    except RuntimeError as error:  # MONAI's, around the cause
        raise UsageError(explain(error)) from error
    return settings


def check_options(inference: Mapping[str, Any], weights: Path) -> None:
    """Check the server's own options: clients send them back.

    Raises:
        UsageError: an option outside the range for requests.
    """
    parser = ConfigParser({**inference, "ckpt_path": weights})
    shown = {
        name: parser.get_parsed_content(f"displayable_configs#{name}") for name in inference["displayable_configs"]
    }
    try:
        check_keys(Options, shown, Served(NAME, list), "the server's options")
    except Refused as error:
        raise UsageError(f"{error}. Clients could not use them") from error


def prepare_app(app: Path, python: Path, access: Mapping[str, Any]) -> Path:
    """Copy MONAI Label's app out of the installed package, once, and add main.py and the guard from this project.

    Args:
        app: folder for apps; made if absent.
        python: interpreter of MONAI Label's environment.
        access: who may call the server: the arguments of `bundle.labelling.guard`, and the name of the model.

    Returns:
        Folder of the app.

    Raises:
        UsageError: the folder exists, but was not made by this function.
        RunError: the environment lacks MONAI Label's app.
    """
    folder = app / APP
    theirs = folder / f"{APP}.py"
    if not theirs.is_file():
        if folder.exists():  # the folder may hold weights of another app
            raise UsageError(f"{folder} exists and was not made by this command; choose another --app, or remove it")
        source = python.parents[1] / "monailabel" / "sample-apps" / APP
        if not source.is_dir():
            raise RunError(f"MONAI Label's app is missing at {source}; make label-env builds an environment with it")
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("logs", "model", "__pycache__"))
        (folder / "main.py").rename(theirs)
    with replacing(folder / "main.py") as temporary:
        shutil.copyfile(Path(__file__).with_name("label_app.py"), temporary)
    shutil.rmtree(folder / "guard", ignore_errors=True)
    shutil.copytree(Path(__file__).with_name("guard"), folder / "guard", ignore=shutil.ignore_patterns("__pycache__"))
    with replacing(folder / "guard.json") as temporary:
        temporary.touch(mode=0o600)  # holds the token
        temporary.write_text(json.dumps(dict(access)), encoding="utf-8")
    (folder / "work").mkdir(exist_ok=True)
    shutil.rmtree(folder / "tmp", ignore_errors=True)  # MONAI Label leaves uploaded files of failed requests
    (folder / "tmp").mkdir(mode=0o700)
    return folder


def served_weights(app: Path, weights: Path | None) -> Path:
    """Return the file of weights to serve: the given one, else the weights in the app, else models/model.pt.

    Example:
        >>> served_weights(Path("no_app"), None).name
        'model.pt'
    """
    in_app = app / APP / "model" / NAME / WEIGHTS
    return weights or (in_app if in_app.is_file() else ROOT / WEIGHTS)


def prepare_bundle(folder: Path, configs: Mapping[str, Mapping[str, Any]], weights: Path, overwrite: bool) -> Path:
    """Make or renew the bundle inside the app.

    Args:
        folder: of the app.
        configs: from `read_configs`.
        weights: file to serve, see `served_weights`.
        overwrite: replace weights in the app, even if clients have trained them.

    Returns:
        Folder of the served bundle.

    Raises:
        UsageError: the weights do not exist or do not fit, or would replace other weights without `overwrite`.
    """
    served = folder / "model" / NAME
    target = served / WEIGHTS
    for kind in FILES:
        _check_weights(configs[kind], weights, kind)
    if weights != target:
        if target.is_file() and not filecmp.cmp(weights, target, shallow=False) and not overwrite:
            raise UsageError(
                f"{target} holds other weights than {weights}, perhaps trained by clients: leave out --weights to "
                "serve them, --overwrite to replace them, or choose another --app"
            )
        with replacing(target) as temporary:
            shutil.copyfile(weights, temporary)
        if settings_path(weights).is_file():
            with replacing(settings_path(target)) as temporary:
                shutil.copyfile(settings_path(weights), temporary)
        else:
            settings_path(target).unlink(missing_ok=True)
    for kind, name in FILES.items():
        with replacing(served / "configs" / name) as temporary:
            ConfigParser.export_config_file(dict(configs[kind]), str(temporary), fmt="yaml", sort_keys=False)
    with replacing(served / "configs" / "metadata.json") as temporary:
        temporary.write_text(
            json.dumps(_metadata(settings_of(configs["inference"], target)), indent=4), encoding="utf-8"
        )
    shutil.copyfile(ROOT / "configs" / "logging.conf", served / "configs" / "logging.conf")
    _link(ROOT / "scripts", served / "scripts")
    return served


def _check_weights(config: Mapping[str, Any], weights: Path, kind: str) -> None:
    """Load weights into the configuration's network. MONAI Label would continue with random weights."""
    if not weights.is_file():
        raise UsageError(
            f"no weights at {weights}: train some (python -m bundle train my/data writes "
            "output/data/model.pt), or say --weights FILE"
        )
    parser = ConfigParser({**config, "settings": {**config["settings"], "weights": weights}})  # `config` is served
    try:
        load_weights(parser.get_parsed_content("network_def"), weights)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"{explain(error)} (--{kind} names the files of the {kind} configuration)") from error


def _metadata(settings: ModelSettings) -> dict[str, Any]:
    """Return the bundle's metadata with the served classes.

    Class 0 is always named background. MONAI Label drops the class "background", and clients number the remaining
    classes from 1. If class 0 were named "membrane", clients would show cells as membrane.
    """
    metadata: dict[str, Any] = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    classes = ["background", *settings.class_names[1:]]
    formats = metadata["network_data_format"]
    formats["inputs"]["image"]["num_channels"] = settings.in_channels
    formats["outputs"]["pred"]["num_channels"] = len(classes)
    formats["outputs"]["pred"]["channel_def"] = {str(number): name for number, name in enumerate(classes)}
    return metadata


def _link(source: Path, target: Path) -> None:
    """Link a folder. Copy the folder where links are not possible."""
    if target.is_symlink():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
