"""Faster ways to run the network on a GPU have the same results: CUDA graphs, fused layers, cuDNN's algorithms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_work import Choice, backend_flags, forward_pass, training_step
from benchmarks.measure import Setup
from tests.gpu.conftest import relative

pytestmark = pytest.mark.gpu
SIZE = 220


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(repeats=1, device=torch.device("cuda"), data=None, scratch=tmp_path)


def scores_of(setup: Setup, choice: Choice) -> torch.Tensor:
    with backend_flags(choice.precision == "TF32", choice.search, choice.deterministic):
        return forward_pass(setup, choice, SIZE)().float()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"graph": True},
        {"half_weights": True},
        {"fused": True},
        {"search": True},
        {"deterministic": True},
        {"channels_last": False},
        {"precision": "TF32"},
    ],
    ids=str,
)
def test_scores_are_the_same(setup, change):
    plain = Choice(batch=2, precision="float32", channels_last=False)
    assert relative(scores_of(setup, replace(Choice(batch=2), **change)), scores_of(setup, plain)) < 2e-2


def test_a_graph_replayed_gives_the_same_scores(setup):
    scores = forward_pass(setup, Choice(batch=1, graph=True), SIZE)
    first = scores().clone()
    assert torch.equal(first, scores())


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_whole_step_replayed_as_a_graph_trains(setup, optimizer):
    setup = replace(setup, quick=True)
    step = training_step(setup, Choice(batch=1, graph=True, optimizer=optimizer), SIZE)
    losses = [float(step()) for _ in range(5)]
    assert all(torch.isfinite(torch.tensor(losses)))
    assert len(set(losses)) > 1  # dropout draws anew, weights move
