"""Trackers keep a training, an evaluation and a segmentation: in MLflow's store and in TensorBoard's events."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import yaml
from ignite.engine import Engine
from monai.bundle import ConfigParser
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bundle.__main__ import main
from scripts.handlers.history import read_history
from scripts.handlers.interruption import Interruption
from tests.configs.conftest import CONFIGS, ROOT, settings, words

mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (pip install -c constraints.txt '.[tracking]')")
EXPERIMENT = "monai_experiment"  # MONAI's default


@pytest.fixture(scope="module")
def overrides(tiny_dataset, trained) -> dict[str, Any]:
    return settings(tiny_dataset, trained)


@pytest.fixture(scope="module")
def out(trained) -> Path:
    return trained / "out"


class Store:
    """Read a store by MLflow's client."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client = mlflow.MlflowClient(tracking_uri=uri)
        self.experiment = self.client.get_experiment_by_name(EXPERIMENT).experiment_id

    def run(self, title: str) -> Any:
        """Get the only run with a name that begins with `title`."""
        (found,) = [r for r in self.client.search_runs(self.experiment) if r.info.run_name.startswith(title)]
        return found

    def files(self, run: Any, folder: str | None = None) -> set[str]:
        return {entry.path for entry in self.client.list_artifacts(run.info.run_id, folder)}

    def content(self, run: Any, name: str, to: Path) -> bytes:
        return Path(self.client.download_artifacts(run.info.run_id, name, str(to))).read_bytes()

    def course(self, run: Any, metric: str) -> dict[int, float]:
        return {m.step: m.value for m in self.client.get_metric_history(run.info.run_id, metric)}


@pytest.fixture(scope="module")
def store(out) -> Store:
    return Store(f"sqlite:///{out}/mlruns.db")


# ---------------------------------------------------------------- MLflow: training


def test_one_finished_run_has_a_name_of_its_own(store):
    run = store.run("training_")
    assert run.info.status == "FINISHED"
    assert len(store.client.search_runs(store.experiment, filter_string="attributes.run_name LIKE 'training%'")) == 1


def test_every_setting_as_run_is_a_parameter(store, overrides):
    params = store.run("training_").data.params
    for name, value in overrides.items():
        assert params[name.replace("#", ".")] == str(value)
    for name, value in yaml.safe_load((CONFIGS / "train.yaml").read_text()).items():
        if not isinstance(value, (dict, list)) and not str(value).startswith("@"):
            assert name in params, name
    assert params["out_channels"] == "2"  # $len(@class_names)
    assert params["learning_rate"] == "0.001"
    assert params["optimizer._target_"] == "torch.optim.SGD"
    assert params["train.handlers.Validation._target_"] == "scripts.handlers.Validation"


def test_the_configuration_is_kept_so_that_it_can_be_run_again(store, overrides, tmp_path):
    kept = yaml.safe_load(store.content(store.run("training_"), "config.yaml", tmp_path))
    expected = ConfigParser(yaml.safe_load((CONFIGS / "train.yaml").read_text()))
    expected.update(overrides)
    expected.parse()  # which writes every # as ::
    for key, value in expected.get().items():
        if key not in ("train", "validate"):
            assert kept[key] == value, key
    added = [handler["_target_"] for handler in kept["train"]["handlers"][len(expected["train#handlers"]) :]]
    assert added == ["MLFlowHandler"]  # added by --tracking; all other handlers are unchanged
    assert kept["train"]["trainer"] == expected["train#trainer"]


def test_losses_and_metrics_are_those_of_the_history(store, out):
    run, history = store.run("training_"), read_history(out / "history.csv")
    for metric, column in {"epoch_loss": "loss", "epoch_lr": "lr", "epoch_seconds": "seconds"}.items():
        assert store.course(run, metric) == {row["epoch"]: pytest.approx(row[column]) for row in history}
    names = [name for name in history[0] if name.startswith("val_")]
    assert {"val_instance_f1", "val_pixel_error"} <= set(names)
    for name in names:
        if history[0][name] is not None:
            assert store.course(run, name) == {row["epoch"]: pytest.approx(row[name], rel=1e-4) for row in history}
    assert sorted(store.course(run, "train_loss")) == [1, 2, 3, 4, 5, 6]  # iterations


def test_the_figures_are_kept_as_files_and_as_one_image_an_epoch(store, out, tmp_path):
    run = store.run("training_")
    assert {"curves.png", "panel.png", "config.yaml", "images"} <= store.files(run)
    for name in ("curves.png", "panel.png"):
        assert store.content(run, name, tmp_path) == (out / name).read_bytes()
    images = sorted(name for name in store.files(run, "images") if name.endswith(".png"))
    assert [name.split("+")[:3] for name in images] == [
        *([f"images/{kind}", "step", str(epoch)] for kind in ("curves", "panel") for epoch in (1, 2)),
        ["images/panel_saved", "step", "2"],
    ]
    last = tmp_path / "last.png"
    last.write_bytes(store.content(run, images[-1], tmp_path))
    with Image.open(last) as kept, Image.open(out / "panel.png") as drawn:
        assert np.array_equal(np.asarray(kept), np.asarray(drawn.convert("RGB")))


# ---------------------------------------------------------------- TensorBoard


def test_tensorboard_has_one_file_with_scalars_images_and_settings(out, overrides):
    (path,) = out.glob("events.out.tfevents.*")
    events = EventAccumulator(str(path)).Reload()
    tags = events.Tags()
    assert {"train_loss", "val_instance_f1", "val_pixel_error"} <= set(tags["scalars"])
    history = read_history(out / "history.csv")
    errors = {event.step: event.value for event in events.Scalars("val_pixel_error")}
    assert errors == {row["epoch"]: pytest.approx(row["val_pixel_error"], rel=1e-4) for row in history}
    assert {tag: [event.step for event in events.Images(tag)] for tag in tags["images"]} == {
        "panel": [1, 2],
        "panel_saved": [2],
        "curves": [1, 2],
    }
    texts = {
        tag.split("/")[0]: events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in tags["tensors"]
        if tag.endswith("text_summary")
    }
    assert f"| dataset_dir | {overrides['dataset_dir']} |" in texts["settings"]
    assert "| max_epochs | 2 |" in texts["settings"]
    configuration = yaml.safe_load(dedent(texts["configuration"]))
    assert configuration["network_def"]["features"] == overrides["network_def#features"]


# ---------------------------------------------------------------- evaluating and segmenting


@pytest.fixture
def bundle_run(monkeypatch):
    """Run `python -m bundle run` with `--tracking mlflow` in this process."""
    monkeypatch.chdir(ROOT)

    def run(run_id: str, files: tuple[str, ...], more: dict[str, Any]) -> int:
        names = ",".join(f"configs/{name}" for name in files)
        return main(["run", run_id, "--config_file", f"[{names}]", "--tracking", "mlflow", *words(more)])

    return run


def test_an_evaluation_is_a_run_of_its_own_with_metrics_reports_and_panels(store, overrides, out, bundle_run, tmp_path):
    interrupted = store.client.create_run(store.experiment, run_name="training_interrupted")
    (out / "evaluation").mkdir()
    (out / "evaluation" / "old.csv").write_text("from before\n")
    assert bundle_run("evaluating", ("train.yaml", "evaluate.yaml"), overrides) == 0
    run = store.run("evaluating_")
    assert run.info.status == "FINISHED"
    report = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert run.data.metrics["val_pixel_error"] == pytest.approx(report["mean"]["pixel_error"], abs=1e-4)
    objects = json.loads((out / "evaluation" / "object_metrics.json").read_text())
    assert run.data.metrics["object_metrics.seg"] == objects["seg"]
    assert run.data.metrics["metrics.mean.dice_cell"] == report["mean"]["dice_cell"]
    assert not [name for name in run.data.metrics if name.startswith("split.")]
    assert run.data.params["split_name"] == "validation"
    assert {"metrics.json", "metrics_per_image.csv", "object_metrics.json", "config.yaml"} <= store.files(run)
    assert "old.csv" not in {Path(name).name for name in store.files(run)}
    panels = {f"panels/{path.name}" for path in (out / "evaluation" / "panels").iterdir()}
    assert store.files(run, "panels") == panels
    assert len(panels) == 1
    assert not store.client.get_run(interrupted.info.run_id).data.metrics  # unchanged
    store.client.delete_run(interrupted.info.run_id)


def test_a_segmentation_is_kept_under_the_name_that_it_is_given(store, overrides, bundle_run, tmp_path):
    more = {
        "network_def#features": overrides["network_def#features"],
        "device": "cpu",
        "dataset_dir": f"{overrides['dataset_dir']}/images",
        "output_dir": str(tmp_path / "segmented"),
        "ckpt_path": f"{overrides['model_dir']}/model.pt",
        "tracking_uri": store.uri,
        "run_name": "first look",
    }
    assert bundle_run("inference", ("inference.yaml",), more) == 0
    run = store.run("first look")
    assert run.info.status == "FINISHED"
    fitted = json.loads(Path(overrides["model_dir"], "model.json").read_text())["threshold"]
    assert run.data.params["threshold"] == str(fitted)
    assert "config.yaml" in store.files(run)
    assert (tmp_path / "segmented" / "objects.csv").is_file()


def test_a_misspelt_key_of_the_tracker_is_refused(bundle_run, capsys):
    assert bundle_run("training", ("train.yaml",), {"run_nam": "x"}) == 2
    assert "did you mean 'run_name'" in capsys.readouterr().err


# ---------------------------------------------------------------- how runs end, without a training


def tracked_engine(store: Store, step: Any, **more: Any) -> Engine:
    """Build an engine with the handlers of a configuration and of `--tracking mlflow`."""
    parser = ConfigParser(
        {
            "answer": 42,
            "handlers": [
                {"_target_": "scripts.handlers.RunSettings", "title": "bare"},
                {"_target_": "MLFlowHandler", "tracking_uri": store.uri, "iteration_log": False, **more},
            ],
        }
    )
    engine = Engine(step)
    for handler in parser.get_parsed_content("handlers"):
        handler.attach(engine)
    return engine


@pytest.mark.parametrize("with_another", [False, True])
@pytest.mark.parametrize("error, status", [(FloatingPointError, "FAILED"), (KeyboardInterrupt, "RUNNING")])
def test_a_run_that_fails_is_marked_as_failed_and_an_interrupted_one_stays_open(error, status, with_another, store):
    def fail(*_: Any) -> None:
        raise error("in the midst")

    name = f"{error.__name__} {with_another}"
    engine = tracked_engine(store, fail, run_name=name)
    if with_another:  # waits for errors, too
        Interruption().attach(engine)
    with pytest.raises(error, match="in the midst"):
        engine.run([0])
    assert store.run(name).info.status == status


def test_under_its_name_an_interrupted_run_goes_on_and_keeps_its_parameters(store):
    interrupted = store.client.create_run(store.experiment, run_name="named")
    store.client.log_param(interrupted.info.run_id, "answer", 41)
    tracked_engine(store, lambda *_: None, run_name="named", close_on_complete=True).run([0])
    run = store.run("named")
    assert run.info.run_id == interrupted.info.run_id
    assert (run.info.status, run.data.params["answer"]) == ("FINISHED", "41")
