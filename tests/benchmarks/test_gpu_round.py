"""A round on the CPU records every step and writes results; joined pieces of weights are the whole file."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch

from benchmarks import gpu_trainings
from benchmarks.gpu_round import LEAST, SHARES, Round, Step, main, run_round
from benchmarks.gpu_trainings import MEASURED, TRAININGS, pack, told, train_and_measure
from bundle.datasets.sample import sample
from scripts.handlers.checkpoints import load_weights
from scripts.settings import build_network, read_settings

STEPS = ["tests", "bench waiting", "bench gpu", *(f"train {name}" for name in MEASURED)]
SHORT = {"tiles_per_epoch": 2, "max_epochs": 1}


@pytest.mark.slow
def test_half_a_minute_runs_some_steps_and_names_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_round", "--minutes", "0.5", "--out", str(tmp_path)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the handler would stay after the test
    monkeypatch.setitem(LEAST, "tests", 4.0)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    steps = json.loads((tmp_path / "summary.json").read_text())["steps"]
    names = [step["name"] for step in steps]
    expected = [name for name in STEPS if name in names or "bench" not in name]
    assert [name for name in names if name != "bench"] == expected  # a single name if both of its steps are left out
    assert all(step["told"] for step in steps if step["state"] == "left out")
    assert any(step["state"] != "left out" for step in steps)
    summary = (tmp_path / "summary.md").read_text()
    assert all(name in summary for name in names)


@pytest.fixture
def small_sample(monkeypatch):
    monkeypatch.setattr(gpu_trainings, "sample", partial(sample, size=128, train=4, test=0))


def test_a_training_writes_figures_and_weights_in_pieces(tmp_path, small_sample):
    result = train_and_measure("em", 0.1, tmp_path / "none", tmp_path, SHORT)
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 2
    assert "optimistic" in result["protocol"]
    assert result["synthetic"]
    assert 0 <= result["1 views"]["SEG"] <= 1
    (tmp_path / "em.pt").unlink()
    subprocess.run(result["weights"]["join"], shell=True, cwd=tmp_path, check=True)
    load_weights(build_network(read_settings(tmp_path / "em.pt")), tmp_path / "em.pt")


def test_nuclei_are_measured_on_images_that_neither_train_nor_choose_the_weights(tmp_path, small_sample):
    result = train_and_measure("nuclei", 0.1, tmp_path / "none", tmp_path, SHORT)
    trained, measured = (json.loads((tmp_path / part / "split.json").read_text()) for part in ("train", "views1"))
    parts = [trained["training"], trained["validation"], measured["validation"]]
    assert [len(part) for part in parts] == [2, 1, 1]
    assert len({name for part in parts for name in part}) == 4
    assert 0 <= result["1 views"]["SEG"] <= 1
    assert "optimistic" not in result["protocol"]
    assert result["protocol"] in told(result)


def test_weights_trained_on_all_images_have_no_figure(tmp_path, small_sample):
    result = train_and_measure("em_all", 0.1, tmp_path / "none", tmp_path, SHORT)
    training = read_settings(tmp_path / "em_all.pt").training
    assert training.images == 4
    assert training.best is None
    assert training.fitted is None
    assert "4 images train" in result["protocol"]
    assert "no figure" in result["protocol"]
    assert not any("views" in key for key in result)
    assert "weights" in told(result)[-1]


def test_the_usual_trainings_are_measured_and_share_all_minutes():
    assert sum(TRAININGS[name].share for name in MEASURED) == pytest.approx(1)
    assert set(TRAININGS) - set(MEASURED) == {"em_all"}


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_is_a_step_of_the_round_if_named(tmp_path, name):
    assert [step.name for step in run_round(0.01, tmp_path, tmp_path, ["train"], [name]).steps] == [f"train {name}"]


def test_pieces_joined_are_the_rounded_weights(tmp_path):
    weights = {"a": torch.randn(40, 40), "n": torch.tensor([3])}
    torch.save(weights, tmp_path / "model.pt")
    packed = pack(tmp_path / "model.pt", tmp_path / "packed.pt", piece=1000)
    joined = b"".join((tmp_path / name).read_bytes() for name in packed["pieces"])
    assert hashlib.sha256(joined).hexdigest() == packed["sha256"]
    assert len(packed["pieces"]) > 1
    assert all((tmp_path / name).stat().st_size <= 1000 for name in packed["pieces"])
    state = torch.load(tmp_path / "packed.pt", weights_only=True)
    assert torch.equal(state["a"], weights["a"].bfloat16())
    assert state["n"].dtype == torch.int64


def test_a_late_step_ends_with_its_child_processes_and_a_failed_step_fails_the_round(tmp_path):
    a_round = Round(60, tmp_path, tmp_path)
    late = f"import pathlib, time; time.sleep(3); pathlib.Path({str(tmp_path / 'survived')!r}).touch()"
    child = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {late!r}]); time.sleep(60)"
    step = a_round._run("sleeper", ["-c", child], 1.0, tmp_path / "log")
    assert step.state == "out of time"
    assert a_round._run("failing", ["-c", "raise SystemExit(3)"], 10.0, tmp_path / "log").state == "failed"
    a_round._note(step)
    assert a_round.held
    a_round._note(Step("failing", "failed"))
    assert not a_round.held
    subprocess.run([sys.executable, "-c", "import time; time.sleep(3)"], check=True)
    assert not (tmp_path / "survived").exists()


def test_without_time_everything_is_left_out_and_named(tmp_path):
    a_round = run_round(0.01, tmp_path, tmp_path, list(SHARES), MEASURED)
    assert {step.state for step in a_round.steps} == {"left out"}
    assert [step.name for step in a_round.steps] == ["tests", "bench", *STEPS[3:]]


@pytest.mark.parametrize("option, value", [("--parts", "tests,benhc"), ("--sets", "emm"), ("--minutes", "0")])
def test_an_unknown_choice_is_refused(option, value, tmp_path, monkeypatch, capsys):
    options = {"--minutes": "1", "--out": str(tmp_path / "out"), option: value}
    monkeypatch.setattr(sys, "argv", ["gpu_round", *(word for pair in options.items() for word in pair)])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert option in error
    assert value.split(",")[-1] in error
    assert not (tmp_path / "out").exists()
