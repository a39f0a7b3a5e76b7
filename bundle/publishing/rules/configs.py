"""Configurations that hold nothing unused, and name nothing that does not exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.utils import BundlePropertyConfig

from bundle.errors import UsageError
from bundle.publishing.rules.basis import STANDALONE, Bundle, Finding, rule
from bundle.publishing.rules.expressions import ALWAYS_THERE, imported_names, references, used_names
from bundle.running.overrides import COMPONENT_KEYS, accepted_arguments, check_overrides, find_component

PROPERTIES = {
    str(property[BundlePropertyConfig.ID]).replace("::", "#")
    for known in (TrainProperties, InferProperties, MetaProperties)
    for property in known.values()
}
READ_BY_MONAI = {"imports", "+imports", "initialize", "run", "finalize"} | PROPERTIES


@rule("unused keys")
def unused_keys(bundle: Bundle) -> Iterator[Finding]:
    """Every key of train.yaml and inference.yaml is referred to, or read by MONAI."""
    for name in STANDALONE:
        config = bundle.workflows[name]
        used = references(config) | READ_BY_MONAI
        for id in _ids(config):
            if id not in used and not _is_alias(config, id):
                yield Finding(f"key '{id}' is used nowhere", f"configs/{name}", f"remove it, or refer to it as @{id}")


@rule("references")
def dangling_references(bundle: Bundle) -> Iterator[Finding]:
    """Every @reference leads to a key of the file, or of those that it is laid over."""
    for name, config in bundle.workflows.items():
        merged = config if name in STANDALONE else bundle.merged([*bundle.bases(name), name])
        for id in sorted(references(config)):
            if not _exists(merged, id):
                yield Finding(f"@{id} leads to nothing", f"configs/{name}", "define the key, or mend the reference")


@rule("imports")
def imports(bundle: Bundle) -> Iterator[Finding]:
    """Every import of a configuration is used in it, and every name that an expression uses is imported."""
    for name, config in bundle.workflows.items():
        own, used = imported_names(config), used_names(config)
        for unused in sorted(own - used):
            yield Finding(f"import of '{unused}' is used nowhere", f"configs/{name}", "remove it")
        given = set() if name in STANDALONE else imported_names(bundle.merged(bundle.bases(name)))
        for missing in sorted(used - own - given - ALWAYS_THERE):
            yield Finding(
                f"an expression uses '{missing}', which is not imported",
                f"configs/{name}",
                f'add "$import {missing}" to its imports',
            )


@rule("overlays")
def overlays(bundle: Bundle) -> Iterator[Finding]:
    """Every key of an overlay exists in what it is laid over, or is used in the overlay itself."""
    for name in bundle.overlays:
        if not bundle.bases(name):
            yield Finding(
                "the second line has no command that names the files it is laid over, and then this one",
                f"configs/{name}",
                "begin with a line of why and a line with the command, as the other overlays do",
            )
            continue
        overlay, base = bundle.workflows[name], bundle.merged(bundle.bases(name))
        used = references(overlay) | READ_BY_MONAI
        for key, value in overlay.items():
            if key in used or _is_alias(overlay, key):
                continue
            try:
                check_overrides(base, {key.lstrip("+"): value})
            except UsageError as error:
                known = ", ".join(bundle.bases(name))
                yield Finding(str(error), f"configs/{name}", f"name a key of {known}, or refer to a new one in {name}")


@rule("components")
def components(bundle: Bundle) -> Iterator[Finding]:
    """Every `_target_` can be imported and takes the arguments that it is given."""
    for name, config in bundle.workflows.items():
        for id, component in _components(config):
            target = component["_target_"]
            if find_component(target) is None:
                yield Finding(
                    f"'{target}' cannot be imported",
                    f"configs/{name}, {id}",
                    "write the dotted name of a class or function, or the bare name of one of MONAI's",
                )
                continue
            accepted = accepted_arguments(target)
            for key in component:
                if accepted is not None and key not in COMPONENT_KEYS and key not in accepted:
                    yield Finding(
                        f"{target} takes no argument '{key}'",
                        f"configs/{name}, {id}",
                        f"it takes {', '.join(sorted(accepted))}",
                    )


def _ids(config: Mapping[str, Any]) -> Iterator[str]:
    """The keys, and those of sections: mappings that are no component, such as train and validate."""
    for key, value in config.items():
        if isinstance(value, Mapping) and "_target_" not in value and any(_parts(value)):
            yield from (f"{key}#{inner}" for inner in value)
        else:
            yield key


def _parts(value: Mapping[str, Any]) -> Iterator[bool]:
    """Whether each entry is a component: what tells a section from a plain mapping."""
    return (isinstance(inner, Mapping) and "_target_" in inner for inner in value.values())


def _exists(config: Any, id: str) -> bool:
    """Whether a nested id leads to something."""
    for part in id.split("#"):
        if isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        elif isinstance(config, Mapping) and part in config:
            config = config[part]
        else:
            return False
    return True


def _is_alias(config: Mapping[str, Any], id: str) -> bool:
    """Whether a key is another name of what is run, such as training: "@run"."""
    return config.get(id) == "@run"


def _components(config: Any, id: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every component of a configuration whose class is named in it, with its id."""
    if isinstance(config, Mapping):
        if isinstance(config.get("_target_"), str) and not config["_target_"].startswith(("$", "@")):
            yield id, config
        for key, value in config.items():
            yield from _components(value, f"{id}#{key}" if id else str(key))
    elif isinstance(config, list):
        for value in config:
            yield from _components(value, id)
