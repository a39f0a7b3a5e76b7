"""`python -m bundle report`: the table of results beside the paper's and the board's, and refused files."""

from __future__ import annotations

import re

from bundle.__main__ import main
from bundle.experiments.report import results_table


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
    for caveat in ("hidden test data", "optimistic", "thresholds", "Adam in place of the paper's SGD"):
        assert caveat in text
    assert "ISBI" not in text
    assert "Quick" not in text
    assert "Quick" in results_table([made_result(0.1, quick=True)])


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
