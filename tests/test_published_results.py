"""What is published says what was measured: the table of docs/results, and the figures of the model card."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bundle.rules.basis import Bundle
from bundle.rules.card import results
from bundle.verify import check

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def test_table_and_model_card_say_what_the_results_files_say():
    assert check(results, Bundle(ROOT)) == []


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/results.json")), ids=lambda p: p.parent.name)
def test_a_result_names_no_place_of_the_machine_it_was_made_on(path):
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', json.dumps(json.loads(path.read_text(encoding="utf-8"))))
    assert [text for text in strings if text.startswith(("/", "~"))] == []
