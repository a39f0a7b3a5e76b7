"""`python -m bundle reproduce` and `report`: one folder that tells all, going on where it stopped, and the table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from monai.bundle import ConfigParser

from bundle.__main__ import main
from bundle.errors import UsageError
from bundle.experiments import ABLATIONS, EXPERIMENTS, Evaluation
from bundle.report import results_table
from bundle.reproduce import reproduce_one
from bundle.run import run
from scripts.history import read_history
from tests.configs.conftest import CONFIGS, SMALL, tiny_dataset  # noqa: F401  # a fixture

FACTS = {"experiment": "em", "ablation": None, "quick": True, "fold": None, "seed": 0, "command": "as tested"}
TINY = replace(
    EXPERIMENTS["em"], evaluations={"one view": Evaluation(), "mean of 8 views": Evaluation({"orientations": 8})}
)


@pytest.fixture
def given(tiny_dataset) -> dict:  # noqa: F811
    """Overrides for a training of seconds."""
    return {**SMALL, "dataset_dir": str(tiny_dataset), "max_epochs": 2, "val_interval": 1}


@pytest.mark.slow
def test_one_folder_tells_all_and_a_second_call_does_nothing_again(given, tmp_path):
    folder = tmp_path / "em"
    reproduce_one(TINY, folder, given, FACTS)
    result = json.loads((folder / "results.json").read_text())
    assert result["weights"]["sha256"] == hashlib.sha256((folder / "models" / "model.pt").read_bytes()).hexdigest()
    assert (result["epochs"], result["iterations"]) == (2, 6)
    assert result["split"]["validation"] == ["03.png"]
    assert set(result["versions"]) >= {"python", "torch", "monai"}
    assert result["hardware"]["cores"] >= 1
    assert set(result["evaluations"]) == set(TINY.evaluations)
    for metrics in result["evaluations"].values():
        assert 0 <= metrics["classes"]["pooled"]["pixel_error"] <= 1
    for line in TINY.published:
        found = result["evaluations"]["one view"]
        for key in line.where:
            found = found[key]
        assert isinstance(found, float), line.measure
    assert all((folder / name).is_file() for name in result["figures"])
    assert {"train/curves.png", "train/panel.png"} <= set(result["figures"])

    before = (folder / "models" / "model.pt").stat().st_mtime_ns, (folder / "train" / "history.csv").read_text()
    steps = result["steps"]
    reproduce_one(TINY, folder, given, FACTS)
    assert before == (
        (folder / "models" / "model.pt").stat().st_mtime_ns,
        (folder / "train" / "history.csv").read_text(),
    )
    assert json.loads((folder / "results.json").read_text())["steps"] == steps

    with pytest.raises(UsageError, match=r"begun with another configuration \(max_epochs differ\)"):
        reproduce_one(TINY, folder, {**given, "max_epochs": 3}, FACTS)

    config = ConfigParser.load_config_file(str(folder / "train.yaml"))
    assert (config["max_epochs"], config["key_metric"], config["split_rule"]) == (2, "v_rand", "last")


@pytest.mark.slow
def test_an_interrupted_training_goes_on_where_it_stopped(given, tmp_path):
    folder = tmp_path / "em"
    files = [str(CONFIGS / name) for name in ("train.yaml", *TINY.configs)]
    places = {"output_dir": str(folder / "train"), "model_dir": str(folder / "models")}
    run("training", config_file=files, **{**given, "max_epochs": 1}, **places)
    (first,) = read_history(folder / "train" / "history.csv")
    reproduce_one(TINY, folder, given, FACTS)
    rows = read_history(folder / "train" / "history.csv")
    assert rows[0] == first
    assert [row["epoch"] for row in rows] == [1, 2]


def test_every_overlay_that_an_experiment_names_is_there():
    named = [name for overlays in ABLATIONS.values() for name in overlays]
    for experiment in EXPERIMENTS.values():
        named += experiment.configs
        named += [name for evaluation in experiment.evaluations.values() for name in evaluation.configs]
    assert [name for name in named if not (CONFIGS / name).is_file()] == []


def test_the_experiments_state_the_papers_results():
    """Table 1 and 2 of arXiv 1505.04597."""
    paper = {line.measure: line.paper for e in ("em",) for line in EXPERIMENTS[e].published if line.paper is not None}
    assert paper == {"warping error": 0.000353, "Rand error": 0.0382, "pixel error": 0.0611}
    assert [EXPERIMENTS[name].published[0].paper for name in ("u373", "hela")] == [0.9203, 0.7756]


@pytest.mark.parametrize(
    "words, message",
    [
        (["mri"], "unknown experiment 'mri'; there are em, u373, hela"),
        (["hela", "--fold", "1"], "--fold is of em alone, 0 to 4; got 1 for hela"),
        (["em", "--fold", "5"], "got 5 for em"),
        (["em", "--max_epochs", "0"], "--max_epochs is 0"),
        (["u373", "--dataset_dir", "nowhere"], "no data in nowhere; get them with: python -m bundle fetch phc_u373"),
    ],
)
def test_what_is_refused_before_anything_runs(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_ablation_is_refused(capsys, tmp_path):
    assert main(["reproduce", "hela", "--dataset_dir", str(tmp_path), "--ablation", "no_wheels"]) == 2
    assert "unknown ablation no_wheels; there are no_weight_map, no_elastic, padded, and all" in capsys.readouterr().err


def made_result(seg: float, gold: float | None = None, **facts: object) -> dict:
    evaluations = {"silver": {"objects": {"seg": seg}}, "gold": {"objects": {} if gold is None else {"seg": gold}}}
    return {
        "experiment": "hela",
        "ablation": None,
        "quick": False,
        "fold": None,
        "seed": 0,
        "command": "cmd",
        "epochs": 2,
        "iterations": 112,
        "training_seconds": 120,
        "hardware": {"processor": "two cores"},
        "weights": {"sha256": "0123456789abcdef"},
        "evaluations": evaluations,
        **facts,
    }


def test_the_table_sets_paper_board_and_ours_side_by_side():
    text = results_table([made_result(0.81, 0.5), made_result(0.7, ablation="no_weight_map")])
    assert "| measure | paper | board's best | ours, silver | ours, gold |" in text
    assert "| SEG | 0.7756 | 0.8870 | 0.8100 | 0.5000 |" in text
    assert "| as the paper | silver | 0.8100 | 112 |" in text
    assert "| no weight map | gold | - | 112 |" in text
    assert "2 epochs, 112 iterations in 2 minutes on two cores, seed 0, weights sha256 0123456789ab" in text
    assert "frames 0-55 train on the silver reference, frames 62-83 are measured" in text
    assert "hidden" in text
    assert "ISBI" not in text


def test_report_without_results_says_how_to_make_one(tmp_path, capsys):
    assert main(["report", "--results_dir", str(tmp_path)]) == 1
    assert "make one with: python -m bundle reproduce" in capsys.readouterr().err
