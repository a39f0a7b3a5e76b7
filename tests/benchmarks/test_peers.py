"""All programs train on equal parts of the data, and all predictions have equal measures."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks import recipes
from benchmarks.peers import __main__ as peers
from benchmarks.peers.__main__ import PEERS, Peer, compare, curves, job_of, measure, table
from benchmarks.peers.cpu_time import CpuTimeLimit
from benchmarks.peers.job import Clock, Job, components
from benchmarks.recipes import Way
from benchmarks.tasks import TASKS, write_parts
from bundle.datasets.sample import sample
from bundle.experiments.experiments import network_of
from scripts.data.datalist import find_pairs

MINUTES = 0.01


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("peers")
    sample(str(folder), size=128, train=10, test=0)
    return folder / "train"


def job_in(out: Path, **given) -> Job:
    fields = {"training": [], "chosen": [], "curve": [], "measured": [], "minutes": MINUTES, "seed": 0}
    return Job(task="em", out=str(out), **{**fields, **given})


@pytest.mark.parametrize("task", TASKS)
def test_a_peer_receives_the_parts_of_recipes_and_no_label_of_a_measured_image(dataset, tmp_path, task):
    parts = write_parts(TASKS[task], dataset, tmp_path)
    job = job_of(task, dataset, parts, 10, 0, tmp_path / "peer")
    split, held = (json.loads(part.read_text()) for part in parts)
    assert [Path(image).name for image, _ in job.training] == split["training"]
    assert [Path(image).name for image, _ in job.chosen] == split["validation"]
    assert [Path(image).name for image in job.measured] == held["validation"]
    assert set(job.curve) <= {image for image, _ in job.chosen}
    known = json.dumps(job.__dict__)
    labels = {item["image"]: item["label"] for item in find_pairs(str(dataset))}
    assert not any(labels[image] in known for image in job.measured)


@pytest.mark.parametrize("task", TASKS)
def test_perfect_predictions_have_perfect_scores_and_empty_ones_do_not(dataset, tmp_path, task):
    truth = {Path(item["image"]).stem: item["label"] for item in find_pairs(str(dataset))[:2]}
    for name, file in truth.items():
        labels = peers.read_plane(file)
        for folder, values in (("perfect", labels), ("empty", 0 * labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            prediction = (values > 0).astype(np.float32) if task == "em" else values.astype(np.uint16)
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", prediction)
    perfect, empty = (measure(task, tmp_path / name, truth, tmp_path / "report") for name in ("perfect", "empty"))
    best = {name: 0.0 if "error" in name else 1.0 for name in perfect}
    assert perfect == pytest.approx(best)
    assert all(empty[name] != best[name] for name in best)


def test_a_missing_prediction_is_no_score_of_zero(dataset, tmp_path):
    (item, *_) = find_pairs(str(dataset))
    with pytest.raises(FileNotFoundError):
        measure("nuclei", tmp_path, {"0": item["label"]}, tmp_path / "report")


def test_a_program_that_is_not_installed_has_a_row_that_says_so(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "em", replace(TASKS["em"], folder=dataset.name))
    monkeypatch.setitem(PEERS, "absent", Peer("nnunet", "no_such_package"))
    results = compare("em", ["absent"], [], MINUTES, 0, dataset.parent, tmp_path, {})
    assert results == {"absent": {"missing": "not installed: no_such_package"}}
    assert "| absent | not installed: no_such_package |" in (tmp_path / "table.md").read_text()


def test_a_program_that_fails_has_a_row_that_names_its_log_and_is_tried_again(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "em", replace(TASKS["em"], folder=dataset.name))
    monkeypatch.setitem(PEERS, "broken", Peer("no_such_module", None))
    results = compare("em", ["broken"], [], MINUTES, 0, dataset.parent, tmp_path, {})
    assert results["broken"]["missing"] == "failed with code 1, see no_such_module/log.txt"
    assert "no_such_module" in (tmp_path / "no_such_module" / "log.txt").read_text()
    assert not (tmp_path / "no_such_module" / "result.json").exists()


@pytest.mark.parametrize("task, name", [("em", "write-up"), ("nuclei", "MONAI BasicUNet")])
def test_recipes_without_a_package_train_predict_and_are_measured_once(dataset, tmp_path, monkeypatch, task, name):
    monkeypatch.setitem(TASKS, task, replace(TASKS[task], folder=dataset.name))
    tiny = {"features": [2, 4]}
    given = (task, [name], [], MINUTES, 0, dataset.parent, tmp_path, {}, tiny)
    found = compare(*given)[name]
    assert found["training"]["steps"] >= 1
    assert found["training"]["seconds"] >= 60 * MINUTES
    assert len(found["curve"]) >= 1
    assert all(0 <= value <= 1 for value in found["figures"].values() if value is not None)
    folder = tmp_path / PEERS[name].module
    written = (folder / "training.json").stat().st_mtime_ns
    assert compare(*given)[name] == json.loads(json.dumps(found))
    assert (folder / "training.json").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="--out"):
        compare(*given[:3], 2 * MINUTES, *given[4:])


def test_ours_trains_in_a_single_process_by_the_clock_of_the_others(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "nuclei", replace(TASKS["nuclei"], folder=dataset.name))
    tiny = {**network_of(2), "input_size": 188, "tiles_per_epoch": 2, "fit_objects": False, "device": "cpu"}
    monkeypatch.setitem(recipes.WAYS, "tiny", Way(("variant_fast",), tiny))
    results = compare("nuclei", [], ["tiny"], MINUTES, 0, dataset.parent, tmp_path, {})
    assert list(results) == ["ours, tiny, 1 view", "ours, tiny, 8 views"]
    for found in results.values():
        assert found["figures"].keys() == {"F1 at IoU 0.5", "F1 at IoU 0.7", "F1 at IoU 0.9", "SEG", "AP at IoU 0.5"}
        assert 0 < found["curve"][-1][0] <= 60 * MINUTES
    record = json.loads((tmp_path / "ours-tiny" / "result.json").read_text())
    assert record["of"]["way"]["settings"]["num_workers"] == 0
    assert (
        record["of"]["way"]["settings"]["time_limit#_target_"] == f"{CpuTimeLimit.__module__}.{CpuTimeLimit.__name__}"
    )


def test_predictions_for_the_curve_cost_no_time(dataset, tmp_path):
    (item, *_) = find_pairs(str(dataset))
    clock = Clock(job_in(tmp_path, curve=[item["image"]], minutes=10))
    clock.marks = [0.0]
    clock.start()

    def slow(image: np.ndarray) -> np.ndarray:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        return image / 255

    assert clock.step(slow)
    assert clock.spent < 0.3
    assert len(list((tmp_path / "curve").glob("*/*.tif"))) == 1
    assert not clock.step(slow)  # every mark once


def test_the_table_and_the_curves_have_a_line_for_every_program():
    found = {"V_Rand": 0.9, "V_Info": 0.8, "pixel error": 0.1}
    run = {"figures": found, "training": {"steps": 7}, "curve": [[1.0, 0.5], [2.0, 0.6]]}
    results = {"a": run, "b": {"missing": "not installed: b"}}
    lines = table("em", results, 10).splitlines()
    assert lines[-2] == "| a | 7 | 0.900 | 0.800 | 0.100 |"
    assert lines[-1].startswith("| b | not installed: b |")
    assert [line.get_label() for line in curves({"em": results}).axes[0].lines] == ["a"]


def test_components_do_not_join_cells_that_touch_at_a_corner():
    assert components(np.eye(3)).max() == 3


def test_the_interpreter_of_this_project_is_asked_for_its_packages():
    assert peers.installed(sys.executable, "numpy")
    assert not peers.installed(sys.executable, "no_such_package")
    assert not peers.installed("no/such/python", "numpy")
