"""Trainings by configurations: interrupted and resumed, repeated in one folder, started twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from bundle.__main__ import main
from scripts.handlers.history import read_history
from tests.configs.conftest import CONFIGS, ROOT, settings, words

FAST = {"val_interval": 2, "max_epochs": 3, "dropout": 0.5, "tiles_per_epoch": 3}


def train(*files: Path | str, **overrides: Any) -> int:
    names = ",".join(str(CONFIGS / name) for name in ("train.yaml", *files))
    return main(["run", "training", "--config_file", f"[{names}]", *words(overrides)])


def overlay(folder: Path, text: str) -> Path:
    """Write an overlay that adds a handler."""
    path = folder / "overlay.yaml"
    path.write_text(f"+train#handlers:\n- {{_target_: tests.configs.witness.{text}}}\n")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:parsing config_file")  # the overlay is a file outside of the bundle
def test_a_training_stopped_at_any_moment_and_resumed_equals_an_uninterrupted_one(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    fast, evaluator = "variant_fast.yaml", 'evaluator: "@validate#evaluator"'
    assert train(fast, **settings(tiny_dataset, tmp_path / "whole", **FAST)) == 0
    parts = settings(tiny_dataset, tmp_path / "parts", **FAST)
    (tmp_path / "parts").mkdir()
    before = set(multiprocessing.active_children())
    stops = [  # within an epoch, at the end of an epoch, in the last validation
        ("Signalling, number: 15, step: 2", 143, {"num_workers": 2}),
        ("Signalling, number: 2, step: 3", 130, {"num_workers": 1}),
        (f"Signalling, number: 15, {evaluator}, epoch: 3", 143, {}),
    ]
    for k, (text, code, more) in enumerate(stops):
        stop = overlay(tmp_path, text)
        assert train(fast, stop, **parts | more | {"resume": k > 0}) == code
        assert set(multiprocessing.active_children()) <= before
    assert train(fast, **parts | {"resume": True}) == 0

    states = [
        torch.load(tmp_path / name / "models" / "training_state.pt", weights_only=True) for name in ("whole", "parts")
    ]
    for part in ("model", "average"):
        assert all(torch.equal(values, states[1][part][name]) for name, values in states[0][part].items())
    weights = [torch.load(tmp_path / name / "models" / "model.pt", weights_only=True) for name in ("whole", "parts")]
    assert all(torch.equal(values, weights[1][name]) for name, values in weights[0].items())
    rows = [read_history(tmp_path / name / "out" / "history.csv") for name in ("whole", "parts")]
    for history in rows:
        for row in history:
            del row["seconds"]
    assert rows[0] == rows[1]


def test_a_new_training_in_the_folder_of_another_keeps_the_other(trained, tiny_dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    models, out = tmp_path / "models", tmp_path / "out"
    before = contents(tmp_path)
    repeat = {"split_file": str(out / "split.json"), "max_epochs": 1, "val_interval": 5}
    assert train(**settings(tiny_dataset, tmp_path, **repeat)) == 0
    for name in ("model.pt", "model.json", "training_state.pt"):
        stem, suffix = os.path.splitext(name)
        assert (models / f"{stem}.1{suffix}").read_bytes() == before[f"models/{name}"]
        assert (models / name).read_bytes() != before[f"models/{name}"]
    for name in ("history", "split"):
        (kept,) = out.glob(f"{name}.1.*")
        assert kept.read_bytes() == before[f"out/{name}{kept.suffix}"]
    assert len(read_history(out / "history.csv")) == 1
    assert "model.1.pt" in capsys.readouterr().out


def test_a_second_training_in_one_folder_is_refused_before_it_writes_anything(
    trained, tiny_dataset, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(ROOT)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    other = subprocess.Popen(["sleep", "600"])
    try:
        lock = tmp_path / "models" / ".lock"
        lock.write_text(
            json.dumps({"pid": other.pid, "host": socket.gethostname(), "command": "train", "started": "now"})
        )
        before = contents(tmp_path)
        assert train(**settings(tiny_dataset, tmp_path)) == 1
        told = capsys.readouterr().err
        assert all(text in told for text in (str(tmp_path / "models"), str(other.pid), "model_dir"))
        assert contents(tmp_path) == before
    finally:
        other.kill()
        other.wait()


def test_resuming_names_changed_settings_and_refuses_other_images(trained, tiny_dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    again = {"resume": True, "max_epochs": 3, "val_interval": 9}
    assert train(**settings(tiny_dataset, tmp_path, seed=5, **again)) == 1
    told = capsys.readouterr().err
    assert all(text in told for text in ("training_state.pt", "seed", "split_rule", "--split_file"))
    assert train(**settings(tiny_dataset, tmp_path, batch_size=3, **again)) == 1
    assert "batch_size 3 (before 1)" in capsys.readouterr().err
    assert train(**settings(tiny_dataset, tmp_path, learning_rate=0.5, rotation=0.1, **again)) == 0
    told = capsys.readouterr().out
    assert "learning_rate is 0.5, and was 0.001" in told
    (line,) = [line for line in told.splitlines() if "settings other than before" in line]
    assert "rotation 0.1 (before 3.14159265)" in line
    assert "max_epochs" not in line


@pytest.mark.slow
def test_sigterm_to_the_plain_command_saves_the_state_ends_the_workers_and_gives_143(tiny_dataset, tmp_path):
    more = {"num_workers": 2, "max_epochs": 10**6, "val_interval": 10**6}
    command = [
        "run",
        "training",
        "--config_file",
        "configs/train.yaml",
        *words(settings(tiny_dataset, tmp_path, **more)),
    ]
    history = tmp_path / "out" / "history.csv"
    with (tmp_path / "log").open("w") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "monai.bundle", *command],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while started.poll() is None and not history.is_file():
                psutil.wait_procs([], timeout=0.2)
            workers = psutil.Process(started.pid).children(recursive=True)
            os.killpg(started.pid, signal.SIGTERM)  # all processes, as clusters do
            assert started.wait(timeout=120) == 143
        finally:
            started.kill()
            started.wait()
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    assert "Traceback" not in (tmp_path / "log").read_text()
    state = torch.load(tmp_path / "models" / "training_state.pt", weights_only=True)
    assert state["trainer"]["iteration"] >= len(read_history(history)) * 3
    assert list(tmp_path.rglob(".lock")) == []
