"""Errors name the file of an item."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

from scripts.data.items import describe_failure, file_of


def test_an_entry_without_a_file_is_named_by_the_next_entry_or_by_the_key():
    item = {"label": torch.zeros(1), "image": MetaTensor(torch.zeros(1), meta={"filename_or_obj": "a.png"})}
    assert file_of(item, "label", "image") == "a.png"
    assert file_of(item, "label").startswith("'label'")


def test_a_failure_is_one_line_without_monai_s_outer_errors():
    inner = ValueError("two\n  lines")
    outer = RuntimeError("applying transform <x>")
    outer.__cause__ = inner
    assert describe_failure("a.png", outer) == "a.png: two lines"
    assert describe_failure("d/a.tif#page=3", ValueError("d/a.tif has 3 planes")) == "d/a.tif has 3 planes"
    assert describe_failure("a.png", MemoryError()) == "a.png: MemoryError"
