"""The table of settings converts what a command line means, and refuses what no setting can be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from scripts.options import SETTINGS, checked, converted, similar, unknown
from scripts.settings import ModelSettings


@pytest.mark.parametrize("value", [False, "false", "False", "no", "off", "0", 0])
def test_words_for_off_switch_off(value):
    assert converted("resume", value) is False


@pytest.mark.parametrize("value", [True, "true", "True", "yes", "on", "1", 1])
def test_words_for_on_switch_on(value):
    assert converted("resume", value) is True


@pytest.mark.parametrize(
    "name, value, meant",
    [
        ("learning_rate", "1e-3", 0.001),  # YAML reads 1e-3 as text
        ("batch_size", "4", 4),
        ("batch_size", 4.0, 4),
        ("max_minutes", "null", None),
        ("max_minutes", "None", None),
        ("class_names", ("background", "cell"), ["background", "cell"]),  # a,b on a command line
        ("label_values", {"32": 0, 255: 1}, {32: 0, 255: 1}),  # JSON has keys of text
        ("label_values", [0, 255], [0, 255]),
        ("class_balance", [1, 2.5], [1, 2.5]),
        ("class_balance", "per_image", "per_image"),
        ("orientations", "8", 8),
        ("check_labels", False, "off"),  # YAML reads off as false
        ("memory_limit", "auto", "auto"),
        ("pixel_size", 0.004, 0.004),
        ("dataset_dir", 2015, "2015"),  # a folder with a number as name
        ("dataset_dir", Path("a"), Path("a")),
        ("threshold", np.float64(0.25), 0.25),
    ],
)
def test_values_become_what_they_mean(name, value, meant):
    assert converted(name, value) == meant
    assert type(converted(name, value)) is type(meant)


WRONG = [
    ("threshold", 2),
    ("flip_prob", 7),
    ("scale", 5),
    ("patience", -1),
    ("min_area", -5),
    ("class_names", ["cell", "cell"]),
    ("class_names", "cell"),
    ("class_names", ["cell"]),
    ("class_names", ["cell", ""]),
    ("separation_gap", 1000),
    ("learning_rate", 0),
    ("learning_rate", -1),
    ("momentum", 1),
    ("batch_size", 0),
    ("batch_size", True),
    ("batch_size", 2.5),
    ("max_epochs", 0),
    ("val_fraction", 2),
    ("val_fraction", 1),
    ("val_interval", 0),
    ("fold", -1),
    ("dropout", 1),
    ("noise_std", -1),
    ("memory_limit", 5),
    ("orientations", 3),
    ("num_workers", -1),
    ("seed", -1),
    ("class_balance", [1, -1]),
    ("class_balance", "per_imag"),
    ("class_map_values", [0, 300]),
    ("class_map_values", [7, 7]),
    ("label_values", [0, 0]),
    ("label_kind", "instance"),
    ("resume", "perhaps"),
    ("resume", 2),
    ("pixel_size", 0),
    ("close_gaps", 100000),
    ("dataset_dir", ""),
    ("dataset_dir", None),
]


@pytest.mark.parametrize("name, value", WRONG)
def test_a_value_out_of_range_is_refused_with_key_value_and_range(name, value):
    with pytest.raises(ValueError, match=name) as raised:
        converted(name, value)
    assert all(text in str(raised.value) for text in (repr(value), SETTINGS[name].kind.expected))


NUMBERS = [name for name, setting in SETTINGS.items() if "number" in setting.kind.expected]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf", -(10.0**12)])
def test_no_number_is_infinite_undefined_or_far_below_its_range(name, value):
    with pytest.raises(ValueError, match=name):
        converted(name, value)


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(ValueError, match=r"batch_size.*momentum"):
        checked({"batch_size": 0, "momentum": 3, "seed": 1})


def test_computed_values_and_other_keys_are_left_alone():
    others = {"device": "$torch.device('cpu')", "num_workers": {"_target_": "a.b"}, "lr": "@learning_rate", "mine": -1}
    assert checked(others) == {}


@pytest.mark.parametrize(
    "given, meant",
    [
        ("lr", "learning_rate"),
        ("epochs", "max_epochs"),
        ("max_epoch", "max_epochs"),
        ("batch", "batch_size"),
        ("workers", "num_workers"),
        ("gpu", "device"),
        ("classes", "class_names"),
        ("weights", "finetune"),
        ("early-stopping", "patience"),
    ],
)
def test_another_name_leads_to_the_setting(given, meant):
    assert similar(given, SETTINGS)[:3].count(meant) == 1
    assert f"'{meant}'" in unknown(given, "train")


def test_a_setting_of_another_workflow_is_named_as_such():
    assert all(text in unknown("key_metric", "inference") for text in ("key_metric", "train", "inference"))


def test_other_names_are_no_settings_of_the_same_workflow():
    for name, setting in SETTINGS.items():
        clash = [word for word in setting.also if word in SETTINGS and set(SETTINGS[word].of) & set(setting.of)]
        assert not clash, (name, clash)


def test_the_defaults_of_weights_are_in_range():
    for name, value in ModelSettings().model_dump().items():
        if name in SETTINGS:
            assert converted(name, value) == value
