"""The benchmark of `rank` keeps its parts apart, measures errors and scores, and compares both."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.ranking import ERRORS, FIRST, MORE, POOL, TEST, VALIDATION, correlations, measures, split


def test_no_image_is_in_two_parts_and_every_seed_has_the_same_test(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for k in range(TEST + VALIDATION + FIRST + POOL + 20):
        (tmp_path / "images" / f"{k}.png").touch()
    one, other = split(tmp_path, 0), split(tmp_path, 1)
    for parts in (one, other):
        lists = [set(names) for names in parts[1:]]
        assert [len(names) for names in lists] == [TEST, VALIDATION, FIRST, POOL]
        assert all(a.isdisjoint(b) for a, b in combinations(lists, 2))
    assert (one.test, one.validation) == (other.test, other.validation)
    assert one.first != other.first


def test_a_perfect_and_certain_result_has_neither_error_nor_score() -> None:
    label = np.zeros((40, 60), np.uint16)
    label[5:15, 5:15], label[20:30, 30:50] = 1, 2
    certain = (label > 0).astype(np.float32)
    found = measures(label.astype(np.uint8), label, certain, 0 * certain)
    assert not any([*found.values()][: ERRORS + 4])
    blurred = measures(label.astype(np.uint8), label, 0.6 * certain, 0 * certain)
    assert blurred["1 - F1"] == 0  # right, but uncertain
    assert min([*blurred.values()][ERRORS : ERRORS + 4]) > 0


def test_the_table_finds_the_score_that_follows_the_error(capsys) -> None:
    values = np.linspace(0, 1, POOL)
    label = np.zeros((8, 8), int)
    names = list(measures(label, label, label.astype(np.float32), label.astype(np.float32)))
    rows = {str(k): {**dict.fromkeys(names, v), names[ERRORS + 1]: -v} for k, v in enumerate(values)}
    correlations([rows])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split("|")[2].strip() == "+1.00"
    assert lines[3].split("|")[2].strip() == "-1.00"
    assert float(lines[2].split("|")[-2]) > float(lines[3].split("|")[-2])
    assert lines[2].split("|")[-2].strip() == f"{values[-MORE:].mean():.2f}"
