"""The examples in docstrings run and print the stated results."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("scripts", "bundle", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_the_stated_results(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write files
    names = {"np": np, "torch": torch}  # predefined, as in numpy's examples
    result = doctest.testmod(importlib.import_module(name), extraglobs=names, optionflags=doctest.ELLIPSIS)

    assert not result.failed
