"""`python -m bundle reproduce` and `report`: one folder that tells all, going on where it stopped, and the table."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import pytest
from monai.bundle import ConfigParser

from bundle.__main__ import main
from bundle.errors import RunError, UsageError
from bundle.experiments.experiments import ABLATIONS, EXPERIMENTS, Evaluation
from bundle.experiments.report import results_table
from bundle.experiments.reproduce import reproduce_one
from bundle.running.run import run
from scripts.handlers.history import read_history
from tests.configs.conftest import CONFIGS, SMALL, tiny_dataset  # noqa: F401  # a fixture

FACTS = {"experiment": "em", "ablation": None, "quick": True, "fold": None, "seed": 0, "features": 16}
FACTS |= {"command": "as tested"}
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

    with pytest.raises(UsageError, match=r"begun with another configuration \(max_epochs: 2 there, 3 now\)"):
        reproduce_one(TINY, folder, {**given, "max_epochs": 3}, FACTS)

    config = ConfigParser.load_config_file(str(folder / "train.yaml"))
    assert (config["max_epochs"], config["key_metric"], config["split_rule"]) == (2, "v_rand", "last")


@pytest.mark.slow
def test_a_training_begun_earlier_goes_on_where_it_stopped(given, tmp_path):
    folder = tmp_path / "em"
    files = [str(CONFIGS / name) for name in ("train.yaml", *TINY.configs)]
    places = {"output_dir": str(folder / "train"), "model_dir": str(folder / "models")}
    run("training", config_file=files, **{**given, "max_epochs": 1}, **places)
    (first,) = read_history(folder / "train" / "history.csv")
    reproduce_one(TINY, folder, given, FACTS)
    rows = read_history(folder / "train" / "history.csv")
    assert rows[0] == first
    assert [row["epoch"] for row in rows] == [1, 2]


@pytest.mark.slow
def test_after_a_failed_evaluation_nothing_else_is_done_again(given, tmp_path):
    folder = tmp_path / "em"
    failing = {**TINY.evaluations, "mean of 8 views": Evaluation({"orientations": 3})}
    with pytest.raises(RunError, match="orientations must be one of"):
        reproduce_one(replace(TINY, evaluations=failing), folder, given, FACTS)
    assert not (folder / "results.json").exists()
    reproduce_one(TINY, folder, given, FACTS)
    steps = json.loads((folder / "results.json").read_text())["steps"]
    assert {name: len(step["goes"]) for name, step in steps.items()} == {
        "training": 1,
        "one view": 1,
        "mean of 8 views": 2,
    }
    changed = {**TINY.evaluations, "mean of 8 views": Evaluation({"orientations": 4})}
    with pytest.raises(UsageError, match="orientations: 8 there, 4 now"):  # other figures under the same name
        reproduce_one(replace(TINY, evaluations=changed), folder, given, FACTS)


def test_folds_and_ablations_have_folders_commands_and_overrides_of_their_own(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("bundle.experiments.reproduce.reproduce_one", lambda *arguments: done.append(arguments[1:]))
    monkeypatch.setattr("bundle.experiments.reproduce.report", lambda root: done.append(root))
    words = ["--fold", "all", "--ablation", "no_elastic,padded", "--max_epochs", "3"]
    assert main(["reproduce", "em", *words, "--dataset_dir", str(tmp_path), "--results_dir", str(tmp_path)]) == 0
    *runs, last = done
    assert last == str(tmp_path)
    names = [f"em-{middle}fold{fold}" for middle in ("", "no_elastic-", "padded-") for fold in range(5)]
    assert [folder.name for folder, _, _ in runs] == names
    _, given, facts = runs[7]
    assert (given["split_rule"], given["fold"], given["max_epochs"], given["val_interval"]) == ("block", 2, 3, 5)
    assert (facts["ablation"], facts["fold"]) == ("no_elastic", 2)
    assert facts["command"] == "python -m bundle reproduce em --max_epochs 3 --fold 2 --ablation no_elastic"


def test_seeds_and_widths_have_folders_commands_and_overrides_of_their_own(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("bundle.experiments.reproduce.reproduce_one", lambda *arguments: done.append(arguments[1:]))
    monkeypatch.setattr("bundle.experiments.reproduce.report", lambda root: None)
    words = ["--seed", "0,2", "--ablation", "padded", "--features", "8", "--dataset_dir", str(tmp_path)]
    assert main(["reproduce", "hela", *words, "--results_dir", str(tmp_path)]) == 0
    names = ["hela-features8", "hela-padded-features8", "hela-seed2-features8", "hela-padded-seed2-features8"]
    assert [folder.name for folder, _, _ in done] == names
    _, given, facts = done[3]
    assert (given["seed"], given["network_def#features"]) == (2, [8, 16, 32, 64, 128])
    assert facts["command"] == "python -m bundle reproduce hela --seed 2 --features 8 --ablation padded"


def test_a_quick_run_of_the_paper_s_width_has_the_paper_s_width(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("bundle.experiments.reproduce.reproduce_one", lambda *arguments: done.append(arguments[1:]))
    monkeypatch.setattr("bundle.experiments.reproduce.report", lambda root: None)
    words = ["reproduce", "em", "--quick", "--dataset_dir", str(tmp_path), "--results_dir", str(tmp_path)]
    assert main(words) == 0
    assert main([*words, "--features", "64"]) == 0
    (small, narrow, _), (wide, paper, facts) = done
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
        (["hela", "--fold", "1"], "--fold is of em alone, 0 to 4 or all; got 1 for hela"),
        (["em", "--fold", "5"], "got 5 for em"),
        (["em", "--seed", "0,-1"], "--seed is 0,-1, expected a whole number of at least 0, or several: 0,1,2"),
        (["em", "--features", "0"], "--features is 0, expected a whole number of at least 1"),
        (["em", "--fold", "4.0"], "got 4.0 for em"),
        (["em", "--max_epochs", "0"], "--max_epochs is 0"),
        (["u373", "--dataset_dir", "nowhere"], "no data in nowhere; get them with: python -m bundle fetch phc_u373"),
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


def made_result(seg: float, **facts: object) -> dict:
    objects = {"images": 22, "seg": seg, "det": None, "instances": [{"f1": 0.9}]}
    return {
        "experiment": "hela",
        "ablation": None,
        "quick": False,
        "fold": None,
        "seed": 0,
        "features": 64,
        "command": "cmd",
        "split": {"validation": ["t062.tif", "t063.tif"]},
        "epochs": 2,
        "iterations": 112,
        "iteration_seconds": 120,
        "hardware": {"processor": "two cores"},
        "weights": {"sha256": "0123456789abcdef"},
        "evaluations": {"silver": {"objects": objects}, "gold": {"objects": {}}, "tiles of 572": {"objects": objects}},
        **facts,
    }


def single_spaced(text: str) -> str:
    return re.sub(" +", " ", text)


def test_the_table_sets_paper_board_and_ours_side_by_side():
    text = single_spaced(results_table([made_result(0.81), made_result(0.7, ablation="no_weight_map")]))
    assert "| measure | paper | board's best | ours, silver | ours, gold |" in text
    assert "| SEG | 0.7756 | 0.8870 | 0.8100 | - |" in text
    assert "| F1 at IoU 0.5 | - | - | 0.9000 | - |" in text
    assert "| all of it | silver | 22 | 0.8100 | - | 0.9000 | - | 112 |" in text
    assert "| no weight map | gold | - | - | - | - | - | 112 |" in text
    assert "Measured: 2 images, t062.tif to t063.tif." in text
    assert "2 epochs, 112 iterations in 2 min, validations apart, on two cores, seed 0" in text
    assert "Frames 0-55 train" in text or "frames 0-55 train" in text
    for caveat in ("hidden", "was chosen on these same images", "Adam in place of the paper's SGD"):
        assert caveat in text
    assert "ISBI" not in text
    assert "Quick" not in text
    assert "Quick: shows that all of it works; the figures mean nothing." in results_table(
        [made_result(0.1, quick=True)]
    )


def test_folds_have_a_row_for_their_mean():
    def em(fold: int, score: float) -> dict:
        metrics = {"em": {"v_rand": {"score": score}, "warping_error": None}}
        return made_result(0, experiment="em", fold=fold, evaluations={"one view": metrics})

    own_split = em(0, 0.5) | {"fold": None}  # measures images of a fold once more
    text = single_spaced(results_table([own_split, em(0, 0.9), em(1, 0.8)]))
    assert "| all of it, fold 0 | one view | - | 0.9000 | - | - | - | - | 112 |" in text
    assert "| all of it, mean of 2 folds | one view | | 0.8500 ± 0.0707 | - | - | - | - | 112 |" in text


def test_repeats_with_other_seeds_have_a_row_for_their_mean_and_spread_each_width_by_itself():
    narrow = [made_result(seg, seed=seed, features=16) for seed, seg in enumerate((0.5, 0.6, 0.7))]
    text = single_spaced(results_table([made_result(0.81), *narrow]))
    assert "| all of it | silver | 22 | 0.8100 |" in text
    assert "| all of it, 16 features, seed 2 | silver | 22 | 0.7000 |" in text
    assert "| all of it, 16 features, mean of 3 seeds | silver | | 0.6000 ± 0.1000 | - | 0.9000 ± 0.0000 |" in text
    assert "| all of it, mean" not in text
    later = [made_result(0.81, seed=1), *narrow]
    assert results_table(later).count("board's best") == 2, "whatever the seeds are"
    assert text.count("board's best") == 2, "of repeats, only the first is set beside the paper"


def test_a_file_that_is_no_result_is_named(tmp_path, capsys):
    (tmp_path / "em").mkdir()
    (tmp_path / "em" / "results.json").write_text('{"experiment": "em"}')
    assert main(["report", "--results_dir", str(tmp_path)]) == 1
    assert "results.json is no result of reproduce (without ablation" in capsys.readouterr().err


def test_report_without_results_says_how_to_make_one(tmp_path, capsys):
    assert main(["report", "--results_dir", str(tmp_path)]) == 1
    assert "make one with: python -m bundle reproduce" in capsys.readouterr().err
