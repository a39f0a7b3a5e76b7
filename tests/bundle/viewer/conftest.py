"""Qt without a screen. Tests are skipped where napari or the libraries of Qt are missing."""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of napari, about its own packages
    pytest.importorskip("napari.layers", reason="needs the extra napari")
    pytest.importorskip("qtpy.QtWidgets", reason="needs libraries of Qt: libegl1, libgl1", exc_type=ImportError)
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication


def pytest_collection_modifyitems(items):
    """Warnings of napari and Qt are none of ours."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def application():
    return QApplication.instance() or QApplication([])


@pytest.fixture(autouse=True)
def no_error_is_lost(monkeypatch):
    """Without a hook, Qt aborts the process after an exception in a slot. With a hook, the test fails."""
    found = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: found.append("".join(traceback.format_exception(*error))))
    yield
    assert not found, found[0]


@pytest.fixture
def viewer(application):
    """Layers of a viewer, without a window."""
    return ViewerModel()


@pytest.fixture
def until(application):
    """Let Qt work until something is true, for a minute by default."""

    def wait(done, seconds=120):
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end
            application.processEvents()
            time.sleep(0.01)

    return wait
