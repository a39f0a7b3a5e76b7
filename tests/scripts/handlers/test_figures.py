"""Figures of a training and of an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Activationsd
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from scripts.handlers.figures import EvaluationPanels, SavedPanel, TrainingFigures, panel_arrays
from scripts.handlers.history import HistoryCSV
from scripts.handlers.progress import ProgressBar
from scripts.metrics.pixels import MeanDice, named_metrics
from scripts.plot.overlays import PALETTE
from scripts.plot.panels import figure_pixels, panel_figure
from scripts.settings import ModelSettings, Training, write_weights
from scripts.transforms.objects import instances_from_scores
from tests.scripts.handlers.conftest import NAMES, Run, items


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
        assert panel.size[0] == 1620  # three columns
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


def test_the_panel_shows_the_first_validation_image(tmp_path: Path) -> None:
    run = Run(1, 1, lambda r: [TrainingFigures(tmp_path, r.evaluator, NAMES)])
    outputs: list[dict] = []
    run.evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.extend(engine.state.output))
    run.trainer.run()
    first = {**items(2, seed=1)[0], "pred": outputs[0]["pred"]}
    expected = figure_pixels(panel_figure(**panel_arrays(first, NAMES), title="00.png, epoch 1"))
    assert len(outputs) == 2
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "panel.png").convert("RGB")), expected)


@pytest.mark.parametrize("ours", [True, False], ids=["own weights", "weights of another training"])
def test_at_the_end_the_panel_shows_the_saved_weights_with_their_settings(tmp_path: Path, ours: bool) -> None:
    run = Run(1, 1)
    for item in run.evaluator.data_loader.dataset.data:
        item["reference"] = item["label"].clamp(min=0).int()
    figures = TrainingFigures(tmp_path, run.evaluator, NAMES, objects=True)
    run.trainer.state.run = "this training"
    saved = torch.nn.Conv2d(1, 2, 1)  # other weights than the last ones
    facts = Training(run="this training" if ours else "another", epoch=7)
    write_weights(saved.state_dict(), tmp_path / "model.pt", ModelSettings(threshold=0.6, training=facts))
    softmax = Activationsd(keys="pred", softmax=True)
    SavedPanel(figures, tmp_path / "model.pt", run.network, softmax)(run.trainer)
    assert (tmp_path / "panel.png").is_file() == ours
    if not ours:
        return
    first = dict(run.evaluator.data_loader.dataset[0])
    chance = torch.softmax(saved(first["image"][None])[0].detach(), dim=0)
    first |= {"pred": chance, "pred_instances": torch.as_tensor(instances_from_scores(chance[1].numpy(), 0.6))[None]}
    assert (chance[1] > 0.6).sum() not in (0, (chance[1] > 0.5).sum())
    title = "00.png, saved weights, epoch 7"
    expected = figure_pixels(panel_figure(**panel_arrays(first, NAMES, objects=True), title=title))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "panel.png").convert("RGB")), expected)


def test_a_panel_takes_the_outputs_of_an_engine() -> None:
    prob = torch.tensor([0.2, 0.8]).reshape(2, 1, 1).expand(2, 6, 6)
    label = torch.ones(1, 6, 6)
    image = torch.arange(100.0).reshape(1, 10, 10)
    weight = torch.full((1, 6, 6), 3.0)
    arrays = panel_arrays({"image": image, "label": torch.cat([label, weight]), "pred": prob.bfloat16()}, NAMES)
    assert arrays["image"].shape == (1, 6, 6)
    assert arrays["image"][0, 0, 0] == 22  # the centre of the image: an unpadded network gives a smaller output
    assert (arrays["weight"] == 3).all()
    np.testing.assert_allclose(arrays["probability"], 0.8, rtol=1e-2)
    assert (arrays["prediction"] == 1).all()

    class_map = panel_arrays({"image": image, "label": label, "pred": label, "weight": weight}, NAMES)
    assert class_map["probability"] is None
    assert (class_map["weight"] == 3).all()
    scores = panel_arrays({"image": image, "label": label, "pred": prob * 10 - 5}, NAMES)
    assert scores["probability"] is None


def test_a_panel_of_several_classes_shows_the_probability_of_the_predicted_one() -> None:
    prob = torch.tensor([0.2, 0.3, 0.5]).reshape(3, 1, 1)
    item = {"image": torch.zeros(1, 1, 1), "label": torch.zeros(1, 1, 1), "pred": prob}
    arrays = panel_arrays(item, [*NAMES, "mitochondria"])
    np.testing.assert_allclose(arrays["probability"], 0.5)
    assert arrays["probability_class"] is None


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


def evaluated(name: str, size: int = 24) -> dict[str, torch.Tensor]:
    """Two touching objects, predicted as a single object."""
    cell = torch.zeros(1, size, size)
    cell[:, 4:20, 4:20] = 1
    reference = cell.int()
    reference[:, :, 12:] *= 6  # a colour used nowhere else in the figure
    return {
        "image": MetaTensor(torch.rand(1, size, size), meta={"filename_or_obj": name}),
        "label": cell,
        "weight": torch.ones(1, size, size),
        "pred": torch.cat([1 - cell, cell]),
        "pred_instances": cell.int(),
        "reference": reference,
    }


def drawn(folder: Path, items: list[dict[str, torch.Tensor]], objects: bool) -> list[str]:
    engine = Engine(lambda _engine, batch: [batch])
    EvaluationPanels(folder, ["background", "cell"], objects=objects).attach(engine)
    engine.run(items)
    return sorted(path.name for path in (folder / "panels").iterdir())


def test_every_image_and_every_plane_has_its_panel(tmp_path: Path) -> None:
    assert drawn(
        tmp_path, [evaluated(f"{name}") for name in ("01/t000.tif", "02/t000.tif", "b/stack.tif#page=3")], objects=False
    ) == [
        "02_t000.png",
        "stack_0003.png",
        "t000.png",
    ]
    with Image.open(tmp_path / "panels" / "t000.png") as picture:
        assert picture.format == "PNG"


def test_objects_have_different_colours_unlike_their_class(tmp_path: Path) -> None:
    def shows_a_second_colour(objects: bool) -> bool:
        item = evaluated("t001.tif")
        item["image"] = torch.zeros_like(item["image"])
        item["pred"] = torch.cat([1 - item["label"], item["label"]])  # no error: errors share the colour
        folder = tmp_path / str(objects)
        assert drawn(folder, [item], objects) == ["t001.png"]
        pixels = np.asarray(Image.open(folder / "panels" / "t001.png").convert("RGB")).astype(int)
        second = np.array([int(PALETTE[5][k : k + 2], 16) for k in (1, 3, 5)])
        return bool((np.abs(pixels - second).max(axis=-1) < 10).sum() > 50)

    assert shows_a_second_colour(objects=True)
    assert not shows_a_second_colour(objects=False)
