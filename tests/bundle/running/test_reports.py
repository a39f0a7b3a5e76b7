"""`report`: words of the command line, messages, and pages of real runs."""

from __future__ import annotations

import json
import re
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.__main__ import main
from bundle.datasets.sample import sample
from bundle.running.program import WORKFLOWS, Program
from scripts.io.files import read_csv
from scripts.plot.panels import panel_figure
from scripts.reporting.gather import images_of, read_run
from tests.scripts.reporting.runs import SIZE, discs, made_data

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


@pytest.fixture
def three_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images with bright discs. The labels lack one disc of the image, and have one without an image."""
    monkeypatch.chdir(tmp_path)
    names = tuple(f"cell_{k}.png" for k in (2, 10, 1, 3))
    data = made_data(Path("cells"), names)
    rows, columns = np.indices(SIZE)
    for k, name in enumerate(names):
        image = np.asarray(Image.open(data / "images" / name)).astype(int)
        faint = np.where(columns > 40, image - 20 * k, image)  # the last object is more or less certain
        Image.fromarray(faint.clip(0, 255).astype(np.uint8)).save(data / "images" / name)
        label = discs(3) * (discs(3) != 1)
        label[(rows - 10) ** 2 + (columns - 70) ** 2 < 30] = 9
        Image.fromarray(label).save(data / "labels" / name)
    return data


NUCLEI = ["--weights", "nuclei_small", "--device", "cpu"]


def page_of(folder: str) -> tuple[str, list[dict[str, Any]]]:
    """Write the page of a run. Returns the text and the pictures."""
    assert main(["report", folder]) == 0
    text = Path(folder, "report.html").read_text(encoding="utf-8")
    found = re.search(r'id="cases-data">(.*?)</script>', text, re.S)
    assert found is not None
    return text, json.loads(found[1])


def test_report_panel_scores_and_tables_state_the_same_numbers_of_objects(three_cells: Path) -> None:
    assert main(["evaluate", "cells", "--output", "measured", "--save_results=true", *NUCLEI]) == 0
    assert main(["segment", "cells/images", "--output", "found", *NUCLEI]) == 0
    text, pictures = page_of("measured")
    counted = {row["image"]: row for row in read_csv(Path("found/images.csv"))}
    rows = read_csv(Path("measured/objects_per_image.csv"))
    for row in rows:
        name = row["image"]
        truth, found, missed, false = (row[key] for key in ("reference_objects", "result_objects", "missed", "false"))
        assert min(int(missed), int(false)) >= 1
        assert counted[name]["objects"] == found
        (picture,) = (picture for picture in pictures if picture["title"] == name)
        assert picture["facts"][0] == f"{found} objects found, {truth} in the truth"
        assert picture["facts"][1].startswith(f"{missed} missed, {false} false")
        label = np.asarray(Image.open(three_cells / "labels" / name)).astype(int)
        instances = tifffile.imread(Path("measured/instances", name).with_suffix(".tif")).astype(int)
        drawn = panel_figure(label * 1.0, label > 0, prediction=instances > 0, objects=(label, instances))
        titles = " ".join(axes.get_title() for axes in drawn.axes)
        assert f"{missed} of {truth} objects missed, {false} false" in titles
    metrics = json.loads(Path("measured/object_metrics.json").read_text(encoding="utf-8"))["instances"][0]
    total = {name: sum(int(row[name]) for row in rows) for name in ("missed", "false")}
    assert total == {name: metrics[name] for name in total}
    assert f"{total['missed']} missed, " in text
    assert f"{total['false']} false, " in text


def test_a_report_orders_images_without_truth_as_rank_does(three_cells: Path) -> None:
    assert main(["segment", "cells/images", "--output", "found", *NUCLEI]) == 0
    assert main(["rank", "cells/images", "--output", "ranking.csv", *NUCLEI]) == 0
    text, pictures = page_of("found")
    ranking = read_csv(Path("ranking.csv"))
    assert len({row["score"] for row in ranking}) > 1
    assert [picture["title"] for picture in pictures] == [row["image"] for row in ranking]
    assert re.findall(r'<th scope="row" data-value="(.*?)"', text) == [row["image"] for row in ranking]
    for row in ranking:
        cell = re.search(rf'data-value="{row["image"]}".*?data-value="(.*?)"', text)
        assert cell is not None
        assert float(cell[1]) == pytest.approx(float(row["score"]), abs=1e-4)


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
