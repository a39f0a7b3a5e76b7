"""Fixtures of the hostile tests; a table of tried and held cases for each section, which is a module."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.program import ROOT, Program
from tests.hostile.samples import write_images, write_pairs
from tests.hostile.weights import write_weights

TINY = ("--network_def#features=[2,4,8,16,32]", "--input_size=188", "--num_workers=0", "--device=cpu")


@pytest.fixture(scope="session")
def program() -> Iterator[Program]:
    """The commands of the checkout under test."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    program = Program(folder)
    yield program
    program.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images with instance labels."""
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images without labels."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that finds bright cells: `model.pt`, with its settings in `model.json`."""
    return write_weights(tmp_path_factory.mktemp("weights"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a row of tried and held cases for each section."""
    tried, held, skipped = Counter[str](), Counter[str](), Counter[str]()
    for result in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(result):
            if report.when != "call" and result == "passed":
                continue
            section = Path(report.nodeid.partition("::")[0]).stem.removeprefix("test_").replace("_", " ")
            tried[section] += result != "skipped"
            held[section] += result == "passed"
            skipped[section] += result == "skipped"
    terminalreporter.section(f"tried / held: {ROOT}")
    for section in {**tried, **skipped}:
        note = f", {skipped[section]} skipped" if skipped[section] else ""
        terminalreporter.write_line(f"{section:<28} {tried[section]:>4} / {held[section]:>4}{note}")
    terminalreporter.write_line(f"{'all':<28} {tried.total():>4} / {held.total():>4}")
