"""Trials do the work of what they are compared with, and each runs as its name says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import trials, ways_to_try
from benchmarks.measure import Setup
from bundle.running.run import ROOT
from tests.same_scores import SUMS, assert_same_scores

SETUP = Setup(1, torch.device("cpu"), None, Path(), quick=True)
OTHER_WAYS = ["given back", "tiles of 572", "NCHW", "channels-last tiles", "graph", "one thread"]


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """What the trials use, as on a processor with instructions for bfloat16 and as on one without."""
    monkeypatch.setattr(ways_to_try, "computes_in_bfloat16", lambda device: request.param == torch.bfloat16)
    return request.param


def test_image_trials_give_the_same_scores_in_other_ways(native):
    with torch.inference_mode():
        made = trials.chosen(ways_to_try.image_trials(SETUP), OTHER_WAYS)
        results = {name: trial.make()() for name, trial in made.items()}
    assert {"NCHW", "oneDNN graph (torch.jit)", "tiles of 572, four at once"} <= set(results)
    for name, scores in results.items():
        dtype = torch.float32 if "float32" in name else native
        assert_same_scores(scores, results["float32, NCHW"], dtype, name=name)


def test_a_traced_step_has_the_loss_of_the_one_that_is_used(native):
    """To one rounding of the format; in float32 to the order of sums."""
    losses = []
    for trial in trials.chosen(ways_to_try.step_trials(SETUP), ["graph"]).values():
        run = trial.make()
        run()  # traces
        torch.manual_seed(0)  # of the dropout
        losses.append(run())
    assert len(losses) == 2
    assert losses[1] == pytest.approx(losses[0], rel=torch.finfo(native).eps + SUMS)


def test_the_graph_compiler_is_on_in_its_trial_and_off_afterwards():
    """Left on, it fails in later scripts of the same process whose tiles vary in size."""
    assert ways_to_try.fused(torch.jit.onednn_fusion_enabled)()
    assert not torch.jit.onednn_fusion_enabled()
    with pytest.raises(ZeroDivisionError):
        ways_to_try.fused(lambda: 1 / 0)()
    assert not torch.jit.onednn_fusion_enabled()


def test_a_word_chooses_trials_and_the_first_is_always_run():
    made = dict.fromkeys(["as used", "fused optimiser", "torch.compile"], ways_to_try.Trial(lambda: lambda: None))
    assert list(trials.chosen(made, ["compile"])) == ["as used", "torch.compile"]
    assert list(trials.chosen(made, [])) == list(made)


def test_several_tiles_a_step_are_timed_by_the_tile():
    steps = trials.chosen(ways_to_try.step_trials(SETUP), ["4 tiles"])
    times = trials.seconds_of(steps, repeats=2)
    assert [len(seconds) for seconds in times.values()] == [2, 2]
    assert steps["4 tiles a step"].tiles == 4
    lines = trials.table({"as used": [2.0, 4.0], "half of it": [1.0, 2.0]}).splitlines()
    assert lines[2:] == ["| as used | 3 | 1.00 (1.00 .. 1.00) |", "| half of it | 1.5 | 2.00 (2.00 .. 2.00) |"]


@pytest.mark.slow
def test_threads_are_set_up_in_processes_of_their_own():
    times = trials.seconds_in_processes("image", repeats=1, quick=True)
    assert list(times) == list(trials.THREADS)
    assert all(seconds > 0 for values in times.values() for seconds in values)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tell a thread's processors")
def test_a_pinned_thread_has_one_core():
    """That torch's OpenMP heeds the variables, in a process that counts the cores each of its threads may use."""
    count = (
        "import os, torch; torch.set_num_threads(2); torch.ones(2**22).exp(); "
        "print(len(os.sched_getaffinity(0)))  # the main thread is the first of the team"
    )
    environment = {**os.environ, **trials.THREADS["threads pinned to cores"]}
    output = subprocess.check_output([sys.executable, "-c", count], cwd=ROOT, env=environment, text=True)
    assert output.strip() == "1"
