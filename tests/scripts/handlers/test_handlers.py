"""Handlers on real engines: a tiny network learns to threshold 32 x 32 images."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import IterationEvents, SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from monai.transforms import Activationsd
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from scripts.handlers.figures import TrainingFigures, panel_arrays
from scripts.handlers.history import HistoryCSV, read_history
from scripts.handlers.progress import LossOnDevice, ProgressBar, loss_of
from scripts.handlers.reports import MetricsReport, measure, summarise
from scripts.io.files import read_csv, write_csv, write_json
from scripts.metrics.pixels import MeanDice, named_metrics

NAMES = ["membrane", "cell"]
ITERATIONS = 4


class MaskedCrossEntropy(nn.Module):
    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, label[:, 0].long(), ignore_index=-1)


def _items(count: int, seed: int = 0) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    items = []
    for i in range(count):
        image = torch.rand(1, 32, 32, generator=generator)
        label = (image > 0.5).long()
        label[:, 0] = -1  # the first row is not annotated
        weight = torch.where(label < 0, 0.0, 1.0 + 9 * image)
        items.append(
            {
                "image": MetaTensor(image, meta={"filename_or_obj": f"data/{i:02d}.png"}),
                "label": label,
                "weight": weight,
            }
        )
    return items


class Run:
    """A trainer and its evaluator, as the configuration builds them."""

    def __init__(self, epochs: int, validated_every: int, handlers: Callable[[Run], list] = lambda _: []) -> None:
        torch.manual_seed(0)
        self.network = nn.Conv2d(1, 2, 1)
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.5)
        self.evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(Dataset(_items(2, seed=1)), batch_size=1),
            network=self.network,
            postprocessing=Activationsd(keys="pred", softmax=True),
            key_val_metric={"val_mean_dice": MeanDice(2)},
            additional_metrics=named_metrics(NAMES),
        )
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(Dataset(_items(ITERATIONS)), batch_size=1),
            network=self.network,
            optimizer=optimizer,
            loss_function=MaskedCrossEntropy(),
        )
        self.losses: list[float] = []
        self.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: self.losses.append(float(e.state.output[0]["loss"]))
        )
        validation = ValidationHandler(interval=validated_every, validator=self.evaluator)
        self.trainer._register_handlers([*handlers(self), validation])


# ---------------------------------------------------------------- tables


def test_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", [{"a": 1, "b": 'quo"ted, text'}, {"a": None, "c": 2.5}])
    assert (tmp_path / "t.csv").read_text() == 'a,b,c\n1,"quo""ted, text",\n,,2.5\n'
    assert read_csv(tmp_path / "t.csv")[0] == {"a": "1", "b": 'quo"ted, text', "c": ""}


def test_nan_becomes_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "t.json", {"a": [float("nan"), 1.5], "b": {"c": (float("nan"),)}})
    assert json.loads((tmp_path / "t.json").read_text()) == {"a": [None, 1.5], "b": {"c": [None]}}


# ---------------------------------------------------------------- history.csv


def test_history_has_a_row_per_epoch_and_metrics_where_validated(tmp_path: Path) -> None:
    run = Run(5, 2, lambda r: [HistoryCSV(tmp_path, r.evaluator)])
    run.trainer.run()
    rows = read_history(tmp_path / "history.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["iteration"] for row in rows] == [4, 8, 12, 16, 20]
    assert {row["lr"] for row in rows} == {0.5}
    expected = np.array(run.losses).reshape(5, ITERATIONS).mean(axis=1)
    np.testing.assert_allclose([row["loss"] for row in rows], expected, rtol=1e-5)
    assert [row["val_mean_dice"] is not None for row in rows] == [False, True, False, True, False]
    assert rows[3]["val_mean_dice"] == pytest.approx(run.evaluator.state.metrics["val_mean_dice"], rel=1e-5)
    assert list(rows[0])[:7] == ["epoch", "iteration", "lr", "loss", "seconds", "val_mean_dice", "val_pixel_error"]
    assert all(row["seconds"] is not None and 0 <= row["seconds"] < 10 for row in rows)


@pytest.mark.parametrize("first", [True, False], ids=["before validation", "after validation"])
def test_the_place_among_the_handlers_does_not_matter(tmp_path: Path, first: bool) -> None:
    run = Run(2, 1, (lambda r: [HistoryCSV(tmp_path, r.evaluator)]) if first else lambda _: [])
    if not first:
        HistoryCSV(tmp_path, run.evaluator).attach(run.trainer)
    run.trainer.run()
    rows = read_history(tmp_path / "history.csv")
    assert len(rows) == 2
    assert all(value is not None for row in rows for value in row.values())


def test_a_resumed_training_goes_on_and_drops_what_is_run_again(tmp_path: Path) -> None:
    Run(4, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)]).trainer.run()
    before = (tmp_path / "history.csv").read_text().splitlines()
    run = Run(5, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)])

    @run.trainer.on(Events.STARTED)  # as a checkpoint of epoch 2 does, after our handler was attached
    def resume(trainer: Engine) -> None:
        trainer.state.epoch, trainer.state.iteration = 2, 2 * ITERATIONS

    run.trainer.run()
    after = (tmp_path / "history.csv").read_text().splitlines()
    assert after[:3] == before[:3]  # the header, once, and two epochs as they were
    assert [line.split(",")[0] for line in after] == ["epoch", "1", "2", "3", "4", "5"]


def test_a_new_training_keeps_the_history_of_the_last(tmp_path: Path) -> None:
    Run(3, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)]).trainer.run()
    before = (tmp_path / "history.csv").read_text()
    Run(1, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)]).trainer.run()
    assert (tmp_path / "history.previous.csv").read_text() == before
    assert len(read_history(tmp_path / "history.csv")) == 1


def test_a_crash_leaves_the_epochs_that_were_complete(tmp_path: Path) -> None:
    run = Run(5, 1, lambda r: [HistoryCSV(tmp_path, r.evaluator)])

    @run.trainer.on(Events.ITERATION_COMPLETED(once=2 * ITERATIONS + 2))
    def crash(_: Engine) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run.trainer.run()
    assert [row["epoch"] for row in read_history(tmp_path / "history.csv")] == [1, 2]


# ---------------------------------------------------------------- progress


def test_without_a_terminal_there_is_a_line_every_so_often() -> None:
    stream = io.StringIO()
    Run(5, 9, lambda _: [ProgressBar(every=8, stream=stream)]).trainer.run()
    lines = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue()
    assert [re.sub(r"loss \d\.\d{4}", "loss", line).rsplit(",", 1)[0] for line in lines] == [
        "training: epoch 2, iteration 8/20, loss",
        "training: epoch 4, iteration 16/20, loss",
        "training: epoch 5, iteration 20/20, loss",
    ]
    assert all(re.search(r", left \d+:\d\d:\d\d$", line) for line in lines)


def test_the_shown_loss_is_the_running_mean() -> None:
    stream = io.StringIO()
    run = Run(1, 9, lambda _: [ProgressBar(every=1, smoothing=0.5, stream=stream)])
    run.trainer.run()
    expected = run.losses[0]
    for loss in run.losses[1:]:
        expected = 0.5 * expected + 0.5 * loss
    assert f"loss {expected:.4f}," in stream.getvalue().splitlines()[-1]


def test_an_evaluator_counts_its_own_images_at_every_validation() -> None:
    stream = io.StringIO()
    run = Run(2, 1)
    ProgressBar("validation", every=1, stream=stream).attach(run.evaluator)
    run.trainer.run()
    assert [line.rsplit(",", 1)[0] for line in stream.getvalue().splitlines()] == [
        "validation: epoch 1, iteration 1/2",
        "validation: epoch 1, iteration 2/2",
        "validation: epoch 2, iteration 1/2",
        "validation: epoch 2, iteration 2/2",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_with_loss_and_time_left() -> None:
    stream = Terminal()
    Run(2, 9, lambda _: [ProgressBar(stream=stream)]).trainer.run()
    shown = stream.getvalue()
    assert "training [2/2]" in shown
    assert re.search(r"loss=\d\.\d{4}", shown)
    assert re.search(r"left=\d:\d\d:\d\d", shown)


def test_a_line_every_zero_iterations_is_refused() -> None:
    with pytest.raises(ValueError, match="every must be at least 1 iteration, got 0"):
        ProgressBar(every=0)


# ---------------------------------------------------------------- figures


def test_every_validation_renews_the_figures(tmp_path: Path) -> None:
    def handlers(run: Run) -> list:
        figures = TrainingFigures(tmp_path, run.evaluator, NAMES, writer=SummaryWriter(str(tmp_path / "events")))
        return [figures, HistoryCSV(tmp_path, run.evaluator)]

    run = Run(4, 2, handlers)
    seen: list[bytes] = []
    run.trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: seen.append(_content(tmp_path / "curves.png")))
    run.trainer.run()
    seen.append(_content(tmp_path / "curves.png"))
    assert [bool(content) for content in seen] == [False, False, True, True, True]
    assert seen[2] == seen[3]  # nothing new after epoch 3
    assert seen[3] != seen[4]  # drawn when the training ended
    with Image.open(tmp_path / "panel.png") as panel:
        assert panel.size[0] == 1320  # three columns
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert {tag: [e.step for e in events.Images(tag)] for tag in events.Tags()["images"]} == {
        "panel": [2, 4],
        "curves": [2, 4],
    }


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_without_a_history_there_is_only_the_panel(tmp_path: Path) -> None:
    Run(1, 1, lambda r: [TrainingFigures(tmp_path, r.evaluator, NAMES)]).trainer.run()
    assert [p.name for p in tmp_path.iterdir()] == ["panel.png"]


@pytest.mark.parametrize("pick, picked", [("first", "00.png"), ("worst", "01.png")])
def test_the_panel_shows_the_first_or_the_worst_image(tmp_path: Path, pick: str, picked: str) -> None:
    run = Run(1, 1)
    figures = TrainingFigures(tmp_path, run.evaluator, NAMES, pick=pick)
    figures.attach(run.trainer)
    images = [item["image"][0] for item in _items(2, seed=1)]
    with torch.no_grad():  # predicts "cell" above 0.45: the more pixels in 0.45 ... 0.5, the worse
        run.network.weight.copy_(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))
        run.network.bias.copy_(torch.tensor([0.45, 0.0]))
    wrong = [int(((image[1:] > 0.45) & (image[1:] <= 0.5)).sum()) for image in images]
    assert wrong[1] > wrong[0]  # or the test says nothing
    run.evaluator.run()
    assert figures._picked is not None
    assert figures._picked[0] == pytest.approx(wrong[pick == "worst"] / (31 * 32))
    assert figures._picked[2] == picked
    with pytest.raises(ValueError, match='"first" or "worst", got \'best\''):
        TrainingFigures(tmp_path, run.evaluator, NAMES, pick="best")


KEYS = ("image", "label", "pred", "prob", "weight")


def test_panel_takes_what_the_outputs_hold() -> None:
    prob = torch.tensor([0.2, 0.8]).reshape(2, 1, 1).expand(2, 6, 6)
    label = torch.ones(1, 6, 6)
    image = torch.arange(100.0).reshape(1, 10, 10)
    weight = torch.full((1, 6, 6), 3.0)
    arrays = panel_arrays({"image": image, "label": torch.cat([label, weight]), "pred": prob.bfloat16()}, KEYS, 1)
    assert arrays["image"].shape == (1, 6, 6)
    assert arrays["image"][0, 0, 0] == 22  # the centre of the image, where an unpadded network leaves a smaller output
    assert (arrays["weight"] == 3).all()
    np.testing.assert_allclose(arrays["probability"], 0.8, rtol=1e-2)
    assert (arrays["prediction"] == 1).all()

    arrays = panel_arrays({"image": image, "label": label, "pred": label, "weight": weight}, KEYS, 1)
    assert arrays["probability"] is None
    assert (arrays["weight"] == 3).all()
    arrays = panel_arrays({"image": image, "label": label, "pred": label, "prob": prob}, KEYS, 0)
    np.testing.assert_allclose(arrays["probability"], 0.2)
    scores = panel_arrays({"image": image, "label": label, "pred": prob * 10 - 5}, KEYS, 1)
    assert scores["probability"] is None  # scores are no probabilities


# ---------------------------------------------------------------- in a configuration


def test_a_configuration_names_handlers_and_metrics_as_literal_dictionaries(tmp_path: Path) -> None:
    parser = ConfigParser(
        {
            "class_names": NAMES,
            "evaluator": None,
            "handlers": [
                {"_target_": "scripts.handlers.ProgressBar", "every": 10},
                {"_target_": "scripts.handlers.HistoryCSV", "output_dir": str(tmp_path), "evaluator": "@evaluator"},
                {
                    "_target_": "scripts.handlers.TrainingFigures",
                    "output_dir": str(tmp_path),
                    "evaluator": "@evaluator",
                    "class_names": "@class_names",
                },
            ],
            "key_metric": {"val_mean_dice": {"_target_": "scripts.metrics.MeanDice", "num_classes": 2}},
            "additional_metrics": {"_target_": "scripts.metrics.named_metrics", "class_names": "@class_names"},
        }
    )
    made = [type(handler) for handler in parser.get_parsed_content("handlers")]
    assert made == [ProgressBar, HistoryCSV, TrainingFigures]
    assert isinstance(parser.get_parsed_content("key_metric")["val_mean_dice"], MeanDice)
    assert list(parser.get_parsed_content("additional_metrics")) == list(named_metrics(NAMES))


# ---------------------------------------------------------------- metrics report


def _evaluate(tmp_path: Path, outputs: list[dict[str, Any]], batches: list[dict[str, Any]] | None = None) -> dict:
    """Run the report on images with the given outputs, two an iteration."""
    loaded = batches or [{} for _ in outputs]
    pairs = list(zip(loaded, outputs, strict=True))

    def step(engine: Engine, index: int) -> list[dict[str, Any]]:
        engine.state.batch = [b for b, _ in pairs[index : index + 2]]
        return [o for _, o in pairs[index : index + 2]]

    evaluator = Engine(step)
    MetricsReport(tmp_path, NAMES, split="validation").attach(evaluator)
    evaluator.run(range(0, len(pairs), 2))
    return json.loads((tmp_path / "metrics.json").read_text())


def _output(name: str, pred: list, label: list) -> dict[str, Any]:
    image = MetaTensor(torch.zeros(1, *np.shape(pred)), meta={"filename_or_obj": name})
    return {"image": image, "pred": torch.tensor([pred]), "label": torch.tensor([label])}


def test_report_by_hand(tmp_path: Path) -> None:
    outputs = [
        _output("a/0.png", [[0, 0, 1, 1]], [[0, 0, 1, 1]]),  # all right
        _output("a/1.png", [[0, 1, 1, 1]], [[0, 0, 1, 1]]),  # Dice 2/3 and 4/5, IoU 1/2 and 2/3, error 1/4
        _output("a/2.png", [[0, 0, 0, 0]], [[0, 0, 0, -1]]),  # no cell anywhere: NaN; 3 pixels annotated
    ]
    summary = _evaluate(tmp_path, outputs)
    per_class = ["dice_membrane", "dice_cell", "iou_membrane", "iou_cell"]
    with (tmp_path / "metrics_per_image.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["image", "annotated_pixels", "pixel_error", "mean_dice", "mean_iou", *per_class],
        ["0.png", "4", "0.0", "1.0", "1.0", "1.0", "1.0", "1.0", "1.0"],
        ["1.png", "4", "0.25", "0.733333", "0.583333", "0.666667", "0.8", "0.5", "0.666667"],
        ["2.png", "3", "0.0", "1.0", "1.0", "1.0", "", "1.0", ""],
    ]
    assert summary["split"] == "validation"
    assert summary["images"] == 3
    assert summary["annotated_pixels"] == 11
    assert summary["mean"]["pixel_error"] == pytest.approx(0.25 / 3)
    assert summary["mean"]["dice_cell"] == pytest.approx((1 + 0.8) / 2)  # two images have cells
    assert summary["mean"]["mean_dice"] == pytest.approx((1 + (2 / 3 + 0.8) / 2 + 1) / 3)
    assert summary["pooled"]["pixel_error"] == pytest.approx(1 / 11)
    assert summary["confusion"]["pixels"] == [[6, 1], [0, 4]]
    assert summary["pooled"]["iou_cell"] == pytest.approx(4 / 5)


def test_report_agrees_with_the_metrics_of_the_engine(tmp_path: Path) -> None:
    run = Run(1, 1)
    MetricsReport(tmp_path, NAMES).attach(run.evaluator)
    run.trainer.run()
    summary = json.loads((tmp_path / "metrics.json").read_text())
    metrics = run.evaluator.state.metrics
    assert summary["mean"]["mean_dice"] == pytest.approx(metrics["val_mean_dice"], rel=1e-6)
    for name in ("pixel_error", "dice_membrane", "dice_cell", "iou_membrane", "iou_cell"):
        assert summary["mean"][name] == pytest.approx(metrics[f"val_{name}"], rel=1e-6)
    assert summary["annotated_pixels"] == 2 * 31 * 32


def test_report_takes_the_weight_map_of_the_loaded_image(tmp_path: Path) -> None:
    output = _output("0.png", [[0, 1]], [[0, 0]])
    assert _evaluate(tmp_path, [output])["mean"]["pixel_error"] == 0.5
    weights = [{"weight": torch.tensor([[[1.0, 0.0]]])}]
    assert _evaluate(tmp_path, [output], weights)["mean"]["pixel_error"] == 0


def test_equal_file_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    _evaluate(tmp_path, [_output(f"{folder}/0.png", [[0]], [[0]]) for folder in "ab"])
    assert [row["image"] for row in read_csv(tmp_path / "metrics_per_image.csv")] == ["a/0.png", "b/0.png"]


def test_without_images_the_files_say_so(tmp_path: Path) -> None:
    summary = summarise(np.zeros((0, 2, 2), int), NAMES, "test")
    assert summary["images"] == 0
    assert np.isnan(summary["mean"]["mean_dice"])
    assert list(measure(np.zeros((2, 2), int), NAMES)) == list(summary["mean"])


def test_a_wrong_label_is_reported_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a/7.png: label must hold the classes 0 .. 1, got 0 .. 5"):
        _evaluate(tmp_path, [_output("a/7.png", [[0, 0]], [[0, 5]])])


def test_outputs_that_were_not_decollated_are_refused(tmp_path: Path) -> None:
    evaluator = Engine(lambda _, batch: batch)
    MetricsReport(tmp_path, NAMES).attach(evaluator)
    with pytest.raises(ValueError, match="expected a list with one dictionary per image, got dict"):
        evaluator.run([{"pred": torch.zeros(1, 1, 2, 2)}])


def test_a_loss_that_stays_on_its_device_is_the_loss_of_every_item():
    network, kept, losses = nn.Conv2d(1, 2, 1), [], []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(_items(4)), batch_size=2),
        network=network,
        loss_function=MaskedCrossEntropy(),
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        train_handlers=[LossOnDevice()],
    )
    trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: kept.append([o["loss"] for o in e.state.output]))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: kept.append([loss_of(e.state.output)]))
    trainer.run()
    assert [values[0].shape for values in kept] == [(1,), (), (1,), ()]
    assert [float(value) for values in kept for value in values] == [losses[0]] * 3 + [losses[1]] * 3
