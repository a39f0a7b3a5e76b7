"""Checks of a command line's changes, without a workflow."""

from __future__ import annotations

import re

import pytest
from monai.bundle import ConfigParser

from bundle.running.errors import UsageError
from bundle.running.overrides import accepted_arguments, check_overrides, close_ids


def test_close_ids_finds_by_whole_name_and_by_last_part() -> None:
    known = ["max_epochs", "optimizer", "optimizer#lr", "train", "train#trainer", "train#trainer#max_epochs"]
    assert close_ids("max_epoch", known)[0] == "max_epochs"
    assert close_ids("lr", known) == ["optimizer#lr"]
    assert close_ids("train::trainr", known)[0] == "train#trainer"
    assert close_ids("unrelated", known) == []


def test_accepted_arguments() -> None:
    assert accepted_arguments("torch.nn.ReLU") == {"inplace"}
    assert accepted_arguments("ReLU6") is None  # no MONAI class, not importable: left to MONAI
    assert "keys" in (accepted_arguments("LoadImaged") or {"keys"})
    assert accepted_arguments("dict") is None


def test_overrides_are_returned_under_the_ids_given() -> None:
    config = {"a": {"b": 1}, "c": None}
    assert check_overrides(config, {"a#b": 2, "a::b": "3e0", "c": None}) == {"a#b": 2, "a::b": 3.0, "c": "$None"}


@pytest.mark.parametrize("text", ["stack.tif#page=1", "100%/#a@b's", '"#', "plain", "@c", "$[@c, 3]"])
def test_text_arrives_as_given_with_marks_that_monai_would_change(text: str) -> None:
    parser = ConfigParser({"path": "", "c": 1})
    parser.update(check_overrides(parser.get(), {"path": text}))
    expected = {"@c": 1, "$[@c, 3]": [1, 3]}.get(text, text)
    assert parser.get_parsed_content("path") == expected


@pytest.mark.parametrize("key", ["", " max_epochs", "max_epochs ", "names#-1", "names#2"])
def test_keys_that_monai_would_accept_but_not_read_are_refused(key: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"'{key}'")):
        check_overrides({"max_epochs": 3, "names": ["a", "b"]}, {key: 1})
