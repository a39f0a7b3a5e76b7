"""`configs/multi_gpu_train.yaml` in two processes: equal weights from different images, files and runs written once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from bundle.__main__ import main
from scripts.failures import first_to_fail
from scripts.handlers.history import read_history
from tests.configs.conftest import CONFIGS, ROOT, settings, tracking, words
from tests.processes import in_processes, in_two_processes

pytestmark = pytest.mark.slow


def training_command(files: list[Path], overrides: dict[str, Any], *options: str) -> list[str]:
    """Write the words of a training on several devices after `monai.bundle`. Files are added to train.yaml."""
    names = ",".join(f"'{path}'" for path in (CONFIGS / "train.yaml", CONFIGS / "multi_gpu_train.yaml", *files))
    return ["run", "training", "--config_file", f"[{names}]", *options, *words(overrides)]


@pytest.fixture(scope="module")
def trained_together(tiny_dataset, tmp_path_factory) -> Path:
    """A folder with a training of two epochs by torchrun, with MLflow if installed. Each process has a `Witness`."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "witness.yaml").write_text(
        f'+train#handlers:\n- _target_: tests.configs.witness.Witness\n  folder: {folder}\n  network: "@network"\n'
    )
    overrides = settings(tiny_dataset, folder, val_fraction=0.5)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = training_command([folder / "witness.yaml"], overrides, *tracking(run_name="together"))
    done = subprocess.run(
        [*torchrun, "-m", "monai.bundle", *command],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_two_processes_train_on_different_images_to_equal_weights_and_write_once(trained_together):
    seen = [json.loads((trained_together / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert seen[0]["weights"] == seen[1]["weights"]
    for epoch in range(2):
        assert seen[0]["images"][epoch] != seen[1]["images"][epoch]
    assert seen[0]["tiles"] != seen[1]["tiles"]
    history = read_history(trained_together / "out" / "history.csv")
    assert [row["epoch"] for row in history] == [1, 2]
    assert {p.name for p in (trained_together / "models").iterdir()} == {"model.pt", "model.json", "training_state.pt"}
    weights = torch.load(trained_together / "models" / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in weights)
    assert len(list((trained_together / "out").glob("events.out.tfevents.*"))) == 1  # of one process


def test_one_of_two_processes_tracks(trained_together):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: pip install '.[tracking]'")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{trained_together}/out/mlruns.db")
    (run,) = client.search_runs([client.get_experiment_by_name("monai_experiment").experiment_id])
    assert (run.info.run_name, run.info.status) == ("together", "FINISHED")
    files = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert {"curves.png", "panel.png", "config.yaml"} <= files
    assert [value.step for value in client.get_metric_history(run.info.run_id, "epoch_loss")] == [1, 2]


def killed(rank: int, tmp_path: Path, dataset: Path) -> tuple[str, str]:
    """Train by torchrun, and kill a process after the first saved state. Return all messages and the process ID."""
    command = training_command([], settings(dataset, tmp_path, val_fraction=0.5, max_epochs=10**4))
    program = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "bundle", *command],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        while not (tmp_path / "models" / "training_state.pt").exists():
            assert program.poll() is None, program.communicate()[0]
            time.sleep(0.05)
        workers = psutil.Process(program.pid).children()
        (victim,) = (worker for worker in workers if worker.environ().get("RANK") == str(rank))
        victim.kill()
        return program.communicate(timeout=120)[0], str(victim.pid)
    finally:
        if program.poll() is None:
            program.kill()


def resume(rank: int, folder: Path, dataset: Path, epochs: int) -> None:
    os.chdir(ROOT)
    options = settings(dataset, folder, val_fraction=0.5, max_epochs=epochs, resume=True)
    assert main(training_command([], options)) == 0


def test_after_the_kill_of_a_process_the_message_names_it_and_resume_continues(tiny_dataset, tmp_path):
    text, number = killed(1, tmp_path, tiny_dataset)
    assert re.search(rf"rank 1 \(process {number} .*--resume true", text), text
    saved = torch.load(tmp_path / "models" / "training_state.pt", weights_only=False)["trainer"]
    done = saved["iteration"] // saved["epoch_length"]
    in_two_processes(partial(resume, dataset=tiny_dataset, epochs=done + 1), tmp_path)
    assert [row["epoch"] for row in read_history(tmp_path / "out" / "history.csv")] == list(range(1, done + 2))


def train_once(rank: int, folder: Path, dataset: Path) -> None:
    os.chdir(ROOT)
    assert main(training_command([], settings(dataset, folder, val_fraction=0.5, max_epochs=1))) == 0


def test_fewer_validation_images_than_processes_give_the_metrics_of_one_process(tiny_dataset, tmp_path):
    in_processes(3, partial(train_once, dataset=tiny_dataset), tmp_path)
    assert len(json.loads((tmp_path / "out" / "split.json").read_text())["validation"]) == 2
    (row,) = read_history(tmp_path / "out" / "history.csv")
    weights = str(tmp_path / "models" / "model.pt")
    split = ["--split_file", str(tmp_path / "out" / "split.json"), "--num_workers", "0", "--device", "cpu"]
    assert main(["evaluate", str(tiny_dataset), "--weights", weights, "--output", str(tmp_path / "alone"), *split]) == 0
    alone = json.loads((tmp_path / "alone" / "metrics.json").read_text())["mean"]
    shared = {name: row[f"val_{name}"] for name in alone if f"val_{name}" in row}
    assert "pixel_error" in shared
    assert shared == pytest.approx({name: alone[name] for name in shared}, rel=1e-3)


def train_fast(rank: int, folder: Path, dataset: Path) -> None:
    os.chdir(ROOT)
    options = settings(dataset, folder, val_fraction=0.5, max_minutes=0.05, max_epochs=10**6, tiles_per_epoch=2)
    assert main(training_command([CONFIGS / "variant_fast.yaml"], options)) == 0


def test_two_processes_end_together_when_the_time_is_over(tiny_dataset, tmp_path):
    in_two_processes(partial(train_fast, dataset=tiny_dataset), tmp_path)
    rows = read_history(tmp_path / "out" / "history.csv")
    assert rows[-1]["val_instance_f1"] is not None
    if rows[-1]["iteration"] > 100:  # the clock is read every 20 iterations, too rarely on a very slow machine
        assert rows[-1]["lr"] < 0.5 * max(row["lr"] for row in rows)


def train_frozen(rank: int, folder: Path, dataset: Path, weights: Path) -> None:
    os.chdir(ROOT)
    start = {"finetune": weights, "freeze_contracting": True, "learning_rate": 1e-2, "warmup_iterations": 0}
    options = settings(dataset, folder, val_fraction=0.5, max_epochs=2, **start)
    assert main(training_command([CONFIGS / "variant_fast.yaml"], options)) == 0


def test_two_processes_leave_a_frozen_contracting_path_as_it_is(trained, tiny_dataset, tmp_path):
    weights = trained / "models" / "model.pt"
    in_two_processes(partial(train_frozen, dataset=tiny_dataset, weights=weights), tmp_path)
    before = torch.load(weights, weights_only=True)
    after = torch.load(tmp_path / "models" / "training_state.pt", weights_only=True)["model"]
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(same[name] == name.startswith("contracting.") for name in same)


def fail(rank: int, folder: Path) -> None:
    (folder / f"{rank}.txt").write_text(str(first_to_fail()))
    torch.distributed.barrier()


def test_of_several_failed_processes_one_prints_its_message(tmp_path):
    in_processes(3, fail, tmp_path)
    assert sorted(path.read_text() for path in tmp_path.glob("*.txt")) == ["False", "False", "True"]
