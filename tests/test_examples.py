"""The examples in docstrings run as typed and print the stated results."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.optional import needs_napari

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("scripts", "bundle", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


def names_for(test: doctest.DocTest, module: ModuleType) -> dict[str, Any]:
    """Return the names that an example may use without an import.

    A user types the example of a public object after `from scripts.<package> import <name>`. Public are the exported
    names of a package, and all names of a module directly in `scripts`. Other examples may use all names of the module.
    """
    package = module.__name__.rpartition(".")[0]
    name = test.name.removeprefix(module.__name__).lstrip(".").partition(".")[0]
    exported = getattr(importlib.import_module(package), "__all__", ()) if package else ()
    public = name in exported or (package == "scripts" and name and not name.startswith("_"))
    return {"np": np, "torch": torch, **({name: getattr(module, name)} if public else vars(module))}


def marked(name: str) -> Any:
    """Mark the modules of the napari plugin. Warnings of napari are none of ours."""
    in_viewer = name.startswith("bundle.viewer")
    return pytest.param(name, marks=[needs_napari, pytest.mark.filterwarnings("ignore")] if in_viewer else [])


@pytest.mark.parametrize("name", [marked(name) for name in MODULES])
def test_examples_run_as_typed_and_print_the_stated_results(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write files
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)

    written = sum(line.strip().startswith(">>> ") for line in Path(str(module.__file__)).read_text().splitlines())
    tests = doctest.DocTestFinder().find(module)
    assert sum(len(test.examples) for test in tests) == written  # no example is passed over
    for test in tests:
        test.globs = names_for(test, module)
        runner.run(test)

    assert not runner.summarize().failed


PACKAGES = sorted(path.parent.name for path in (ROOT / "scripts").glob("*/__init__.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_function_has_an_example(package):
    module = importlib.import_module(f"scripts.{package}")
    functions = [name for name in module.__all__ if inspect.isroutine(getattr(module, name))]
    docstrings = {name: inspect.getdoc(getattr(module, name)) or "" for name in functions}
    in_yaml = [name for name, text in docstrings.items() if "_target_:" in text]
    in_python = [name for name, text in docstrings.items() if doctest.DocTestParser().get_examples(text)]
    assert {*in_yaml, *in_python} == set(functions)
