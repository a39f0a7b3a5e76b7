"""One network, one way to prepare images, one list of classes: in both configurations and in the metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bundle.publishing.rules.basis import Bundle, Finding, rule

SHARED = ("in_channels", "out_channels", "class_names", "intensity", "flatten", "amp_dtype")
PREPARATION = (
    "load",
    "channel_first",
    "normalize",
)  # train.yaml's names of what happens to an image before the network
KEYS = ("keys", "allow_missing_keys")  # inference has images alone
NETWORK_ALONE = ("dropout", "_disabled_")  # of one of them: off when it predicts; an exported one in its place
OBJECTS = ("class_names", "threshold", "min_area", "fill_holes", "split_necks", "close_gaps", "field_border")


@rule("agreement")
def agreement(bundle: Bundle) -> Iterator[Finding]:
    """train.yaml and inference.yaml have the same network, preparation of images and classes; so has the metadata."""
    train, inference = bundle.workflows["train.yaml"], bundle.workflows["inference.yaml"]
    for key in SHARED:
        if train.get(key) != inference.get(key):
            yield _differ(key, train.get(key), inference.get(key), "train.yaml", "inference.yaml")
    one, other = (_without(config.get("network_def", {}), NETWORK_ALONE) for config in (train, inference))
    if one != other:
        yield _differ("network_def", one, other, "train.yaml", "inference.yaml")
    yield from _preparation(train, inference)
    yield from _metadata(bundle, inference)
    for name in bundle.overlays:
        data = name.replace("inference_", "data_", 1)
        if name.startswith("inference_") and data in bundle.workflows:
            yield from _data_sets(train | bundle.workflows[data], inference | bundle.workflows[name], data, name)


def _preparation(train: Mapping[str, Any], inference: Mapping[str, Any]) -> Iterator[Finding]:
    """Images are read and prepared alike: same components, same arguments."""
    steps = [_without(step, KEYS) for step in inference.get("preprocessing", {}).get("transforms", [])]
    for key in PREPARATION:
        step = _without(train.get(key, {}), KEYS)
        if step not in steps:
            alike = [other for other in steps if other.get("_target_") == step.get("_target_")]
            yield _differ(key, step, alike[0] if alike else None, "train.yaml", "inference.yaml, preprocessing")


def _metadata(bundle: Bundle, inference: Mapping[str, Any]) -> Iterator[Finding]:
    """The metadata's channels are those of the configuration, and the output's are named after the classes."""
    form = bundle.metadata["network_data_format"]
    image, pred = form["inputs"]["image"], form["outputs"]["pred"]
    named = [pred["channel_def"][key] for key in sorted(pred["channel_def"], key=int)]
    for key, stated, configured in (
        ("inputs#image#num_channels", image["num_channels"], inference.get("in_channels")),
        ("outputs#pred#num_channels", pred["num_channels"], len(inference.get("class_names", []))),
        ("outputs#pred#channel_def", named, inference.get("class_names")),
    ):
        if stated != configured:
            yield _differ(f"network_data_format#{key}", stated, configured, "metadata.json", "inference.yaml")


def _data_sets(trained: Any, segmented: Any, data: str, name: str) -> Iterator[Finding]:
    """Scores become objects as they did in validation."""
    for key in OBJECTS:
        if trained.get(key) != segmented.get(key):
            yield _differ(key, trained.get(key), segmented.get(key), data, name)


def _without(component: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in component.items() if key not in keys}


def _differ(key: str, one: Any, other: Any, here: str, there: str) -> Finding:
    return Finding(f"{key} is {one!r} in {here}, {other!r} in {there}", f"configs/{here}", "make them equal")
