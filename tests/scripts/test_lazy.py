"""A package with lazy imports lists its names, and imports a module only at the first use of a name."""

from __future__ import annotations

import importlib
import pydoc

import pytest

LAZY = [f"scripts.{name}" for name in ("handlers", "inferers", "io", "metrics", "plot", "transforms")]


@pytest.mark.parametrize("package", LAZY)
def test_dir_and_help_list_every_exported_name(package):
    module = importlib.import_module(package)

    assert set(module.__all__) <= set(dir(module))
    shown = pydoc.plain(pydoc.render_doc(module))
    assert [name for name in module.__all__ if f"class {name}(" not in shown and f"    {name}(" not in shown] == []


@pytest.mark.parametrize(
    "package",
    ["data", "handlers", "inferers", "io", "metrics", "networks", "plot", "serving", "transforms"],
)
def test_the_docstring_of_a_package_names_every_exported_name(package):
    module = importlib.import_module(f"scripts.{package}")

    assert [name for name in module.__all__ if f"`{name}`" not in module.__doc__] == []
