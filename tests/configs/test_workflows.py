"""The workflows train, resume, evaluate and segment a tiny data set, and report clear errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import stats

from bundle.__main__ import main
from bundle.datasets.synthetic_em import synthetic_section
from bundle.running.failures import explain
from scripts.handlers.history import read_history
from scripts.io.files import read_csv, sha256_of
from scripts.settings import read_settings
from tests.configs.conftest import CONFIGS, SMALL, settings, write_pairs


def root_cause(error: BaseException) -> BaseException:
    """Get the error of a workflow. MONAI raises "Failed to evaluate ..." from the original error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def test_weight_maps_are_computed_once_per_image_and_kept(tiny_dataset, tmp_path, run_bundle):
    workflow = run_bundle("train.yaml", **settings(tiny_dataset, tmp_path, max_epochs=1))
    for part in ("train", "validate"):
        dataset = workflow.parser.get_parsed_content(f"{part}#dataset")
        assert len(dataset._cache) == len(dataset) > 0
        assert all(item["weight"].shape == (1, 96, 80) for item in dataset._cache)  # whole images, not tiles


def test_training_leaves_weights_state_history_split_and_figures(trained):
    assert {p.name for p in (trained / "models").iterdir()} == {"model.pt", "model.json", "training_state.pt"}
    outputs = {p.name for p in (trained / "out").iterdir()}
    assert {"history.csv", "split.json", "curves.png", "panel.png"} <= outputs
    assert any(name.startswith("events.out.tfevents") for name in outputs)
    history = read_history(trained / "out" / "history.csv")
    assert [row["epoch"] for row in history] == [1, 2]
    assert [row["iteration"] for row in history] == [3, 6]  # three of four images train, with a tile each per epoch
    assert all(row["loss"] > 0 and 0 <= row["val_pixel_error"] <= 1 for row in history)
    weights = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())


@pytest.mark.slow
def test_images_of_several_sizes_share_a_batch(tmp_path, run_bundle):
    rng = np.random.default_rng(0)
    sizes = ((96, 80), (70, 120), (64, 64))
    data = write_pairs(tmp_path, (synthetic_section(rng, size) for size in sizes))
    run_bundle("train.yaml", **settings(data, tmp_path / "run", max_epochs=1, batch_size=2))
    (row,) = read_history(tmp_path / "run" / "out" / "history.csv")
    assert (row["iteration"], row["loss"] > 0) == (1, True)


def test_a_finished_training_goes_on_with_more_epochs(trained, tiny_dataset, tmp_path, run_bundle):
    shutil.copytree(trained, tmp_path / "copy")
    run_bundle("train.yaml", **settings(tiny_dataset, tmp_path / "copy", max_epochs=3, resume=True))
    history = read_history(tmp_path / "copy" / "out" / "history.csv")
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[-1]["iteration"] == 9


def test_evaluation_measures_the_held_out_image_and_reads_no_training_image(
    trained, tiny_dataset, tmp_path, run_bundle
):
    options = settings(tiny_dataset, trained, evaluation_dir=str(tmp_path))
    workflow = run_bundle("train.yaml", "evaluate.yaml", run_id="evaluating", **options)
    assert "train::dataset" not in workflow.parser.ref_resolver.resolved_content
    report = json.loads((tmp_path / "metrics.json").read_text())
    rows = read_csv(tmp_path / "metrics_per_image.csv")
    split = json.loads((trained / "out" / "split.json").read_text())
    assert [row["image"] for row in rows] == [Path(name).name for name in split["validation"]]
    assert report["images"] == 1
    assert float(rows[0]["pixel_error"]) == pytest.approx(report["mean"]["pixel_error"], abs=1e-6)
    best = max(read_history(trained / "out" / "history.csv"), key=lambda row: row["val_instance_f1"])
    assert report["mean"]["pixel_error"] == pytest.approx(best["val_pixel_error"], abs=1e-4)


def test_a_labelled_folder_is_measured_whole(trained, tiny_dataset, tmp_path, run_bundle):
    options = settings(tiny_dataset, trained, evaluation_dir=str(tmp_path), split_rule="all")
    run_bundle("train.yaml", "evaluate.yaml", run_id="evaluating", **options)
    assert json.loads((tmp_path / "metrics.json").read_text())["images"] == 4


@pytest.fixture
def segment(trained, tmp_path, run_bundle):
    def run(images: Path, **more: object) -> Path:
        options = {
            "network_def#features": SMALL["network_def#features"],
            "device": "cpu",
            "dataset_dir": str(images),
            "output_dir": str(tmp_path / "segmented"),
            "ckpt_path": str(trained / "models" / "model.pt"),
            **more,
        }
        run_bundle("inference.yaml", **options)
        return tmp_path / "segmented"

    return run


def test_a_folder_is_segmented_into_all_kinds_of_results(tiny_dataset, segment):
    out = segment(tiny_dataset / "images")
    names = [f"{k:02d}" for k in range(4)]
    endings = {"classes": ".png", "probabilities": ".tif", "instances": ".tif", "overlays": ".png"}
    for kind, ending in endings.items():
        assert sorted(p.name for p in (out / kind).iterdir()) == [n + ending for n in names]
    classes = np.asarray(Image.open(out / "classes" / "00.png"))
    scores = tifffile.imread(out / "probabilities" / "00.tif")
    instances = tifffile.imread(out / "instances" / "00.tif")
    assert classes.shape == instances.shape == scores.shape[-2:] == (96, 80)
    assert np.allclose(scores.sum(0), 1, atol=1e-5)
    assert np.array_equal(classes, scores.argmax(0))
    assert np.array_equal(instances > 0, scores[1] > 0.5)
    objects = read_csv(out / "objects.csv")
    first = [row for row in objects if row["image"] == "00.png"]
    assert sorted(int(row["label"]) for row in first) == sorted(np.unique(instances[instances > 0]).tolist())


def test_outputs_can_be_switched_off(tiny_dataset, segment):
    none = dict.fromkeys(("save_probabilities", "save_instances", "save_overlays", "save_objects"), False)
    out = segment(tiny_dataset / "images", **none)
    assert sorted(p.name for p in out.iterdir()) == ["classes", "classes.csv", "results.jsonl", "run.json", "run.log"]


def test_uncertainty_is_written_on_request(tiny_dataset, segment):
    assert not (segment(tiny_dataset / "images") / "entropy").exists()
    out = segment(tiny_dataset / "images", save_uncertainty=True, skip_finished=True)  # a new kind: segmented again
    names = [f"{k:02d}.tif" for k in range(4)]
    assert sorted(path.name for path in (out / "entropy").iterdir()) == names
    assert not (out / "deviation").exists()  # of a single view
    before = (out / "entropy" / "00.tif").stat().st_mtime_ns
    chances = tifffile.imread(out / "probabilities" / "00.tif")
    uncertain = tifffile.imread(out / "entropy" / "00.tif")
    assert uncertain.dtype == np.float32
    np.testing.assert_allclose(uncertain, stats.entropy(chances, base=2, axis=0), atol=1e-5)
    segment(tiny_dataset / "images", save_uncertainty=True, skip_finished=True)
    assert (out / "entropy" / "00.tif").stat().st_mtime_ns == before  # finished
    (out / "entropy" / "00.tif").unlink()
    segment(tiny_dataset / "images", save_uncertainty=True, skip_finished=True)
    assert (out / "entropy" / "00.tif").is_file()


def test_several_views_have_a_deviation(tiny_dataset, segment):
    out = segment(tiny_dataset / "images", save_uncertainty=True, orientations=4)
    deviation = tifffile.imread(out / "deviation" / "00.tif")
    assert (deviation.shape, deviation.dtype) == ((96, 80), np.float32)
    assert 0 < deviation.max() <= 0.5
    segment(tiny_dataset / "images", save_uncertainty=True, orientations=4, skip_finished=True)
    (out / "deviation" / "00.tif").unlink()
    segment(tiny_dataset / "images", save_uncertainty=True, orientations=4, skip_finished=True)
    assert (out / "deviation" / "00.tif").is_file()


def test_class_maps_can_be_made_visible_and_say_what_their_values_mean(tiny_dataset, segment):
    out = segment(tiny_dataset / "images" / "00.png", class_map_values=[0, 255])
    assert set(np.unique(np.asarray(Image.open(out / "classes" / "00.png")))) <= {0, 255}
    rows = [(row["value"], row["class"]) for row in read_csv(out / "classes.csv")]
    assert rows == [("0", "membrane"), ("255", "cell")]


def test_a_single_file_a_stack_and_a_one_pixel_image(tiny_dataset, segment, tmp_path):
    stack = np.stack([np.asarray(Image.open(p)) for p in sorted((tiny_dataset / "images").iterdir())])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    out = segment(tmp_path / "stack.tif")
    assert tifffile.imread(out / "classes" / "stack.tif").shape == stack.shape
    assert tifffile.imread(out / "instances" / "stack.tif").shape == stack.shape
    Image.fromarray(np.full((1, 1), 7, np.uint8)).save(tmp_path / "pixel.png")
    out = segment(tmp_path / "pixel.png")
    assert np.asarray(Image.open(out / "classes" / "pixel.png")).shape == (1, 1)


def test_one_broken_image_does_not_stop_the_others(tiny_dataset, segment, tmp_path):
    shutil.copytree(tiny_dataset / "images", tmp_path / "images")
    (tmp_path / "images" / "01.png").write_bytes((tiny_dataset / "images" / "01.png").read_bytes()[:200])
    with pytest.raises(RuntimeError) as raised:
        segment(tmp_path / "images")
    assert re.search(r"1 of 4 images failed[\s\S]*01\.png", str(root_cause(raised.value)))
    saved = sorted(p.name for p in (tmp_path / "segmented" / "classes").iterdir())
    assert saved == ["00.png", "02.png", "03.png"]


def test_nothing_is_segmented_without_weights(tiny_dataset, segment, tmp_path):
    with pytest.raises(RuntimeError) as raised:
        segment(tiny_dataset / "images", ckpt_path=str(tmp_path / "nowhere.pt"))
    assert re.search(r"no file at .*nowhere\.pt.*ckpt_path", str(root_cause(raised.value)))
    assert not list((tmp_path / "segmented").rglob("*.png"))


@pytest.mark.parametrize("name, run_id", [("train.yaml", "training"), ("inference.yaml", "run")])
def test_a_missing_folder_is_one_clear_message(name, run_id, tmp_path, bundle_root, monkeypatch, capfd):
    monkeypatch.chdir(bundle_root)
    missing = ["--dataset_dir", str(tmp_path / "nowhere"), "--output_dir", str(tmp_path / "out")]
    assert main(["run", run_id, "--config_file", str(CONFIGS / name), *missing]) == 1
    shown = capfd.readouterr().err
    assert "Traceback" not in shown
    (message,) = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert "dataset_dir" in message
    assert "nowhere" in message


def test_a_label_beyond_the_classes_is_reported_with_its_file(tiny_dataset, tmp_path, run_bundle):
    with pytest.raises(RuntimeError) as raised:
        run_bundle("train.yaml", **settings(tiny_dataset, tmp_path, label_kind="classes"))
    assert re.search(r"\d\d\.png: found .*2,3.* no classes.*label_kind instances", explain(raised.value))


@pytest.mark.slow
def test_averaged_weights_are_kept_resumed_and_measured_with_and_without_the_overlay(
    tiny_dataset, tmp_path, run_bundle
):
    options = settings(tiny_dataset, tmp_path, learning_rate=0.01, tiles_per_epoch=3)
    fast = ("train.yaml", "variant_fast.yaml")
    run_bundle(*fast, **options)
    states = [torch.load(tmp_path / "models" / "training_state.pt", weights_only=True)]
    run_bundle(*fast, **options | {"max_epochs": 3, "resume": True})
    states.append(torch.load(tmp_path / "models" / "training_state.pt", weights_only=True))
    first, last = ({name: state[name]["scores.weight"] for name in ("model", "average")} for state in states)
    assert not torch.equal(first["model"], first["average"])
    assert not torch.equal(first["average"], last["average"])
    assert [row["epoch"] for row in read_history(tmp_path / "out" / "history.csv")] == [1, 2, 3]
    torch.save(states[-1]["average"], tmp_path / "average.pt")
    measured = []
    for name, configs in (("with", fast), ("without", fast[:1])):
        place = {"ckpt_path": str(tmp_path / "average.pt"), "evaluation_dir": str(tmp_path / name)}
        run_bundle(*configs, "evaluate.yaml", run_id="evaluating", **options, **place)
        measured.append(json.loads((tmp_path / name / "metrics.json").read_text())["mean"])
    assert measured[0] == measured[1]


@pytest.mark.slow
def test_a_state_is_resumed_with_a_time_limit_and_refused_with_another_optimizer_or_average(
    trained, tiny_dataset, tmp_path, run_bundle
):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    options = settings(tiny_dataset, tmp_path)
    for overlay, word in (("variant_adam.yaml", "betas"), ("variant_fast.yaml", "average")):
        with pytest.raises(RuntimeError) as raised:
            run_bundle("train.yaml", overlay, **options | {"max_epochs": 3, "resume": True})
        told = str(root_cause(raised.value))
        assert "training_state.pt" in told
        assert word in told
        assert "SGD" in told
        assert "Adam" in told
    run_bundle("train.yaml", **options | {"max_epochs": 3, "resume": True, "max_minutes": 10})
    assert [row["epoch"] for row in read_history(tmp_path / "out" / "history.csv")] == [1, 2, 3]


def test_a_run_that_goes_on_names_what_is_finished_and_what_differs(tiny_dataset, segment, capfd):
    out = segment(tiny_dataset / "images")
    (out / "classes" / "02.png").unlink()
    before = (out / "objects.csv").read_bytes()
    segment(tiny_dataset / "images", skip_finished=True)
    assert "3 of 4 images are finished" in capfd.readouterr().out
    assert (out / "classes" / "02.png").is_file()
    assert (out / "objects.csv").read_bytes() == before
    segment(tiny_dataset / "images", skip_finished=True)  # nothing is left to do
    with pytest.raises(RuntimeError) as refused:
        segment(tiny_dataset / "images", skip_finished=True, min_area=40, orientations=4)
    message = str(root_cause(refused.value))
    assert "min_area 0 (now 40)" in message
    assert "orientations 1 (now 4)" in message


def write_weights(trained: Path, folder: Path, factor: float) -> None:
    """Write the trained weights times a factor, with their settings."""
    weights = torch.load(trained / "models" / "model.pt", weights_only=True)
    torch.save({name: value * factor for name, value in weights.items()}, folder / "model.pt")
    content = json.loads((trained / "models" / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, "sha256": sha256_of(folder / "model.pt")}))


def test_results_of_other_weights_are_not_mixed(trained, tiny_dataset, segment, tmp_path):
    segment(tiny_dataset / "images" / "00.png")
    write_weights(trained, tmp_path, 1.1)
    with pytest.raises(RuntimeError) as refused:
        segment(tiny_dataset / "images", skip_finished=True, ckpt_path=str(tmp_path / "model.pt"))
    assert re.search(r"weights sha256 \w+ \(now sha256 \w+\)", str(root_cause(refused.value)))


def test_scores_that_overflow_are_an_error_and_give_no_result(trained, tiny_dataset, segment, tmp_path):
    write_weights(trained, tmp_path, 1e20)  # the scores overflow
    with pytest.raises(RuntimeError) as failed:
        segment(tiny_dataset / "images", ckpt_path=str(tmp_path / "model.pt"))
    assert re.search("all 4 images failed.*NaN or infinite", str(root_cause(failed.value)))
    assert not (tmp_path / "segmented" / "classes").exists()


def test_a_constant_image_gives_no_object_and_a_warning(segment, tmp_path, capfd):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "in" / "zero.png")
    out = segment(tmp_path / "in")
    assert not np.asarray(Image.open(out / "classes" / "zero.png")).any()
    assert not tifffile.imread(out / "instances" / "zero.tif").any()
    assert "zero.png has a single grey value" in capfd.readouterr().out


def test_images_are_never_replaced_by_their_results(tiny_dataset, segment, tmp_path):
    shutil.copytree(tiny_dataset / "images", tmp_path / "segmented" / "classes")
    before = {path.name: path.read_bytes() for path in (tmp_path / "segmented" / "classes").iterdir()}
    with pytest.raises(RuntimeError) as refused:
        segment(tmp_path / "segmented" / "classes")
    assert re.search(r"classes/00\.png.*output_dir", str(root_cause(refused.value)))
    assert {path.name: path.read_bytes() for path in (tmp_path / "segmented" / "classes").iterdir()} == before


@pytest.mark.slow
def test_tiles_fit_a_network_of_fewer_levels(tiny_dataset, tmp_path, run_bundle):
    """92 pixels fit one pooling, but not four."""
    run_bundle(
        "train.yaml",
        **settings(tiny_dataset, tmp_path, **{"network_def#features": [2, 4], "input_size": 92, "max_epochs": 1}),
    )
    assert read_settings(tmp_path / "models" / "model.pt").network["features"] == [2, 4]
