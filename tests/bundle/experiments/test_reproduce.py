"""`python -m bundle reproduce`: the results folder, continuing after an interruption, the planned runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from monai.bundle import ConfigParser

from bundle.__main__ import main
from bundle.experiments.experiments import ABLATIONS, EXPERIMENTS, Evaluation
from bundle.experiments.reproduce import reproduce_one
from bundle.running.errors import RunError, UsageError
from bundle.running.run import run
from scripts.handlers.history import read_history
from tests.configs.conftest import CONFIGS, SMALL, tiny_dataset  # noqa: F401  # a fixture

FACTS = {"experiment": "em", "ablation": None, "quick": True, "fold": None, "seed": 0, "features": 16}
FACTS |= {"command": "as tested"}
TINY = replace(
    EXPERIMENTS["em"], evaluations={"one view": Evaluation(), "mean of 8 views": Evaluation({"orientations": 8})}
)


def settings(dataset) -> dict:
    """Overrides for a training of seconds."""
    return {**SMALL, "dataset_dir": str(dataset), "max_epochs": 2, "val_interval": 1}


@pytest.fixture
def given(tiny_dataset) -> dict:  # noqa: F811
    return settings(tiny_dataset)


@pytest.fixture(scope="module")
def begun(tiny_dataset, tmp_path_factory):  # noqa: F811
    """A results folder with a training of one epoch, and the row of this epoch in the history."""
    folder = tmp_path_factory.mktemp("results") / "em"
    files = [str(CONFIGS / name) for name in ("train.yaml", *TINY.configs)]
    places = {"output_dir": str(folder / "train"), "model_dir": str(folder / "models")}
    run("training", config_file=files, **{**settings(tiny_dataset), "max_epochs": 1}, **places)
    (first,) = read_history(folder / "train" / "history.csv")
    return folder, first


@pytest.fixture(scope="module")
def interrupted(begun, tiny_dataset):  # noqa: F811
    """The results folder after the command. The second evaluation failed, then the same command ran again."""
    folder, _ = begun
    failing = {**TINY.evaluations, "mean of 8 views": Evaluation({"validate#inferer#orientations": 3})}
    with pytest.raises(RunError, match="orientations must be one of"):
        reproduce_one(replace(TINY, evaluations=failing), folder, settings(tiny_dataset), FACTS)
    assert not (folder / "results.json").exists()
    reproduce_one(TINY, folder, settings(tiny_dataset), FACTS)
    return folder


@pytest.mark.slow
def test_the_results_folder_is_complete(interrupted):
    result = json.loads((interrupted / "results.json").read_text())
    weights = (interrupted / "models" / "model.pt").read_bytes()
    assert result["weights"]["sha256"] == hashlib.sha256(weights).hexdigest()
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
    assert all((interrupted / name).is_file() for name in result["figures"])
    assert {"train/curves.png", "train/panel.png"} <= set(result["figures"])
    config = ConfigParser.load_config_file(str(interrupted / "train.yaml"))
    assert (config["max_epochs"], config["key_metric"], config["split_rule"]) == (2, "v_rand", "last")


@pytest.mark.slow
def test_after_a_failed_evaluation_only_this_step_runs_again(interrupted):
    steps = json.loads((interrupted / "results.json").read_text())["steps"]
    goes = {name: len(step["goes"]) for name, step in steps.items()}
    assert goes == {"training": 1, "one view": 1, "mean of 8 views": 2}


@pytest.mark.slow
def test_a_finished_experiment_is_not_trained_or_measured_again(interrupted, given):
    def state() -> tuple:
        steps = json.loads((interrupted / "results.json").read_text())["steps"]
        return (interrupted / "models" / "model.pt").stat().st_mtime_ns, steps

    before = state()
    reproduce_one(TINY, interrupted, given, FACTS)
    assert state() == before


@pytest.mark.slow
def test_another_configuration_is_refused_in_the_same_folder(interrupted, given):
    with pytest.raises(UsageError, match=r"max_epochs: 2 there, 3 now"):
        reproduce_one(TINY, interrupted, {**given, "max_epochs": 3}, FACTS)
    changed = {**TINY.evaluations, "mean of 8 views": Evaluation({"orientations": 4})}
    with pytest.raises(UsageError, match="orientations: 8 there, 4 now"):
        reproduce_one(replace(TINY, evaluations=changed), interrupted, given, FACTS)


@pytest.mark.slow
def test_a_training_begun_earlier_goes_on_where_it_stopped(begun, interrupted):
    _, first = begun
    rows = read_history(interrupted / "train" / "history.csv")
    assert rows[0] == first
    assert [row["epoch"] for row in rows] == [1, 2]


@pytest.fixture
def planned(monkeypatch):
    """Calls of `reproduce_one` in place of trainings: (folder, overrides, facts)."""
    calls = []
    monkeypatch.setattr("bundle.experiments.reproduce.reproduce_one", lambda *arguments: calls.append(arguments[1:]))
    monkeypatch.setattr("bundle.experiments.reproduce.write_table", lambda root: None)
    return calls


def test_folds_and_ablations_have_folders_commands_and_overrides_of_their_own(planned, tmp_path, monkeypatch):
    reported = []
    monkeypatch.setattr("bundle.experiments.reproduce.write_table", reported.append)
    words = ["--fold", "all", "--ablation", "no_elastic,padded", "--max_epochs", "3"]
    assert main(["reproduce", "em", *words, "--dataset_dir", str(tmp_path), "--results_dir", str(tmp_path)]) == 0
    assert reported == [tmp_path]
    names = [f"em-{middle}fold{fold}" for middle in ("", "no_elastic-", "padded-") for fold in range(5)]
    assert [folder.name for folder, _, _ in planned] == names
    _, given, facts = planned[7]
    assert (given["split_rule"], given["fold"], given["max_epochs"], given["val_interval"]) == ("block", 2, 3, 5)
    assert (facts["ablation"], facts["fold"]) == ("no_elastic", 2)
    assert facts["command"] == "python -m bundle reproduce em --max_epochs 3 --fold 2 --ablation no_elastic"


def test_seeds_and_widths_have_folders_commands_and_overrides_of_their_own(planned, tmp_path):
    words = ["--seed", "0,2", "--ablation", "padded", "--features", "8", "--dataset_dir", str(tmp_path)]
    assert main(["reproduce", "hela", *words, "--results_dir", str(tmp_path)]) == 0
    names = ["hela-features8", "hela-padded-features8", "hela-seed2-features8", "hela-padded-seed2-features8"]
    assert [folder.name for folder, _, _ in planned] == names
    _, given, facts = planned[3]
    assert (given["seed"], given["network_def#features"]) == (2, [8, 16, 32, 64, 128])
    assert facts["command"] == "python -m bundle reproduce hela --seed 2 --features 8 --ablation padded"


def test_a_quick_run_of_the_paper_s_width_has_the_paper_s_width(planned, tmp_path):
    words = ["reproduce", "em", "--quick", "--dataset_dir", str(tmp_path), "--results_dir", str(tmp_path)]
    assert main(words) == 0
    assert main([*words, "--features", "64"]) == 0
    (small, narrow, _), (wide, paper, facts) = planned
    assert (small.name, narrow["network_def#features"][0]) == ("em-quick", 16)
    assert (wide.name, "network_def#features" in paper, facts["features"]) == ("em-quick-features64", False, 64)
    assert narrow["max_epochs"] == paper["max_epochs"] == 6


def test_every_overlay_that_an_experiment_names_is_there():
    named = [name for overlays in ABLATIONS.values() for name in overlays]
    for experiment in EXPERIMENTS.values():
        named += experiment.configs
        named += [name for evaluation in experiment.evaluations.values() for name in evaluation.configs]
    assert [name for name in named if not (CONFIGS / name).is_file()] == []


def test_the_experiments_state_the_papers_results():
    """Table 1 and 2 of arXiv 1505.04597."""
    paper = {line.measure: line.paper for line in EXPERIMENTS["em"].published if line.paper is not None}
    assert paper == {"warping error": 0.000353, "Rand error": 0.0382, "pixel error": 0.0611}
    assert [EXPERIMENTS[name].published[0].paper for name in ("u373", "hela")] == [0.9203, 0.7756]


@pytest.mark.parametrize(
    "words, message",
    [
        (["mri"], "unknown experiment 'mri'; there are em, u373, hela"),
        (["hela", "--fold", "1"], "--fold is for em only, 0 to 4 or all; got 1 for hela"),
        (["em", "--fold", "5"], "got 5 for em"),
        (["em", "--seed", "0,-1"], "--seed is 0,-1, expected a whole number of at least 0, or several: 0,1,2"),
        (["em", "--features", "0"], "--features is 0, expected a whole number of at least 1"),
        (["em", "--fold", "4.0"], "got 4.0 for em"),
        (["em", "--max_epochs", "0"], "--max_epochs is 0"),
        (["u373", "--dataset_dir", "nowhere"], "no data in nowhere; run python -m bundle fetch phc_u373"),
    ],
)
def test_what_is_refused_before_anything_runs(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given, complaint", [("no_wheels", "unknown ablation no_wheels"), ("", "needs a name")])
def test_an_unknown_ablation_is_refused(given, complaint, capsys, tmp_path):
    assert main(["reproduce", "hela", "--dataset_dir", str(tmp_path), f"--ablation={given}"]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert "there are no_weight_map, no_elastic, padded, and all" in error
