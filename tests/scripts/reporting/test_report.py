"""The page of a run: content, escaping, size, and parts that are left out."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from scripts.io.files import write_csv, write_json
from scripts.plot.errors import UNKNOWN
from scripts.reporting import write_report
from scripts.reporting.cases import make_cases
from scripts.reporting.gather import images_of, read_run
from scripts.reporting.measured import ON_IMAGE
from scripts.reporting.page_file import ForeignPageError
from scripts.reporting.report import report_page

from .runs import NAMES, SIZE, discs, history, made_data, made_evaluation, write_results, write_settings


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_evaluation(tmp_path_factory.mktemp("evaluation"))


def test_an_evaluation_has_all_parts_of_a_page_and_the_worst_image_first(evaluation: Path) -> None:
    page = text_of(write_report(evaluation))
    parts = ["Summary", "Thresholds", "Pictures", "Images", "Commands to go on with", "Configuration and environment"]
    assert headings(page) == [*parts, "How the figures are made"]
    assert "3 missed, 25.0 %" in page  # 3 of 12 objects, by hand
    assert "made up, 2 cores" in page
    cases = make_cases(read_run(evaluation), images_of(read_run(evaluation)), 4, 10**6).cases
    assert [case.name for case in cases][-1] == "cell 1.png"
    assert cases[0].measured.scores["f1_0.5"] == pytest.approx(0.8)
    assert [layer["name"] for layer in cases[0].picture.layers] == ["truth", "probability", "instances", "error"]


def test_colours_of_errors_are_visible_on_grey_images() -> None:
    hues = {kind: np.ptp(to_rgb(colour)) for kind, colour in ON_IMAGE.items() if kind != UNKNOWN}
    assert all(hue > 0.3 for hue in hues.values()), hues
    assert len(set(ON_IMAGE.values())) == len(ON_IMAGE)


def test_names_of_files_stay_text_and_nothing_is_loaded_from_elsewhere(evaluation: Path) -> None:
    page = text_of(write_report(evaluation))
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 2  # the data of the viewer, and the program
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert "default-src 'none'" in page


def test_names_with_control_characters_or_without_a_coding_are_shown_by_escapes(tmp_path: Path) -> None:
    names = ("a\udcff.png", "b\x1b[2J.png")  # a byte that is no UTF-8; an escape sequence of terminals
    try:
        folder = made_evaluation(tmp_path, names)
    except OSError:
        pytest.skip("this file system has no names of such bytes")
    page = text_of(write_report(folder))
    assert "\x1b" not in page
    for name in (r"a\xff.png", r"b\x1b[2J.png"):
        assert f"<span>{name}</span>" in page
        assert f'data-value="{name}"' in page


@pytest.mark.slow
def test_fifty_large_images_stay_below_20_megabytes(tmp_path: Path) -> None:
    names = tuple(f"{k}.png" for k in range(50))
    folder = made_evaluation(tmp_path, names)
    noise = np.random.default_rng(0).integers(0, 255, (1100, 1100)).astype(np.uint8)  # the worst to compress
    labels = np.kron(discs(3)[:50, :50], np.ones((22, 22), np.uint16))
    for name in names:
        Image.fromarray(noise).save(tmp_path / "data" / "images" / name)
        Image.fromarray(labels).save(tmp_path / "data" / "labels" / name, compress_level=1)
    shutil.rmtree(folder / "probabilities")
    write_results(folder, tmp_path / "data", dict.fromkeys(names[:1], labels))
    for name in names[1:]:
        shutil.copy(folder / "instances" / "0.tif", folder / "instances" / name.replace("png", "tif"))
    path = write_report(folder, images=50)
    assert "All images: 50" in text_of(path)
    assert path.stat().st_size < 20_000_000


def test_one_damaged_image_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    folder = made_evaluation(tmp_path)
    (tmp_path / "data" / "images" / "cell 2.png").write_bytes(b"no image")
    page = text_of(write_report(folder))
    assert re.search(r"<li>[^<]*cell 2\.png[^<]*</li>", page)
    assert page.count('"title":') == len(NAMES) - 1


def test_a_training_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    write_csv(tmp_path / "history.csv", [{"epoch": 1, "loss": 0.5, "lr": 0.1}])
    page = text_of(write_report(tmp_path))
    assert headings(page) == [
        "Summary",
        "Curves",
        "Pictures",
        "Commands to go on with",
        "Configuration and environment",
    ]
    assert "not been validated" in page
    assert "--data" in page  # why there are no pictures, and the remedy


def test_a_loss_that_explodes_is_left_out_of_the_curves(tmp_path: Path) -> None:
    rows = [{"epoch": k, "loss": loss} for k, loss in enumerate((0.5, -1e308, 1e308, float("inf"), 0.4))]
    write_csv(tmp_path / "history.csv", rows)
    assert read_run(tmp_path).problems == ()
    assert "Training loss" in write_report(tmp_path).read_text(encoding="utf-8")


def test_a_training_is_segmented_with_its_weights(tmp_path: Path, bundle_root: Path) -> None:
    data = made_data(tmp_path / "data", ("a.png", "b.png"))
    write_csv(tmp_path / "run" / "history.csv", history([0.2, 0.4]))
    write_json(tmp_path / "run" / "split.json", {"training": ["a.png"], "validation": ["b.png"]})
    for ending in (".pt", ".json"):
        shutil.copy(bundle_root / "models" / f"nuclei_small{ending}", tmp_path / "run" / f"model{ending}")
    page = text_of(write_report(tmp_path / "run", data=data))
    assert "Segmented for this page: 1 image," in page
    assert '"title": "b.png"' in page
    assert "F1 at IoU .5 over the threshold" in page


def test_the_worst_of_all_images_of_a_training_are_shown(tmp_path: Path, bundle_root: Path) -> None:
    names = tuple(f"{k}.png" for k in range(1, 12))
    data = made_data(tmp_path / "data", names)
    Image.fromarray(discs(3)[::-1] * (np.arange(SIZE[1]) < 20)).save(data / "labels" / "11.png")  # two false objects
    write_csv(tmp_path / "run" / "history.csv", history([0.2, 0.4]))
    write_json(tmp_path / "run" / "split.json", {"training": [], "validation": list(names)})
    for ending in (".pt", ".json"):
        shutil.copy(bundle_root / "models" / f"nuclei_small{ending}", tmp_path / "run" / f"model{ending}")
    run = read_run(tmp_path / "run")
    cases = make_cases(run, images_of(run, data), most=2, most_bytes=10**6)
    assert cases.cases[0].name == "11.png"
    assert set(cases.measured) == set(names)
    assert (len(cases.cases), cases.available, cases.segmented_here) == (2, 11, 11)
    page = report_page(run, cases)
    assert "2 images of 11, half of them the worst of all" in page
    assert re.findall(r'<th scope="row" data-value="(.*?)"', page) == ["11.png", *names[:-1]]  # equal ones: 2 before 10


def test_a_segmentation_without_its_images_shows_the_overlays(tmp_path: Path) -> None:
    data = made_data(tmp_path / "data", ("a.png",))
    folder = tmp_path / "segmentation"
    write_results(folder, data, {"a.png": discs(2)})
    write_settings(folder)
    (folder / "results.jsonl").write_text('{"settings": {}}\n{"image": "a.png"}\n', encoding="utf-8")
    (folder / "overlays").mkdir()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / "overlays" / "a.png")
    page = text_of(write_report(folder))
    assert '"title": "a.png"' in page
    assert "2 objects found" in page
    assert '"name": "error"' not in page


def test_a_file_of_another_program_is_not_replaced(evaluation: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes.html"
    other.write_text("<p>mine", encoding="utf-8")
    with pytest.raises(ForeignPageError, match=r"notes\.html"):
        write_report(evaluation, output=other, images=0)
    assert text_of(other) == "<p>mine"


def test_a_pipe_in_place_of_the_page_is_refused(evaluation: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.html")
    with pytest.raises(ForeignPageError, match=r"report\.html"):
        write_report(evaluation, tmp_path / "report.html", images=0)


def test_results_of_experiments_are_a_section(tmp_path: Path) -> None:
    table = {"kind": "table", "text": "scores", "rows": [["measure", "ours"], ["V_Rand", "0.98"]]}
    page = text_of(write_report(tmp_path, results=[{"kind": "text", "text": "a < b"}, table]))
    assert headings(page) == ["The paper’s experiments"]
    assert "a &lt; b" in page
    assert ">0.98</td>" in page
