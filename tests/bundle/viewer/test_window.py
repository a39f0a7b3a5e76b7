"""The plugin in a real window, by its manifest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import npe2
import numpy as np
import pytest
from PIL import Image

VIEWER = Path(__file__).resolve().parents[3] / "bundle" / "viewer"


def test_the_manifest_is_valid_and_names_what_exists():
    manifest = npe2.PluginManifest.from_file(VIEWER / "napari.yaml")
    for command in manifest.contributions.commands:
        module, name = command.python_name.replace("original_unet", "bundle").split(":")
        assert callable(getattr(pytest.importorskip(module), name))
    assert {widget.display_name for widget in manifest.contributions.widgets} == {"Segment", "Train"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="needs Xvfb, for a window without a screen")
def test_a_user_opens_segments_changes_settings_cancels_and_trains(tmp_path):
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24"]
    command = [sys.executable, "-m", "benchmarks.viewer", "--out", str(tmp_path), "--minutes", "0.2", "--size", "256"]
    environment = {name: value for name, value in os.environ.items() if name != "QT_QPA_PLATFORM"}
    done = subprocess.run([*screen, *command], capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "viewer.json").read_text())
    assert int(found["segmenting"]["objects"].split()[0]) > 180  # of 213 drawn
    assert "cancelled" in found["segmenting"]["after cancel"]
    assert found["training"]["at the end"].startswith("done")
    assert found["training"]["weights of Segment"]
    before, after = (np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("open.png", "segmented.png"))
    assert before.shape == after.shape
    assert (before != after).mean() > 0.01
