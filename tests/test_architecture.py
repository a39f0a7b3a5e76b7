"""Dependency runs one way: bundle -> configs -> scripts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.absent import COMMAND_LINE, HEAVY

ROOT = Path(__file__).resolve().parents[1]


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere in it."""
    return {name for node in ast.walk(ast.parse(path.read_text())) for name in _names(node)}


def imported_at_once(path: Path) -> set[str]:
    """Top-level packages that are imported with a module, and not only by a call of its functions."""
    return {name for node in ast.parse(path.read_text()).body for name in _names(node)}


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return {node.module.split(".")[0]} if isinstance(node, ast.ImportFrom) and node.module else set()


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda p: p.name)
def test_scripts_travel_alone(path):
    assert not imported(path) & {"bundle", "benchmarks", "tests", "configs"}


@pytest.mark.parametrize("folder", ["scripts", "bundle", "benchmarks"])
def test_no_module_waits_for_a_library_that_only_some_files_or_commands_need(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not imported_at_once(path) & {*HEAVY, *COMMAND_LINE}, path.name


def test_no_configuration_names_the_tooling():
    for path in (ROOT / "configs").glob("*.yaml"):
        assert "_target_: bundle" not in path.read_text()


def test_nothing_would_be_installed():
    """A package named `scripts` or `bundle` in site-packages would shadow the one beside the configuration."""
    text = (ROOT / "pyproject.toml").read_text()
    assert "packages = []" in text
    assert "py-modules = []" in text


def test_modules_have_one_idea():
    """Long modules have two; the limit is about 250 lines."""
    for folder in ("scripts", "bundle", "benchmarks"):
        for path in (ROOT / folder).glob("*.py"):
            assert len(path.read_text().splitlines()) <= 265, path.name
