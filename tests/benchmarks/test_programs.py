"""Programs of benchmarks end with a line that names file or setting, not with a trace."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import gpu_trainings, published


def message(program, words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a program that fails. Return its last words."""
    monkeypatch.setattr(sys, "argv", ["program", *words])
    with pytest.raises(SystemExit) as end:
        program.main()
    return str(end.value.code)


@pytest.mark.parametrize(
    "record, split, found",
    [
        ('{"of": ', '{"training": [], "validation": []}', "result.json"),
        ('{"of": 3}', '{"training": [], "validation": []}', "result.json"),
        ("{}", "{}", "'training'"),
    ],
)
def test_a_damaged_record_of_a_training_is_named(record, split, found, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "result.json").write_text(record, encoding="utf-8")
    (tmp_path / "split.json").write_text(split, encoding="utf-8")
    words = ["em", "--training", str(tmp_path), "--measured", str(tmp_path / "split.json")]
    said = message(published, words, monkeypatch)
    assert said.startswith("error: ")
    assert found in said
    assert str(tmp_path) in said


@pytest.mark.parametrize("key, value, found", [("threshold", "abc", "'abc'"), ("treshold", "0.3", "'threshold'")])
def test_a_wrong_setting_is_refused_before_anything_is_written(key, value, found, tmp_path: Path, monkeypatch) -> None:
    words = ["em", "--minutes", "1", "--out", str(tmp_path / "out"), "--set", key, value]
    said = message(gpu_trainings, words, monkeypatch)
    assert said.startswith("error: ")
    assert found in said
    assert not (tmp_path / "out").exists()
