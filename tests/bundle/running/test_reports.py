"""`report`: words of the command line, messages, and pages of real runs."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from bundle.__main__ import main
from bundle.datasets.sample import sample
from bundle.running.program import WORKFLOWS, Program
from scripts.reporting.gather import images_of, read_run

ROOT = Path(__file__).resolve().parents[3]
TINY = ["--network_def#features", "[2,4,8,16,32]", "--max_epochs", "2", "--val_interval", "1", "--input_size", "188"]


@pytest.mark.slow
def test_training_evaluation_and_segmentation_have_pages_with_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sample("data", size=96, train=4, test=2)
    train = ["train", "data/train", "--output", "out", *TINY, "--num_workers", "0", "--device", "cpu"]
    assert main(train) == 0
    assert main(["evaluate", "data/test", "--weights", "out/model.pt", "--output", "measured", "--device", "cpu"]) == 0
    assert main(["segment", "data/test/images", "--weights", "out/model.pt", "--output", "found"]) == 0
    assert main(["rank", "data/test/images", "--weights", "out/model.pt", "--output", "ranking.csv"]) == 0
    for folder, kind, images in (("out", "training", 1), ("measured", "evaluation", 2), ("found", "segmentation", 2)):
        run = read_run(folder)
        assert run.kinds == (kind,)
        assert len(images_of(run)) == images
        assert run.record["seconds"] > 0
        assert run.record["settings"]["dataset_dir"].startswith("./data/")
        assert main(["report", folder]) == 0
        page = Path(folder, "report.html").read_text(encoding="utf-8")
        assert page.count('"title":') == images
        assert str(tmp_path) not in page  # of the user's disk, only what the user has typed
    assert f"page: {Path('found', 'report.html')}" in capsys.readouterr().out
    assert not list(tmp_path.glob("output/**/run.json"))  # of rank, which writes a table alone


def test_what_is_no_run_is_refused_with_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    for words, part in (
        ([str(tmp_path)], "notes.txt"),
        ([str(tmp_path / "gone")], "gone does not exist"),
        ([str(tmp_path), "--images", "many"], "--images"),
        ([], "--table"),
        ([str(tmp_path), "--table"], "--results_dir"),
    ):
        assert main(["report", *words]) == 2
        assert part in capsys.readouterr().err


def test_the_installed_program_has_the_command_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert Program("original-unet", WORKFLOWS)(["report", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_results_of_experiments_have_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    page = tmp_path / "results.html"
    assert main(["report", str(ROOT / "docs" / "results"), "--output", str(page), "--open"]) == 0
    assert "V_Rand after thinning" in page.read_text(encoding="utf-8")
    assert opened == [page.as_uri()]
