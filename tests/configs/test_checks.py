"""Plain `monai.bundle run` checks and converts settings of the real configurations before any work."""

from __future__ import annotations

from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from tests.configs.conftest import CONFIGS

FILES = {"training": ["train.yaml"], "evaluating": ["train.yaml", "evaluate.yaml"], "run": ["inference.yaml"]}


def started(run_id: str, *more: str, **overrides: Any) -> ConfigWorkflow:
    """A workflow after `initialize`, as MONAI makes it for a command line, and after the checks. Nothing else runs."""
    workflow = ConfigWorkflow(
        config_file=[*(str(CONFIGS / name) for name in FILES[run_id]), *more],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        run_id=run_id,
        workflow_type=None,
        **{"device": "cpu", **overrides},
    )
    workflow.initialize()
    workflow.parser.get_parsed_content("checks")
    return workflow


def refused(run_id: str, *more: str, **overrides: Any) -> str:
    with pytest.raises(RuntimeError) as raised:
        started(run_id, *more, **overrides)
    error: BaseException = raised.value
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@pytest.mark.parametrize("word", ["false", "False", "no", "off", "0", 0])
@pytest.mark.parametrize(
    "run_id, key", [("run", "save_probabilities"), ("training", "resume"), ("evaluating", "save_panels")]
)
def test_a_switch_is_off_by_any_word_for_off(run_id, key, word):
    assert started(run_id, **{key: word}).parser.get_parsed_content(key) is False


def test_arguments_of_components_take_false_too():
    workflow = started("training", **{"network_def#up_activation": "false", "network_def#features": [2, 4]})
    assert workflow.parser.get_parsed_content("network_def").definition["up_activation"] is False


@pytest.mark.parametrize(
    "run_id, key, value",
    [
        ("training", "flip_prob", 7),
        ("training", "class_names", "cell"),
        ("training", "separation_gap", 1000),
        ("training", "momentum", 1),
        ("training", "learning_rate", "nan"),
        ("evaluating", "orientations", 3),
        ("evaluating", "batch_size", 0),
        ("run", "threshold", 2),
        ("run", "memory_limit", 5),
        ("run", "class_map_values", [0, 300]),
    ],
)
def test_values_out_of_range_are_refused(run_id, key, value):
    assert f"{key} is {value!r}" in refused(run_id, **{key: value})


@pytest.mark.parametrize(
    "run_id, key, meant",
    [
        ("training", "lr", "learning_rate"),
        ("training", "max_epoch", "max_epochs"),
        ("training", "optimiser", "optimizer"),
        ("run", "treshold", "threshold"),
        ("run", "class_values", "class_map_values"),
        ("run", "key_metric", "not of inference"),
    ],
)
def test_a_key_without_effect_is_refused_with_the_one_meant(run_id, key, meant):
    message = refused(run_id, **{key: 1})
    assert key in message
    assert meant in message


def test_files_of_changes_are_checked_too(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("optimiser: {_target_: torch.optim.Adam}\n", encoding="utf-8")
    assert "'optimizer'" in refused("training", str(path))
    path.write_text("learning_rate: 1e-3\nresume: 'no'\n", encoding="utf-8")  # YAML reads both as text
    parser = started("training", str(path)).parser
    assert (parser.get_parsed_content("learning_rate"), parser.get_parsed_content("resume")) == (0.001, False)
