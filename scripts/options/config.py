"""Check a whole configuration inside MONAI's parser. Plain `monai.bundle run` then checks settings, too.

MONAI reads `--resume false` as text, and text counts as true. MONAI adds an unknown key, and nothing reads the key.
`check_config` is the first component of a workflow. The function takes the configuration from MONAI's resolver, with
all overlays and the command line, refuses wrong values and unknown keys, and writes converted values back.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS
from monai.utils import BundlePropertyConfig

from .check import checked, unknown
from .table import SETTINGS

PAPER_OPTIMISER = "torch.optim.SGD"  # of train.yaml
WORDS = {"true": True, "false": False, "null": None}  # YAML's; the command line of MONAI passes them as text
REFERENCE = re.compile(r"@(\w+)")
OF_PLANS = "plan"  # facts about a plan, which the command train reads
LISTS = {"datalist", "split"}  # without a reader in MONAI Label, which gives its own lists
READ_BY_MONAI = {"imports", "initialize", "run", "finalize", "_meta_", OF_PLANS, *LISTS} | {
    re.split("#|::", str(property[BundlePropertyConfig.ID]))[0]
    for known in (TrainProperties, InferProperties, MetaProperties)
    for property in known.values()
}
OF_TRACKING = {key for tracker in DEFAULT_EXP_MGMT_SETTINGS.values() for key in tracker["configs"]}  # type: ignore[attr-defined]


def check_config(workflow: str) -> dict[str, Any]:
    """Check all settings of the current configuration, and convert their values in place.

    Args:
        workflow: name of the workflow, as in `Setting.of`: train, evaluate or inference.

    Returns:
        the converted settings.

    Raises:
        ValueError: a wrong value, or a key that nothing reads. A single message names all.
        RuntimeError: called by hand, not as a component of a configuration.

    Example, in a configuration::

        checks: {_target_: scripts.options.check_config, workflow: train}
    """
    items = _resolver().items
    config: dict[str, Any] = items[""].get_config()
    unread = _unread(config, workflow)
    if unread:
        raise ValueError(". ".join(unknown(name, workflow, config.keys() - set(unread)) for name in unread))
    _warn_of_recipe(config)
    values = checked(config)
    _read_words(config)
    config.update(values)
    for id, item in items.items():
        if id in values:
            item.update_config(values[id])
        elif isinstance(item.get_config(), str):
            item.update_config(WORDS.get(item.get_config().lower(), item.get_config()))
    return values


def _warn_of_recipe(config: Mapping[str, Any]) -> None:
    """Name the overlays of a plan if a run lacks them: the paper's SGD needs hours where the plan gives minutes."""
    plan, optimiser = config.get(OF_PLANS), config.get("optimizer")
    named = plan.get("overlays") if isinstance(plan, Mapping) else None
    if named and isinstance(optimiser, Mapping) and optimiser.get("_target_") == PAPER_OPTIMISER:
        files = ", ".join(f"configs/{name}.yaml" for name in named)
        text = f"the plan is for {files}, which this run lacks. List the file between train.yaml and the plan"
        logging.getLogger().warning(text)  # MONAI disables loggers of modules loaded before the run


def _resolver() -> ReferenceResolver:
    """Find MONAI's resolver among the callers: MONAI passes the whole configuration to no component."""
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ReferenceResolver):
            return caller
        frame = frame.f_back
    raise RuntimeError("check_config is a component of configurations. Use scripts.options.checked in Python")


def _unread(config: Mapping[str, Any], workflow: str) -> list[str]:
    """List the keys without effect: in no row of the workflow, and read by no other key or by MONAI."""
    read = {name for text in _texts(config) if text[:1] in "@$" for name in REFERENCE.findall(text)}
    own = {name for name, setting in SETTINGS.items() if workflow in setting.of}
    known = own | read | (READ_BY_MONAI - SETTINGS.keys()) | OF_TRACKING
    return [str(name) for name, value in config.items() if name not in known and not _runs(value)]


def _runs(value: Any) -> bool:
    """Whether a value is a list of expressions to run, or an alias such as "@run"."""
    steps = value if isinstance(value, list) and value else [value]
    return value == "@run" or all(isinstance(step, str) and step.startswith("$") for step in steps)


def _texts(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, Mapping | list):
        for value in config.values() if isinstance(config, Mapping) else config:
            yield from _texts(value)


def _read_words(config: Any) -> None:
    """Replace the words true, false and null by their values, in place and at all depths."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, str) and value.lower() in WORDS:
            config[key] = WORDS[value.lower()]
        elif isinstance(value, dict | list):
            _read_words(value)
