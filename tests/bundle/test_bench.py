"""`python -m bundle bench`: complete rows, equal figures in table and JSON, one message after a mistake."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

from benchmarks import start, training
from bundle.__main__ import main
from bundle.bench import BENCHMARKS, details, table
from bundle.datasets.sample import sample


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def bench(folder, *words) -> int:
    return main(["bench", *words, "--output", str(folder), "--data", str(folder / "no data")])


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_runs_and_its_rows_are_whole(name, tmp_path, monkeypatch):
    # The processes of `start` and all rows of `gpu` take minutes. tests/benchmarks runs them.
    for clock in ("import_seconds", "training_seconds", "prediction_seconds"):
        monkeypatch.setattr(start, clock, lambda *_: 1.0)
    monkeypatch.setattr(training, "sample", partial(sample, size=256, train=4, test=0))
    assert bench(tmp_path, name, "--quick", "--seconds", "5") == 0
    content = json.loads((tmp_path / "bench.json").read_text())
    rows = [row for row in content["rows"][name] if not row["ours"]["name"].startswith("left out")]
    assert rows
    for row in rows:
        assert min(row["ours"]["seconds"]) > 0
        assert row["baseline"] or row["limit"] or name == "gpu", row["what"]
    text = (tmp_path / "bench.md").read_text()
    assert text.startswith("**Quick")
    assert all(row["what"] in text for row in rows)


def test_rows_of_other_benchmarks_stay_and_a_repeated_one_is_replaced(tmp_path, capsys):
    for _ in range(2):
        assert bench(tmp_path, "step", "--quick") == 0
    first = json.loads((tmp_path / "bench.json").read_text())["rows"]["step"]
    assert bench(tmp_path, "gpu", "--quick", "--seconds", "0.01") == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert rows["step"] == first
    assert "training step" in capsys.readouterr().out


def test_times_of_different_machines_or_settings_are_not_mixed(tmp_path, capsys):
    assert bench(tmp_path, "gpu", "--quick", "--seconds", "0.01", "--threads", "1") == 0
    before = (tmp_path / "bench.json").read_bytes()
    assert bench(tmp_path, "gpu", "--quick", "--seconds", "0.01", "--threads", "2") == 1
    assert "holds times with threads 1, now 2; give another --output" in capsys.readouterr().err
    assert (tmp_path / "bench.json").read_bytes() == before


@pytest.mark.parametrize(
    "words, message",
    [
        (["stp"], "no benchmark 'stp'; did you mean 'step'?"),
        (["qqq"], "no benchmark 'qqq'; there are weight_map, "),
        (["step", "--repeats", "0"], "--repeats is 0, expected a whole number of at least 1"),
        (["step", "--repeats", "many"], "--repeats is 'many', expected a whole number of at least 1"),
        (["step", "--threads", "0"], "--threads is 0, expected a whole number of at least 1"),
        (["step", "--device", "tpu9"], "--device tpu9: "),
        (["gpu", "--seconds", "0"], "--seconds is 0, expected a number above 0"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_runs(words, message, tmp_path, capsys):
    assert bench(tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "bench.json").exists()


def test_table_and_details_by_hand():
    row = {
        "what": "image",
        "ours": {"name": "one tile", "median_seconds": 0.5, "seconds": [0.5]},
        "baseline": {"name": "four tiles", "median_seconds": 4.0, "seconds": [4.0]},
        "limit": {"name": "products", "median_seconds": 0.45, "seconds": [0.45]},
        "times_as_fast": {"median": 8.0, "low": 7.5, "high": 8.25},
        "share_of_limit": {"median": 0.9, "low": 0.85, "high": 0.95},
        "goals": ["7.5 x", "95% of the limit"],
        "reached": False,
        "note": "0.5 megapixels/s",
    }
    content = {
        "started": "2026-01-02T03:04:05+00:00",
        "quick": False,
        "device": "cpu",
        "threads": 2,
        "hardware": {"processor": "P", "instructions": "AVX2", "cores": 2, "memory_gib": 8.0},
        "versions": {"torch": "1", "monai": "2", "python": "3"},
        "rows": {"inference": [row], "step": []},
    }
    assert table(content).splitlines() == [
        "P with AVX2, 2 cores, 8.0 GiB. 2 threads, device cpu. torch 1, MONAI 2, Python 3. Measured on 2026-01-02.",
        "",
        "| work | ours | baseline | ratio | goal |",
        "|---|---|---|---|---|",
        "| image | **500 ms** | 4 s, four tiles | 8 x, 90% of the limit | 7.5 x, 95% of the limit: **missed** |",
    ]
    assert details(content).splitlines()[2:] == [
        "| image | one tile | four tiles | 7.5 .. 8.25 | 450 ms, products | 90% (85% .. 95%) | 0.5 megapixels/s |"
    ]
