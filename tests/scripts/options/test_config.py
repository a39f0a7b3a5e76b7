"""`check_config` checks a configuration inside MONAI's parser: files, overlays and command line together."""

from __future__ import annotations

from typing import Any

import pytest
from monai.bundle import ConfigParser

from scripts.options import check_config

CONFIG: dict[str, Any] = {
    "imports": ["$import torch"],
    "resume": False,
    "batch_size": 1,
    "max_minutes": None,
    "learning_rate": 0.1,
    "checks": {"_target_": "scripts.options.check_config", "workflow": "train"},
    "network_def": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3, "bias": True},
    "all": "$[@resume, @batch_size, @max_minutes, @learning_rate, @network_def.bias is None]",
    "initialize": ["$@checks"],
    "run": ["$@all"],
    "training": "@run",
}


def parsed(**changes: Any) -> ConfigParser:
    """A configuration after `initialize`."""
    parser = ConfigParser({**CONFIG, "network_def": {**CONFIG["network_def"]}})
    parser.update(changes)
    parser.get_parsed_content("initialize")
    return parser


def test_converted_values_reach_every_reference():
    changes = {"resume": "no", "batch_size": "2", "max_minutes": "null", "learning_rate": "1e-3"}
    parser = parsed(**changes, **{"network_def#bias": "false"})  # text of a command line
    assert parser.get_parsed_content("all") == [False, 2, None, 0.001, True]


def test_converted_values_stay_after_another_change():
    parser = parsed(resume="false")
    parser["batch_size"] = 3  # forgets what was resolved
    assert parser.get_parsed_content("all")[:2] == [False, 3]


def cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@pytest.mark.parametrize(
    "changes, parts",
    [
        ({"batch_size": 0}, ["batch_size is 0"]),
        ({"batch_size": 0, "learning_rate": "nan"}, ["batch_size", "learning_rate"]),
        ({"lr": 0.1}, ["'lr'", "'learning_rate'"]),
        ({"max_epoch": 3}, ["'max_epoch'", "'max_epochs'"]),
        ({"network_de": {"_target_": "torch.nn.Linear"}}, ["'network_de'", "'network_def'"]),
        ({"orientations": 8}, ["orientations", "inference", "train"]),
    ],
)
def test_wrong_values_and_keys_without_effect_are_refused(changes, parts):
    with pytest.raises(RuntimeError) as raised:
        parsed(**changes)
    assert all(part in cause(raised.value) for part in parts)


@pytest.mark.parametrize(
    "changes",
    [
        {"my_rate": 0.2, "learning_rate": "@my_rate"},
        {"mine": ["$@all"]},  # to run with run_id mine
        {"batch_size": "$1 + 1"},
        {"experiment_name": "a"},  # of MONAI's tracking
    ],
)
def test_keys_that_are_read_or_run_are_known(changes):
    assert parsed(**changes).get_parsed_content("all")


def test_it_needs_a_configuration():
    with pytest.raises(RuntimeError, match="component of configurations"):
        check_config("train")
