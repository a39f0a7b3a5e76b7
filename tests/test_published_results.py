"""What is published says what was measured: the table of docs/results, and the figures of the model card."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bundle.experiments import EXPERIMENTS
from bundle.report import read_results, results_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
CARD = ROOT / "docs" / "README.md"


def squeezed(line: str) -> str:
    return re.sub(r"\s+", " ", line).strip()


def test_the_table_is_what_the_results_files_say():
    assert (RESULTS / "table.md").read_text(encoding="utf-8") == results_table(read_results(RESULTS))


def test_every_row_of_the_model_card_that_sets_ours_beside_the_paper_is_a_row_of_the_table():
    table = {squeezed(line) for line in (RESULTS / "table.md").read_text(encoding="utf-8").splitlines()}
    measures = tuple(f"| {line.measure} |" for experiment in EXPERIMENTS.values() for line in experiment.published)
    rows = [row for row in map(squeezed, CARD.read_text(encoding="utf-8").splitlines()) if row.startswith(measures)]
    assert len(rows) == len(measures), "each measure of each experiment once"
    assert [row for row in rows if row not in table] == []


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/results.json")), ids=lambda p: p.parent.name)
def test_a_result_names_no_place_of_the_machine_it_was_made_on(path):
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', json.dumps(json.loads(path.read_text(encoding="utf-8"))))
    assert [text for text in strings if text.startswith(("/", "~"))] == []
