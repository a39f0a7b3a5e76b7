"""What the trackers are told, as far as no tracker is needed to see it; with them: tests/configs/test_tracking.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ignite.engine import Engine

from scripts.handlers.tracking import RunFiles, log_metrics, log_picture, mlflow_handler, numbers

ROOT = Path(__file__).resolve().parents[3]


def test_numbers_of_a_report_have_the_names_of_their_keys():
    report = {"seg": 0.5, "mean": {"dice cell (dead)": 1, "n": None}, "ok": True, "curve": [1.0], "split": "whole"}
    assert numbers(report, "metrics") == {"metrics.seg": 0.5, "metrics.mean.dice cell _dead_": 1.0}


def test_without_mlflow_nothing_is_told_and_nothing_fails(tmp_path):
    engine = Engine(lambda *_: None)
    assert mlflow_handler(engine) is None
    RunFiles(tmp_path).attach(engine)
    (tmp_path / "metrics.json").write_text("no JSON")
    log_metrics(engine, {"loss": 1.0}, 1)
    log_picture(engine, tmp_path / "missing.png", 1)
    engine.run([0])


def test_only_changed_files_that_fit_the_patterns_are_found(tmp_path):
    (tmp_path / "panels").mkdir()
    for name in ("metrics.json", "table.csv", "weights.pt", "panels/00.png", "panels/00.csv"):
        (tmp_path / name).write_text("")
    found = {path.relative_to(tmp_path).as_posix() for path in RunFiles(tmp_path)._files()}
    assert found == {"metrics.json", "table.csv", "panels/00.png"}


WITHOUT_MLFLOW = """
import sys
sys.modules["mlflow"] = None  # as if it were not installed
import bundle.running.run, scripts.handlers
assert bundle.running.run.tracking_keys(None) == {}
try:
    bundle.running.run.tracking_keys("mlflow")
except bundle.running.run.UsageError as error:
    print(error)
"""


def test_all_works_without_mlflow_and_asking_for_it_says_what_to_install():
    command = [sys.executable, "-c", WITHOUT_MLFLOW]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "pip install -c constraints.txt '.[tracking]'" in done.stdout, done.stderr[-2000:]
