"""Keep the settings of weights in a file beside the weights: `model.json` beside `model.pt`.

| in `model.json`                          | content                                                         |
|------------------------------------------|-----------------------------------------------------------------|
| `network`, `in_channels`, `out_channels` | arguments of `scripts.networks.RonnebergerUNet`                 |
| `class_names`                            | name of each class, class 0 first                               |
| `intensity`, `flatten`                   | how grey values are scaled                                      |
| `threshold`, `min_area`, ...             | how scores become objects                                       |
| `label_kind`, `label_values`, ...        | how labels are read, for evaluations                            |
| `training`                               | data set, images, pixel size, key metric and its best value     |
| `version`, `sha256`                      | version of this project; checksum of the weights                |

Training writes the file. Every workflow with the weights reads the file: no setting is typed again.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from .io.files import replacing, sha256_of, write_json
from .model_json import FittedObjects, ModelSettings
from .model_json import Training as Training
from .networks.unet import RonnebergerUNet

logger = logging.getLogger(__name__)

FORMAT = 1  # of model.json
IN_STATE = "settings"  # key of the settings in a training's state
FIXED = ("in_channels", "out_channels", "class_names")  # weights fit no other values
OBJECTS = ("threshold", "min_area", "fill_holes", "split_necks", "close_gaps", "field_border")
CHOICES = ("intensity", "flatten", *OBJECTS)  # weights give results with other values, too
OF_LABELS = ("label_kind", "label_values", "separation_gap", "key_metric", *OBJECTS)  # follow from the kind of labels


def settings_path(weights: str | Path) -> Path:
    """Return the path of the settings beside a file of weights.

    Example:
        >>> settings_path("models/model.pt").name
        'model.json'
    """
    return Path(weights).with_suffix(".json")


def read_settings(weights: str | Path) -> ModelSettings | None:
    """Read the settings beside a file of weights, and check that both belong together.

    Args:
        weights: the file of weights, or a link to the file. A missing file is not checked. A training's state
            (training_state.pt) has its settings inside.

    Returns:
        the settings; None if the weights have no settings. A warning lists settings that the file lacks.

    Raises:
        ValueError: the file is no JSON, has an unknown name, a name twice or a wrong value, or belongs to other
            weights.

    Example:
        >>> read_settings("from_elsewhere.pt") is None
        True
    """
    weights = Path(weights)
    named = (settings_path(weights), settings_path(weights.resolve()))  # the second for links
    path = next((path for path in named if path != weights and path.is_file()), None)
    if path is None:
        return _settings_of_state(weights)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)  # editors add a mark
        if content["format"] > FORMAT:
            raise ValueError(f"format {content['format']}, of a newer version of this project")
        found = sha256_of(weights) if weights.is_file() else content["sha256"]
        # between two renames of a save, the settings are those of the new weights, and `previous` those of the old
        known = next((c for c in (content, content.get("previous")) if c and c["sha256"] == found), None)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as settings of weights ({type(error).__name__}: {error}). Put back the file that "
            f"was written with {weights.name}, or move it away"
        ) from error
    if known is None:
        raise ValueError(
            f"{path} belongs to other weights: {weights} has the sha256 {found[:12]}..., {path.name} names "
            f"{str(content['sha256'])[:12]}.... Put back both files of one training, or move {path.name} away"
        )
    return _known({key: value for key, value in known.items() if key not in ("format", "previous")}, str(path))


def model_settings(
    weights: str | Path | None = None,
    exported: Any = None,
    may_change: Literal["nothing", "names", "layers"] = "nothing",
    checks: object = None,
    **given: Any,
) -> ModelSettings:
    """Combine the settings of weights with given settings.

    The weights fix channels and classes: other given values are refused. The other settings are choices. A warning
    lists choices that differ from the settings of the weights. For weights without a file of settings, given values and
    defaults are used. A warning lists them.

    A fine-tuning may have other channels and classes. With other classes, or another kind of labels, the settings of
    objects and labels and the key metric have their defaults instead of the values of the weights.

    Args:
        weights: file of weights to use, or to start a training from. None: new weights.
        exported: a `scripts.inferers.ExportedNetwork` in place of `weights`. None: not used.
        may_change: what a training may change in the weights: "nothing"; "names" of the classes; "layers": number of
            channels and classes, too.
        checks: result of `scripts.options.check_config`, which converts the given values before MONAI passes them here.
        given: fields of `ModelSettings`. None: not given.

    Raises:
        ValueError: as `read_settings`; an unknown name, a wrong type or range; channels or classes other than those of
            the weights. The message names the setting and both values.

    Example, in a configuration::

        settings: {_target_: scripts.settings.model_settings, weights: models/model.pt, threshold: 0.4}
    """
    given = {name: value for name, value in given.items() if value is not None}
    file = weights if exported is None else exported.path
    if exported is not None:
        known = _settings_of_export(exported)
    else:
        known = None if weights is None else read_settings(weights)
    if known is None and "class_names" in given:
        given.setdefault("out_channels", len(given["class_names"]))
    base = known or ModelSettings()
    if known is not None and may_change == "layers":
        base = _for_other_images(known, given)
    elif known is not None:
        _refuse_other(known, given, may_change == "names")
    settings = _validated(base.model_dump() | given)
    trains = known is None or may_change != "nothing"
    if trains and settings.label_kind == "instances":
        defaults = _for_instances(settings, base)
        settings = settings.model_copy(update={name: defaults[name] for name in defaults.keys() - given.keys()})
    settings._source = base.source
    if known is not None:
        _report_deviations(known, settings)
    elif file is not None and Path(file).is_file():
        listed = ", ".join(f"{name} {getattr(settings, name)}" for name in CHOICES + FIXED)
        logger.warning(
            f"{file} comes without the settings of its training (no {settings_path(file).name}). Assumed: {listed}, "
            "and the network of network_def. Wrong settings give wrong results: set those that differ"
        )
    return settings


def build_network(
    settings: ModelSettings, freeze_contracting: bool = False, weights: str | Path | None = None, **given: Any
) -> RonnebergerUNet:
    """Build the network of settings.

    Args:
        settings: of weights, or the defaults for new weights.
        freeze_contracting: the weights of the contracting path, of all levels down to the lowest, are not trained: no
            gradient, no weight decay. Running means of batch normalisation still change.
        weights: file that the training starts from, which `freeze_contracting` needs.
        given: arguments of `RonnebergerUNet` that replace those of `settings`. None: not given. For weights with a file
            of settings, only `dropout` may differ.

    Raises:
        ValueError: an argument differs from that of the weights, or the weights are of a network of another class;
            `freeze_contracting` without weights.

    Example:
        >>> from scripts.settings import ModelSettings
        >>> build_network(ModelSettings(in_channels=3), features=[4, 8]).in_channels
        3
    """
    given = {name: value for name, value in given.items() if value is not None}
    if settings.network is None:
        raise ValueError(
            f"{settings.source} names no network: the weights are of a class other than RonnebergerUNet. "
            "Give the network's class and arguments as network_def"
        )
    own = {**settings.network, "in_channels": settings.in_channels, "out_channels": settings.out_channels}
    try:
        if settings.source is not None:
            own = RonnebergerUNet.complete(own)
            for name in given.keys() - {"dropout"}:
                levels = {"features": own["features"]} if name == "up_features" else {}
                asked = RonnebergerUNet.complete({**levels, name: given[name]})[name]
                if asked != own.get(name):
                    raise _contradiction(f"network_def#{name}", asked, own[name], settings.source)
        network = RonnebergerUNet(**RonnebergerUNet.complete({**own, **given}))
    except _Contradiction:
        raise
    except ValueError as error:
        of_file = settings.source is not None and not any(name in str(error) for name in given)
        raise ValueError(f"{settings.source}: {error}" if of_file else str(error)) from None
    if freeze_contracting and weights is None:
        raise ValueError(
            "freeze_contracting is true, but the training starts with random weights. Give weights with finetune, or "
            "leave freeze_contracting out"
        )
    network.contracting.requires_grad_(not freeze_contracting)
    return network


_ARGUMENTS = list(inspect.signature(RonnebergerUNet).parameters.values())
build_network.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # the arguments, for checks of misspelt keys
    [
        *list(inspect.signature(build_network).parameters.values())[:3],
        *(argument.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=None) for argument in _ARGUMENTS),
    ]
)


def write_weights(state: Mapping[str, torch.Tensor], path: str | Path, settings: ModelSettings) -> None:
    """Write a file of weights and the settings beside the weights.

    At any moment, also after a crash, both files belong together: the settings of the earlier weights stay in the file
    until the new weights are in place.

    Args:
        state: flat state_dict.
        path: the file of weights. An existing file is replaced.
        settings: of the weights. Checksum and version are filled in.

    Raises:
        OSError: the folder cannot be written to.

    Example:
        >>> from scripts.settings import ModelSettings, read_settings
        >>> write_weights(torch.nn.Linear(2, 1).state_dict(), "model.pt", ModelSettings(threshold=0.4))
        >>> read_settings("model.pt").threshold
        0.4
    """
    path, target = Path(path), settings_path(path)
    with replacing(path) as temporary:
        with temporary.open("wb") as file:  # given a path, torch would write the temporary name into the file
            torch.save(dict(state), file)
        content = {
            "format": FORMAT,
            **settings.model_dump(),
            "version": project_version(),
            "sha256": sha256_of(temporary),
        }
        write_json(target, content | {"previous": _content_of(path)})
    write_json(target, content)


def change_settings(path: str | Path, fitted: FittedObjects | None = None, **changes: Any) -> None:
    """Change settings in the file beside weights, which stay as they are.

    Args:
        path: the file of weights.
        fitted: how the changed settings were found.
        changes: fields of `ModelSettings`.

    Raises:
        ValueError: as `read_settings`; the weights have no settings; an unknown name, a wrong type or range.
        OSError: the folder cannot be written to.

    Example:
        >>> from scripts.settings import ModelSettings, read_settings, write_weights
        >>> write_weights(torch.nn.Linear(2, 1).state_dict(), "model.pt", ModelSettings())
        >>> change_settings("model.pt", threshold=0.6)
        >>> read_settings("model.pt").threshold
        0.6
    """
    known = read_settings(path)
    if known is None:
        raise ValueError(f"{path} has no settings that could be changed (no {settings_path(path).name})")
    training = known.training.model_copy(update={"fitted": fitted})
    values = known.model_dump() | changes | {"training": training.model_dump()}
    write_json(settings_path(path), {"format": FORMAT, **_validated(values).model_dump()})


def _validated(values: Mapping[str, Any], source: str | None = None) -> ModelSettings:
    """Check names, types and ranges. The message names each wrong setting, and the file of the settings."""
    try:
        return ModelSettings.model_validate(values)
    except ValidationError as error:
        told = [_told(one) for one in error.errors()]
        raise ValueError(": ".join([*([source] if source else []), "; ".join(told)])) from None


def _told(error: Mapping[str, Any]) -> str:
    """Write an error of pydantic. Our own errors name the setting."""
    own = error.get("ctx", {}).get("error")
    return str(own) if own else f"{'.'.join(map(str, error['loc']))} is {error['input']!r}: {error['msg']}"


def _settings_of_export(exported: Any) -> ModelSettings | None:
    """Read the settings in an exported file. Files of foreign programs have none."""
    named = {name: exported.info[name] for name in ModelSettings.model_fields if name in exported.info}
    if "class_names" in named:
        named.setdefault("out_channels", len(named["class_names"]))
    if not named:
        return None
    return _known({**named, "network": None}, str(exported.path))


def _settings_of_state(weights: Path) -> ModelSettings | None:
    """Read the settings in a training's state. None: another kind of file, which `load_weights` explains."""
    try:
        content = torch.load(weights, map_location="meta", mmap=True, weights_only=True)[IN_STATE]
    except Exception:  # torch raises pickle, zip, runtime and end-of-file errors here
        return None
    return _known(content, str(weights)) if isinstance(content, dict) else None


def _known(content: Mapping[str, Any], source: str) -> ModelSettings:
    """Check settings of weights, and warn about missing ones, for which the defaults are taken."""
    settings = _validated(content, source)
    settings._source = source
    missing = [name for name in ("network", *FIXED, *CHOICES) if name not in content]
    if missing:
        listed = ", ".join(f"{name} {getattr(settings, name)}" for name in missing)
        logger.warning(f"{source} lacks settings of the training. Assumed: {listed}. Set those that differ")
    return settings


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dictionary of JSON's names and values. Of a name given twice, JSON would take the last value."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is given twice")
    return content


def _for_other_images(known: ModelSettings, given: dict[str, Any]) -> ModelSettings:
    """Leave out what does not fit other classes or labels. A channel for each class is added to `given`."""
    names = list(given.get("class_names", known.class_names))
    if len(names) != len(known.class_names):
        given.setdefault("out_channels", len(names))
    if names == known.class_names and given.get("label_kind", known.label_kind) == known.label_kind:
        return known
    defaults = ModelSettings()
    base = known.model_copy(update={name: getattr(defaults, name) for name in OF_LABELS})
    base._source = known.source
    return base


def _for_instances(settings: ModelSettings, base: ModelSettings) -> dict[str, Any]:
    """Defaults of a training with instances: the gap is given back, and separate objects select the weights.

    Weights to start from keep their key metric, unless they were trained with another kind of labels.
    """
    defaults: dict[str, Any] = {"close_gaps": max(settings.close_gaps, settings.separation_gap)}
    return defaults if base.label_kind == "instances" else {**defaults, "key_metric": "instance_f1"}


def _refuse_other(known: ModelSettings, given: Mapping[str, Any], new_names: bool) -> None:
    """Raise ValueError if given channels or classes differ from those of the weights."""
    for name in FIXED:
        value, own = given.get(name), getattr(known, name)
        value = list(value) if isinstance(value, tuple) else value
        if value is None or value == own or (new_names and name == "class_names" and len(value) == len(own)):
            continue
        raise _contradiction(name, value, own, known.source)


class _Contradiction(ValueError):
    """A given value differs from that of the weights."""


def _contradiction(name: str, given: Any, own: Any, source: str | None) -> ValueError:
    return _Contradiction(
        f"{name} is {given!r}, but the weights were trained with {own!r} ({source}). Leave {name} out, or use weights "
        "trained with it"
    )


def _report_deviations(known: ModelSettings, settings: ModelSettings) -> None:
    names = [name for name in ModelSettings.model_fields if getattr(settings, name) != getattr(known, name)]
    if names:
        listed = ", ".join(f"{name} {getattr(settings, name)} (there {getattr(known, name)})" for name in names)
        logger.warning(f"settings other than in {known.source}: {listed}")


def _content_of(weights: Path) -> dict[str, Any] | None:
    """Read the settings of weights that are about to be replaced. None: no valid settings."""
    try:
        known = read_settings(weights) if weights.is_file() else None
    except ValueError:
        return None
    return None if known is None else {"format": FORMAT, **known.model_dump()}


def project_version() -> str | None:
    """Return the version of this project from `configs/metadata.json`. None: the file is missing.

    Example:
        >>> str(project_version())[0].isdigit()
        True
    """
    for folder in Path(__file__).resolve().parents[:2]:  # of the installed package, else of the bundle
        metadata = folder / "configs" / "metadata.json"
        if metadata.is_file():
            return str(json.loads(metadata.read_text(encoding="utf-8"))["version"])
    return None
