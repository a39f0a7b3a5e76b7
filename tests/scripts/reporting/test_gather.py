"""The folder of a run is read, whatever of it is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.io.files import write_csv
from scripts.reporting.gather import NoRunError, Run, images_of, read_run
from scripts.reporting.report import write_report
from scripts.reporting.results import used_settings

from .runs import NAMES, history, made_data, made_evaluation, write_run_file


def test_an_evaluation_has_a_row_for_each_image_under_the_name_of_the_file(tmp_path: Path) -> None:
    run = read_run(made_evaluation(tmp_path))
    assert run.kinds == ("evaluation",)
    assert set(run.table) == set(NAMES)  # also the name that tables write with a leading '
    assert run.table["cell 1.png"] == {"f1_0.5": 1.0, "seg": 0.9, "mean_dice": 0.9}
    assert run.key_column == "f1_0.5"


def test_the_images_are_those_of_the_record_or_of_a_given_folder(tmp_path: Path) -> None:
    run = read_run(made_evaluation(tmp_path))
    assert images_of(run)["=cmd.png"]["label"] == str(tmp_path / "data" / "labels" / "=cmd.png")
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    assert images_of(run) == {}
    assert set(images_of(run, moved)) == set(NAMES)


def test_without_a_record_the_validation_images_of_a_training_are_found_by_name(tmp_path: Path) -> None:
    data, folder = made_data(tmp_path / "data"), tmp_path / "training"
    write_csv(folder / "history.csv", history([0.5]))
    (folder / "split.json").write_text('{"training": ["cell 1.png"], "validation": ["cell 2.png"]}', encoding="utf-8")
    assert list(images_of(read_run(folder), data)) == ["cell 2.png"]


@pytest.mark.parametrize("name", ["history.csv", "split.json", "model.json", "object_metrics.json"])
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    folder = made_evaluation(tmp_path)
    (folder / name).write_bytes(b"\xff\x00 no text")
    run = read_run(folder)
    assert [name in problem for problem in run.problems] == [True]
    assert len(run.table) == len(NAMES)


@pytest.mark.parametrize(
    "name, content",
    [
        ("run.json", {"settings": [1]}),
        ("run.json", {"items": [5]}),
        ("run.json", {"failures": True}),
        ("metrics.json", {"mean": "high"}),
        ("object_metrics.json", {"instances": [{"f1": 0.5}]}),
        ("em_metrics.json", {"curves": {"thresholds": [0.5], "v_rand": {"f": [0.5, 0.6]}}}),
        ("split.json", {"validation": 5}),
    ],
)
def test_a_file_with_values_of_other_types_is_named_and_the_page_is_written(
    tmp_path: Path, name: str, content: dict[str, object]
) -> None:
    folder = made_evaluation(tmp_path)
    earlier = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).is_file() else {}
    (folder / name).write_text(json.dumps({**earlier, **content}), encoding="utf-8")
    run = read_run(folder)
    assert [name in problem and next(iter(content)) in problem for problem in run.problems] == [True]
    assert name in write_report(folder, images=0).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line", ['{"image": 5}', '{"image": "a.png", "pages": [0]}', '{"image": "a", "pages": [0, 2e9, 1]}']
)
def test_a_record_with_nonsense_in_a_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "results.jsonl").write_text('{"settings": {}}\n' + line, encoding="utf-8")
    run = read_run(tmp_path)
    assert ["results.jsonl" in problem for problem in run.problems] == [True]
    assert run.finished == []


def test_deeply_nested_json_is_named(tmp_path: Path) -> None:
    folder = made_evaluation(tmp_path)
    for name in ("run.json", "metrics.json"):
        (folder / name).write_text("[" * 100_000, encoding="utf-8")
    assert ["metrics.json" in problem for problem in read_run(folder).problems] == [True]


def test_a_run_from_elsewhere_names_no_images_of_this_computer(tmp_path: Path) -> None:
    made_evaluation(tmp_path)
    (tmp_path / "private.png").touch()
    record = json.loads((tmp_path / "evaluation" / "run.json").read_text(encoding="utf-8"))
    record["items"] += [{"image": str(tmp_path / "private.png")}, {"image": "long" * 2000}]
    (tmp_path / "evaluation" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert "private.png" in images_of(read_run(tmp_path / "evaluation"))
    foreign = (tmp_path / "evaluation").rename(tmp_path / "from a mail")
    assert images_of(read_run(foreign)) == {}
    assert "--data" in write_report(foreign).read_text(encoding="utf-8")
    record["items"].append({"image": "../private.png"})
    (foreign / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert set(images_of(read_run(foreign), tmp_path / "data")) == set(NAMES)


def test_weights_that_a_record_from_elsewhere_names_are_not_taken(tmp_path: Path) -> None:
    """Another machine's path may hold other weights here."""
    folder, weights_file = made_evaluation(tmp_path), tmp_path / "weights.pt"
    weights_file.touch()
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(record | {"weights": str(weights_file)}), encoding="utf-8")
    assert read_run(folder).weights == weights_file
    elsewhere = {"weights": str(weights_file), "folder": "/on/another/machine"}
    (folder / "run.json").write_text(json.dumps(record | elsewhere), encoding="utf-8")
    assert read_run(folder).weights is None


@pytest.mark.parametrize("name, value", [("intensity", "'z_score'"), ("threshold", "0.5"), ("orientations", "1")])
def test_a_record_with_code_in_a_setting_runs_nothing(tmp_path: Path, name: str, value: str) -> None:
    code = f"$__import__('pathlib').Path('{tmp_path / 'ran'}').touch() or {value}"
    run = Run(tmp_path, ("evaluation",), record={"settings": {name: code}})
    with pytest.raises(ValueError, match=name):
        used_settings(run)
    assert used_settings(
        Run(tmp_path, ("evaluation",), record={"settings": {"threshold": "0.4", "min_area": "3"}})
    ) == {
        "threshold": 0.4,
        "min_area": 3,
    }


def test_a_record_never_starts_an_exported_program(tmp_path: Path) -> None:
    folder = made_evaluation(tmp_path)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    for name in ("program.ts", "program.PT2"):
        (tmp_path / name).touch()
        record["weights"] = str(tmp_path / name)
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        assert read_run(folder).weights is None


def test_a_segmentation_counts_images_without_objects(tmp_path: Path) -> None:
    lines = ['{"settings": {}}', '{"image": "a.png"}', '{"image": "b.tif", "pages": [0, 1, 2]}', '{"image": "cut']
    (tmp_path / "results.jsonl").write_text("\n".join(lines), encoding="utf-8")
    write_csv(tmp_path / "objects.csv", [{"image": "a.png", "label": 1, "area_px": 30.0}])
    run = read_run(tmp_path)
    assert run.finished == ["a.png", "b.tif#page=0", "b.tif#page=1"]
    assert run.areas == {"a.png": [30.0]}


def test_a_folder_without_a_run_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NoRunError, match=r"notes\.txt.*history\.csv"):
        read_run(tmp_path)
    write_run_file(tmp_path, tmp_path, "training")  # alone, no run either
    write_csv(tmp_path / "below" / "history.csv", history([0.5]))
    with pytest.raises(NoRunError, match="below"):
        read_run(tmp_path)
    with pytest.raises(NoRunError, match="does not exist"):
        read_run(tmp_path / "gone")
