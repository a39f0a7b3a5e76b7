"""Describe a network in the bundle's metadata and configurations."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from bundle.publishing.exporters import tile_sizes
from bundle.running.errors import RunError
from scripts.networks.geometry import output_size
from scripts.networks.unet import RonnebergerUNet
from scripts.settings import FIXED, ModelSettings


def describe(metadata: Mapping[str, Any], network: RonnebergerUNet, settings: ModelSettings) -> dict[str, Any]:
    """Return metadata with the channels, sizes and classes of a network.

    Args:
        metadata: content of configs/metadata.json.
        network: network of the weights.
        settings: settings of the weights.

    Example:
        >>> shapes = {"image": {"num_channels": 1, "spatial_shape": []}}, {"pred": {"num_channels": 2}}
        >>> form = {"network_data_format": {"inputs": shapes[0], "outputs": shapes[1]}}
        >>> network = RonnebergerUNet(in_channels=3)
        >>> described = describe(form, network, ModelSettings(in_channels=3))["network_data_format"]
        >>> described["inputs"]["image"]["spatial_shape"], described["outputs"]["pred"]["spatial_shape"]
        (['16*n + 172', '16*n + 172'], ['16*n - 12', '16*n - 12'])
    """
    described: dict[str, Any] = deepcopy(dict(metadata))
    form = described["network_data_format"]
    least, step = tile_sizes(network)
    after = output_size(least, network.depth) if network.margin else least
    names = settings.class_names if settings.out_channels > 1 else settings.class_names[1:]
    image = {"num_channels": network.in_channels, "spatial_shape": _sizes(least, step)}
    if network.in_channels != form["inputs"]["image"]["num_channels"]:
        image["channel_def"] = {str(number): f"channel {number}" for number in range(network.in_channels)}
    form["inputs"]["image"] |= image
    form["outputs"]["pred"] |= {
        "num_channels": settings.out_channels,
        "spatial_shape": _sizes(after, step),
        "channel_def": {str(number): name for number, name in enumerate(names)},
    }
    return described


def of_other_weights(metadata: Mapping[str, Any], settings: ModelSettings) -> dict[str, Any]:
    """Replace what metadata say of the bundle's own weights: scores, data and classes.

    Args:
        metadata: content of configs/metadata.json.
        settings: settings of the other weights.

    Example:
        >>> metadata = {"eval_metrics": {"v_rand": 0.98}, "data_source": "ISBI 2012"}
        >>> described = of_other_weights(metadata, ModelSettings(class_names=("background", "nucleus")))
        >>> described["eval_metrics"], described["label_classes"]
        ({}, 'one channel: 0 background, 1 nucleus')
    """
    training = settings.training
    best = {training.key_metric: round(training.best, 4)} if training.key_metric and training.best is not None else {}
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(settings.class_names))
    return {
        **metadata,
        "data_source": f"the data set {training.dataset}" if training.dataset else "not recorded",
        "label_classes": f"one channel: {classes}",
        "pred_classes": f"{settings.out_channels} channels: {classes}",
        "eval_metrics": best,
    }


def name_network(text: str, network: RonnebergerUNet, settings: ModelSettings) -> str:
    """Write a network into the text of train.yaml or inference.yaml.

    `monai.bundle.load` builds the network from the configuration alone, and accepts weights that do not fit.

    Args:
        text: of the configuration.
        network: network of the weights.
        settings: settings of the weights.

    Returns:
        the text, unchanged for the paper's network with one channel and the two default classes.

    Raises:
        RunError: the configuration lacks the lines to change.

    Example:
        >>> name_network("in_channels: null", RonnebergerUNet(in_channels=3), ModelSettings(in_channels=3))
        'in_channels: 3'
    """
    default = ModelSettings()
    for key in FIXED:
        if getattr(settings, key) != getattr(default, key):
            text = _replaced(text, rf"^{key}: null", f"{key}: {json.dumps(getattr(settings, key))}")
    own, usual = network.definition, RonnebergerUNet.complete({"features": network.definition["features"]})
    other = {key: value for key, value in own.items() if value != usual[key] and key not in FIXED}
    if own["features"] != RonnebergerUNet.complete({})["features"]:
        other["features"] = own["features"]
    lines = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in sorted(other.items()))
    return _replaced(text, r'^  settings: "@settings"\n', f'  settings: "@settings"\n{lines}') if lines else text


def _replaced(text: str, pattern: str, new: str) -> str:
    changed, count = re.subn(pattern, lambda _: new, text, count=1, flags=re.MULTILINE)
    if not count:
        raise RunError(f"the configuration has no line {pattern!r}: the network of the weights cannot be named there")
    return changed


def _sizes(least: int, step: int) -> list[str]:
    """Write the sizes least, least + step, ... of both axes as expressions of n = 1, 2, ..."""
    offset = least - step
    return [f"{step}*n {'-' if offset < 0 else '+'} {abs(offset)}" if offset else f"{step}*n"] * 2
