"""Rows of the GPU benchmark run on a CPU with a tiny network, fail alone and respect their time limit."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import INFERENCE, TRAINING, rows, trials
from benchmarks.gpu_timing import Trial, isolated
from benchmarks.gpu_work import Choice, backend_flags, forward_pass, tile_operations, training_step
from benchmarks.measure import Row, Setup, Times
from bundle.bench import _line, _table_line


@pytest.fixture(autouse=True)
def few_objects() -> Iterator[None]:
    """Hide the objects of earlier tests from the search for garbage, which would take most of the time of a row."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(repeats=1, device=torch.device("cpu"), data=None, scratch=tmp_path, quick=True)


def flags() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic


@pytest.mark.slow
def test_all_rows_run_with_a_tiny_network_and_have_a_rate(setup):
    found = list(rows(setup))
    assert [row.ours.name for row in found if not row.ours.seconds] == []
    for row in found:
        assert any(unit in row.note for unit in ("TFLOP/s", "tiles/s", "megapixels/s"))
        assert (row.limit is not None) == (not row.what.startswith("matrix product"))
    assert len({row.what for row in found}) == len(found)


def test_without_a_gpu_nothing_is_measured_at_full_size(setup):
    assert list(rows(replace(setup, quick=False))) == []


def test_rows_after_the_time_limit_are_named_and_left_out(setup):
    found = list(rows(replace(setup, seconds=0.1)))
    assert [row.what for row in found] == [trial.what for trial in trials(setup)]
    assert {row.ours.name for row in found} == {"left out: 0 of 0.1 s were spent"}


def failing() -> Row:
    assert torch.backends.cudnn.benchmark
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


def test_a_failed_row_has_its_reason_in_the_table_and_resets_the_flags():
    before = flags()
    row = isolated(Trial("a pass", 1, Choice(precision="float32", search=True), failing))
    assert flags() == before
    assert row.reached() is None
    reason = "failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert _line(row.as_json()) == f"a pass: {reason}"
    assert _table_line(row.as_json()) == f"| a pass | {reason} |  |  |  |"


def test_a_row_without_rounds_has_no_ratios():
    row = Row("work", Times("failed", []), Times("theirs", [1.0]), Times("limit", [1.0]))
    assert (row.times_as_fast, row.share) == (None, None)


def test_flags_are_set_inside_the_block_only():
    before = flags()
    with backend_flags(tf32=False, search=True, deterministic=True):
        assert flags() == (False, False, True, True)
    assert flags() == before


@pytest.mark.parametrize("training, tera", [(False, 0.3007), (True, 0.9020)])
def test_operations_of_a_tile_are_those_of_the_paper_s_network(training, tera, tmp_path):
    setup = Setup(repeats=1, device=torch.device("cpu"), data=None, scratch=tmp_path)
    assert tile_operations(setup, 572, training) == pytest.approx(tera * 1e12, rel=1e-3)


@pytest.mark.parametrize("change", [{}, {"channels_last": False}, {"half_weights": True}], ids=str)
def test_all_ways_compute_the_same_scores(change, setup):
    expected = forward_pass(setup, Choice(batch=2, precision="float32"), 188)()
    scores = forward_pass(setup, replace(Choice(batch=2), **change), 188)()
    assert (scores.float() - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("change", [{}, {"optimizer": "AdamW"}], ids=str)
def test_all_ways_compute_the_same_loss(change, setup):
    torch.manual_seed(3)  # for dropout
    expected = training_step(setup, Choice(batch=2, precision="float32"), 188)()
    torch.manual_seed(3)
    loss = training_step(setup, replace(Choice(batch=2), **change), 188)()
    assert abs(loss - expected) < 0.05 * expected


def test_the_most_important_rows_come_first(setup):
    order = [trial.what for trial in trials(setup)]
    assert all(what.startswith("matrix product") for what in order[:4])
    assert order[4] == f"{INFERENCE}, tiles of 188, batch 1, bfloat16, channels-last"
    assert order[6] == f"{TRAINING}, tiles of 188, batch 1, bfloat16, channels-last"


def test_a_gpu_also_has_rows_of_graphs_and_compilers(setup):
    names = [trial.what for trial in trials(replace(setup, device=torch.device("cuda"), quick=False))]
    assert len(set(names)) == len(names)
    for work in (INFERENCE, TRAINING):
        for way in ("CUDA graph", "torch.compile, mode default"):
            assert f"{work}, tiles of 572, batch 8, bfloat16, channels-last, {way}" in names


def test_fused_layers_compute_the_same(monkeypatch, setup):
    def unfused(x, weight, bias, *_):
        return torch.relu(torch.nn.functional.conv2d(x, weight, bias))

    monkeypatch.setattr(torch, "cudnn_convolution_relu", unfused)
    fused = forward_pass(setup, Choice(batch=2, fused=True), 188)()
    assert torch.equal(fused, forward_pass(setup, Choice(batch=2, half_weights=True), 188)())
