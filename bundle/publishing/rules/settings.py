"""Rules for public settings: the table, the configurations, their comments and `docs/settings.md` agree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from bundle.publishing.rules.basis import Bundle, Finding
from bundle.publishing.rules.configs import READ_BY_MONAI
from bundle.publishing.settings_page import PAGE, page
from bundle.running.workflows import WORKFLOWS
from scripts.options import SETTINGS, checked
from scripts.settings import ModelSettings

TABLE = "scripts/options/table.py"
BASES = {"train": ("train",), "evaluate": ("train", "evaluate"), "inference": ("inference",)}  # files of workflows
STATED = re.compile(r"^(\w+): null  #.*?\bdefault (\[[^\]]*\]|[\w.]+)", re.M)  # in a comment of train.yaml


def table(bundle: Bundle) -> Iterator[Finding]:
    """Public keys and rows of the table of settings are the same. Defaults, comments and docs/settings.md agree."""
    used = _used(bundle)
    for file, config in bundle.workflows.items():
        where = f"configs/{file}"
        for key, value in config.items():
            name = key.lstrip("+")
            if name not in SETTINGS and name.isidentifier() and name not in READ_BY_MONAI and _is_plain(value):
                yield Finding(f"key '{name}' has no row in the table of settings", where, f"add a row to {TABLE}")
        try:
            checked(config)
        except ValueError as error:
            yield Finding(str(error), where, f"correct the value, or the range in {TABLE}")
    for name, setting in SETTINGS.items():
        for workflow in setting.of:
            if name not in used[workflow]:
                what = f"the row '{name}' names {workflow}, whose configurations have no such key"
                yield Finding(what, TABLE, "remove the row, or correct its workflows")
        for workflow in used.keys() - set(setting.of):
            if name in used[workflow]:
                what = f"the row '{name}' does not name {workflow}, whose configurations have the key"
                yield Finding(what, TABLE, "add the workflow to the row")
    yield from _comments(bundle)
    if bundle.has(PAGE):
        configs = {name: bundle.workflows[f"{name}.yaml"] for name in WORKFLOWS}
        if bundle.text(PAGE) != page(configs):
            remedy = "run python -m bundle.publishing.settings_page"
            yield Finding("the page is behind the table of settings or the configurations", PAGE, remedy)


def _used(bundle: Bundle) -> dict[str, set[str]]:
    """Find the top-level keys of each workflow, with its overlays."""
    used = {name: {key for file in files for key in bundle.workflows[f"{file}.yaml"]} for name, files in BASES.items()}
    for name in bundle.overlays:
        kinds = ("inference",) if bundle.bases(name)[:1] == ["inference.yaml"] else ("train", "evaluate")
        for kind in kinds if name != "evaluate.yaml" else ():
            used[kind] |= bundle.workflows[name].keys()
    return used


def _comments(bundle: Bundle) -> Iterator[Finding]:
    """Compare the defaults in comments of train.yaml with those of `ModelSettings`."""
    own = ModelSettings().model_dump()
    for name, stated in STATED.findall(bundle.text("configs/train.yaml")):
        value = yaml.safe_load(stated)
        if name in own and value != own[name]:
            what = f"the comment of '{name}' has the default {stated}, ModelSettings has {own[name]}"
            yield Finding(what, "configs/train.yaml", "correct the comment")


def _is_plain(value: Any) -> bool:
    """Whether a value is plain data for users to set: no expression, reference, component or list of steps."""
    if isinstance(value, Mapping):
        return False
    if isinstance(value, list):
        return not any(isinstance(part, Mapping) or str(part).startswith(("$", "@")) for part in value)
    return not str(value).startswith(("$", "@"))
