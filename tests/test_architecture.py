"""Imports go one way: bundle -> configs -> scripts; in scripts and bundle, from upper packages to lower ones."""

from __future__ import annotations

import ast
import importlib
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.absent import COMMAND_LINE, HEAVY

ROOT = Path(__file__).resolve().parents[1]


def imported(path: Path) -> set[str]:
    """Get the top-level packages of all imports in a module."""
    return {name for node in ast.walk(ast.parse(path.read_text())) for name in _names(node)}


def imported_at_once(path: Path) -> set[str]:
    """Get the top-level packages of a module's imports outside of functions."""
    return {name for node in ast.parse(path.read_text()).body for name in _names(node)}


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    absolute = isinstance(node, ast.ImportFrom) and node.module and not node.level
    return {node.module.split(".")[0]} if absolute else set()


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_scripts_travel_alone(path):
    assert not imported(path) & {"bundle", "benchmarks", "tests", "configs"}


@pytest.mark.parametrize("folder", ["scripts", "bundle", "benchmarks"])
def test_no_module_loads_a_library_for_some_files_or_commands_at_once(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not imported_at_once(path) & {*HEAVY, *COMMAND_LINE}, path.name


def test_no_configuration_names_the_tooling():
    for path in (ROOT / "configs").glob("*.yaml"):
        assert "_target_: bundle" not in path.read_text()


@pytest.mark.parametrize("folder", ["scripts", "bundle/running", "bundle/viewer"])
def test_installed_modules_import_one_another_relatively(folder):
    """The wheel holds them under another name, beside which `scripts` may be another bundle's."""
    for path in (ROOT / folder).rglob("*.py"):
        assert not imported(path) & {"scripts", "bundle", "original_unet"}, path.name


def test_the_wheel_holds_every_package():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {f"original_unet.{path.parent.name}" for path in (ROOT / "scripts").glob("*/__init__.py")}
    others = set(settings["package-dir"])  # configs, models, running, viewer
    assert set(settings["packages"]) == packages | others
    assert all((ROOT / folder).is_dir() for folder in settings["package-dir"].values())


LEVELS = {  # from the lowest; packages of the same level may import each other
    "scripts": (
        {"checks", "compiled", "components", "failures", "lazy", "messages", "options", "published", "ranks"},
        {"io"},
        {"networks"},
        {"settings", "model_json"},
        {"data"},
        {"inferers"},
        {"engines", "losses", "machine", "transforms"},
        {"metrics", "serving"},
        {"plot"},
        {"handlers"},
        {"large", "planning"},
        {"segmenter"},
        {"reporting"},
    ),
    "bundle": (
        {"running"},
        {"datasets", "viewer"},
        {"experiments"},
        {"publishing", "labelling", "bench"},
        {"__main__"},
    ),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    """Get the package of a module: scripts.io.tiff -> scripts.io."""
    return ".".join(module.split(".")[:2])


def absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """Get the absolute name of an imported module: in scripts.io.tiff, `..checks` -> scripts.checks."""
    if not node.level:
        return str(node.module)
    above = module.split(".")[: None if is_package and node.level == 1 else int(is_package) - node.level]
    return ".".join([*above, *([node.module] if node.module else [])])


def arrows(top: str) -> dict[str, set[str]]:
    """Map every module of a top-level package to all modules of the package in imports."""
    paths = {module_name(path): path for path in (ROOT / top).rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                module = absolute(node, name, path.name == "__init__.py")
                whole = [f"{module}.{alias.name}" for alias in node.names]  # a module, or a name in a module
                found[name] |= {full if full in paths else module for full in whole} & set(paths)
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & set(paths)
    return found


@pytest.mark.parametrize("top", LEVELS)
def test_packages_import_only_from_their_own_level_and_below(top):
    level = {room: number for number, rooms in enumerate(LEVELS[top]) for room in rooms}
    upwards = [
        f"{module} -> {other}"
        for module, others in arrows(top).items()
        for other in others
        if "." in module and "." in other and level[other.split(".")[1]] > level[module.split(".")[1]]
    ]
    assert not upwards


@pytest.mark.parametrize("top", LEVELS)
def test_no_module_imports_itself_through_other_modules(top):
    TopologicalSorter(arrows(top)).prepare()  # raises CycleError with the names of the modules


@pytest.mark.parametrize("top", LEVELS)
def test_no_package_imports_itself_through_other_packages(top):
    between: dict[str, set[str]] = {}
    for module, others in arrows(top).items():
        room = package_of(module)
        between.setdefault(room, set()).update({package_of(other) for other in others} - {room, top})
    TopologicalSorter(between).prepare()


@pytest.mark.parametrize("package", ["handlers", "inferers", "io", "metrics", "plot", "transforms"])
def test_a_package_has_all_names_that_are_loaded_when_used(package):
    module = importlib.import_module(f"scripts.{package}")
    for name in module.__all__:
        assert getattr(module, name).__module__.startswith(f"scripts.{package}.")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


@pytest.fixture
def scripts_not_loaded(monkeypatch):
    """Forget the modules of `scripts` during a test, and let imports of pyplot fail."""
    before = {name: sys.modules.pop(name) for name in loaded("scripts")}
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    yield
    for name in loaded("scripts"):
        del sys.modules[name]
    sys.modules.update(before)


def loaded(*packages: str) -> list[str]:
    """List the loaded modules of packages."""
    return sorted(name for name in sys.modules if f"{name}.".startswith(tuple(f"{package}." for package in packages)))


@pytest.mark.usefixtures("scripts_not_loaded")
def test_the_inference_side_loads_neither_figures_nor_the_measures_of_challenges():
    for package in ("data", "engines", "inferers", "io", "networks", "transforms", "serving"):
        module = importlib.import_module(f"scripts.{package}")
        for name in module.__all__ if package != "engines" else ():
            assert getattr(module, name)
    assert loaded("scripts.handlers", "scripts.metrics", "scripts.plot") == []
    handlers = importlib.import_module("scripts.handlers")
    for name in ("LoadWeights", "ProgressBar", "RunSettings", "SegmentationSaver"):
        assert getattr(handlers, name)
    tables = ["scripts.metrics", "scripts.metrics.measures", "scripts.metrics.shapes"]
    assert loaded("scripts.metrics", "scripts.plot") == [*tables, "scripts.plot", "scripts.plot.overlays"]
