"""Published figures are the measured ones: in the table of docs/results and in the model card."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.peers.__main__ import PEERS
from benchmarks.peers.__main__ import table as peers_table
from benchmarks.published import card, insert
from benchmarks.tasks import TASKS
from bundle.bench import BENCHMARKS, details, table
from bundle.publishing.rules.basis import Bundle
from bundle.publishing.rules.card import results
from bundle.publishing.verify import check
from scripts.io.files import sha256_of
from scripts.published import published
from scripts.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def test_table_and_model_card_agree_with_the_results_files():
    assert check(results, Bundle(ROOT)) == []


def test_every_mean_over_trainings_in_the_model_card_is_in_the_table():
    spread = re.compile(r"0\.\d{4} ± 0\.\d{4}")
    card = spread.findall((ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    table = spread.findall((RESULTS / "table.md").read_text(encoding="utf-8"))
    assert len(card) >= 12
    assert set(card) <= set(table)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/results.json")), ids=lambda p: p.parent.name)
def test_a_result_has_no_path_of_the_measuring_machine(path):
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', json.dumps(json.loads(path.read_text(encoding="utf-8"))))
    assert [text for text in strings if text.startswith(("/", "~"))] == []


EM = json.loads((RESULTS / "em.json").read_text(encoding="utf-8"))
DIGITS = {"warping error": 6}
KEYS = {"v_rand": "V_Rand", "v_info": "V_Info"}  # the others have spaces for underscores


def test_the_metadata_and_the_model_card_have_the_scores_of_the_published_weights():
    stated = json.loads((ROOT / "configs" / "metadata.json").read_text())["eval_metrics"]
    card = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for views, measured in EM["evaluations"].items():
        scores = {name: round(value, DIGITS.get(name, 4)) for name, value in measured.items()}
        names = {key: KEYS.get(key, key.replace("_", " ").replace("rand", "Rand")) for key in stated}
        assert views != "one view" or stated == {key: scores[name] for key, name in names.items()}
        (line,) = [line for line in card.splitlines() if line.startswith(f"| `em`, {views} |")]
        assert all(f"{score:.{DIGITS.get(name, 4)}f}" in line for name, score in scores.items())


def test_the_published_weights_are_those_that_were_measured():
    """By checksum. The scores themselves are measured by the workflow on the data, not here."""
    card = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    weights = published()["em"]
    assert EM["weights"]["sha256"] == sha256_of(weights)
    assert (EM["weights"]["file"], EM["weights"]["bytes"]) == ("models/model.pt", weights.stat().st_size)
    assert f"sha256 {EM['weights']['sha256'][:12]}" in card
    state = torch.load(weights, weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.bfloat16}
    assert sum(value.numel() for value in state.values()) == 31_030_658


@pytest.mark.parametrize("name", sorted(published()))
def test_the_section_of_the_model_card_is_written_from_the_record(name):
    record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert insert(page, name, card(name, record)) == page
    assert record.get("published", record["weights"])["sha256"] == sha256_of(published()[name])


@pytest.mark.parametrize("name", ["nuclei", "nuclei_small"])
def test_the_nuclei_weights_are_those_that_were_measured_and_the_card_has_their_scores(name):
    measured = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    card = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    weights = published()[name]
    assert measured["weights"]["sha256"] == sha256_of(weights)
    assert f"sha256 {measured['weights']['sha256'][:12]}" in card
    for views, scores in measured["evaluations"].items():
        (line,) = [line for line in card.splitlines() if line.startswith(f"| `{name}`, {views} |")]
        assert all(f"{scores[key]:.4f}" in line for key in ("SEG", "F1 at IoU 0.5"))


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.pt")), ids=lambda path: path.name)
def test_each_published_file_has_a_name_and_its_own_settings(path):
    """A training in this folder (model.1.pt, training_state.pt) has none, and is not published."""
    if path in published().values():
        settings = read_settings(path)
        assert settings.sha256 == sha256_of(path)
        assert settings.training.run is None


GPU = {"waiting", "gpu"}


@pytest.mark.parametrize(
    "name, rows",
    [
        ("bench.json", set(BENCHMARKS) - GPU),
        ("bench-avx2.json", set(BENCHMARKS) - GPU),
        ("bench-h200.json", GPU),
    ],
)
def test_the_tables_of_speeds_are_those_that_were_measured(name, rows):
    published = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    content = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    for begin, render in (
        (f"<!-- docs/results/{name} -->", table),
        (f"<!-- details of docs/results/{name} -->", details),
    ):
        between = published.split(begin)[1].split("<!-- end -->")[0]
        assert between.strip() == render(content).strip()
    assert not content["quick"]
    assert set(content["rows"]) >= rows


def test_the_table_of_three_minutes_on_a_gpu_has_the_measured_figures():
    published = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for views, row in (("one view", "best V_Rand"), ("mean of 8 views", "mean of 8 views")):
        em = EM["evaluations"][views]
        (line,) = [line for line in published.splitlines() if line.startswith("|") and row in line]
        figures = [em["V_Rand"], em["V_Info"], em["pixel error"]]
        assert all(f"{figure:.4f}"[1:] in line for figure in figures)


@pytest.mark.parametrize("task", TASKS)
def test_the_tables_of_other_programs_are_those_that_were_measured(task):
    published = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    content = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))[task]
    between = published.split(f"<!-- docs/results/peers.json, {task} -->")[1].split("<!-- end -->")[0]
    assert between.strip() == peers_table(task, content["programs"], content["minutes"]).strip()
    assert content["programs"].keys() >= set(PEERS)  # no program is silently missing


def test_the_table_of_ways_to_train_has_the_measured_figures():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    nuclei = json.loads((RESULTS / "recipes.json").read_text(encoding="utf-8"))["nuclei"]
    lines = page.split("### Nuclei")[1].splitlines()
    for way, found in nuclei["ways"].items():
        row = next(line for line in lines if line.startswith(f"| {way} |"))  # the first: "the same" follows its row
        figures = [found["F1"][iou] for iou in ("0.5", "0.7", "0.9")] + [found["SEG"]]
        assert re.findall(r"\.\d{3}", row.split("|", 2)[2]) == [f"{figure:.3f}"[1:] for figure in figures]
    f1 = [found["F1"]["0.5"] for found in nuclei["parts"].values()]
    assert f"The mean of the four is {np.mean(f1):.3f}".replace("0.", ".") in page
    assert f"the standard deviation {np.std(f1, ddof=1):.3f}".replace("0.", ".") in page
