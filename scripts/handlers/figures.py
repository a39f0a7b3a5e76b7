"""Pictures of a training in progress and of an evaluation.

A training has curves and one validation image beside the prediction. An evaluation has a picture of every image: label,
prediction, and where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.engines import Evaluator, Trainer
from torch.utils.tensorboard import SummaryWriter

from scripts.data.items import source_of
from scripts.engines import engine_items
from scripts.handlers.history import read_history
from scripts.handlers.tracking import log_picture
from scripts.io.arrays import as_array
from scripts.io.names import ResultNames
from scripts.metrics.pixels import confusion_matrix, pixel_error, split_target, to_class_map
from scripts.networks.geometry import center_crop
from scripts.plot.panels import curves_figure, figure_pixels, panel_figure, save_figure


class TrainingFigures:
    """Renew `curves.png` and `panel.png` with every validation; to TensorBoard and MLflow too, where they are used.

    The curves come from `history.csv` beside them (`scripts.handlers.HistoryCSV`), drawn when the epoch is over and its
    row complete. The panel shows image, label, weight map, probability, prediction and error of one validation image.

    Args:
        output_dir: where the figures are written, and `history.csv` is looked for.
        evaluator: whose images are shown.
        class_names: names of the classes 0 .. K - 1.
        pick: "first": always the first image, to see it change; "worst": the one with the largest pixel error.
        probability_class: the class whose probability is shown; None: of two classes the second, of more of them, in
            every pixel, the predicted one.
        writer: of TensorBoard's events; None: none.
        keys: of image, label, prediction (scores, probabilities or class map), probabilities and weight map. The
            last two may be missing: probabilities are then taken from a prediction with several channels.
    """

    def __init__(
        self,
        output_dir: str | Path,
        evaluator: Evaluator,
        class_names: Sequence[str],
        pick: str = "first",
        probability_class: int | None = None,
        writer: SummaryWriter | None = None,
        keys: Sequence[str] = ("image", "label", "pred", "prob", "weight"),
    ) -> None:
        if pick not in ("first", "worst"):
            raise ValueError(f'pick must be "first" or "worst", got {pick!r}')
        self.output_dir = Path(output_dir)
        self.evaluator = evaluator
        self.class_names = list(class_names)
        self.pick = pick
        self.probability_class = 1 if probability_class is None and len(self.class_names) == 2 else probability_class
        self.writer = writer
        self.keys = tuple(keys)
        self._picked: tuple[float, dict[str, np.ndarray | None], str] | None = None
        self._validated = False

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer and its validations; only the first of several processes draws."""
        if idist.get_rank() != 0:
            return
        self.evaluator.add_event_handler(Events.STARTED, self._forget)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._look)
        self.evaluator.add_event_handler(Events.COMPLETED, self._draw_panel, trainer)
        # only when all handlers of the end of an epoch have run is its row of the history sure to be complete
        trainer.add_event_handler(Events.EPOCH_STARTED, self._draw_curves)
        trainer.add_event_handler(Events.COMPLETED, self._draw_curves)

    def _forget(self, _: Engine) -> None:
        self._picked = None

    def _look(self, evaluator: Engine) -> None:
        if self._picked is not None and self.pick == "first":
            return
        for item in engine_items(evaluator):
            arrays = panel_arrays(item, self.keys, self.probability_class)
            error = _error_of(arrays, len(self.class_names))
            if self._picked is None or (self.pick == "worst" and error > self._picked[0]):
                self._picked = (error, arrays, Path(source_of(item, self.keys[0])).name)

    def _draw_panel(self, evaluator: Engine, trainer: Engine) -> None:
        self._validated = True
        if self._picked is None:
            return
        _, arrays, name = self._picked
        epoch = trainer.state.epoch
        names = {"class_names": self.class_names, "probability_class": self.probability_class}
        figure = panel_figure(**arrays, **names, title=f"{name}, epoch {epoch}".lstrip(", "))  # type: ignore[arg-type]
        self._publish("panel", figure, trainer, epoch)

    def _draw_curves(self, trainer: Engine) -> None:
        history = self.output_dir / "history.csv"
        if not self._validated or not history.is_file():
            return
        self._validated = False
        rows = read_history(history)
        last = int(rows[-1]["epoch"] or 0) if rows else 0
        self._publish("curves", curves_figure(rows), trainer, last)

    def _publish(self, name: str, figure: Figure, trainer: Engine, epoch: int) -> None:
        path = self.output_dir / f"{name}.png"
        save_figure(figure, path)
        if self.writer is not None:
            self.writer.add_image(name, figure_pixels(figure), epoch, dataformats="HWC")
            self.writer.flush()
        log_picture(trainer, path, epoch)


def panel_arrays(
    item: Mapping[str, Any], keys: Sequence[str], probability_class: int | None
) -> dict[str, np.ndarray | None]:
    """What `panel_figure` takes, from one decollated image.

    Args:
        item: image (C, H, W), label (1, H, W) or (2, H, W) with the weight map stacked on it, prediction (K, H, W) or
            (1, H, W), and where present probabilities (K, H, W) and weight map (1, H, W). A label smaller than its
            image, as an unpadded network leaves it, belongs to the centre.
        keys: of image, label, prediction, probabilities, weight map.
        probability_class: channel of the probabilities; None: the highest in every pixel.
    """
    image, label, pred = (torch.as_tensor(as_array(item[key])) for key in keys[:3])
    image = center_crop(image[None], list(label.shape[1:]))[0]
    truth, weight = split_target(label.numpy())
    if weight is None and keys[4] in item:
        weight = as_array(item[keys[4]])[0]
    scores = as_array(item[keys[3]]) if keys[3] in item else pred.numpy()
    if probability_class is None:
        shown = scores.max(axis=0)
    else:
        shown = scores[probability_class] if scores.shape[0] > probability_class else scores[0]
    is_probability = keys[3] in item or (scores.shape[0] > 1 and scores.min() >= 0 and scores.max() <= 1)
    return {
        "image": image.numpy(),
        "label": truth.astype(np.int64),
        "weight": weight if weight is not None and weight.shape == truth.shape else None,
        "probability": shown if is_probability else None,
        "prediction": to_class_map(pred.numpy()).astype(np.int64),
    }


def _error_of(arrays: Mapping[str, np.ndarray | None], num_classes: int) -> float:
    prediction, label = arrays["prediction"], arrays["label"]
    if prediction is None or label is None:
        return float("nan")
    return float(pixel_error(confusion_matrix(prediction, label, num_classes, arrays["weight"])))


class EvaluationPanels:
    """Write `<output_dir>/panels/<name>.png` for every image: image, label, probability, prediction, error.

    Args:
        output_dir: where the folder goes.
        class_names: names of the classes 0 .. K - 1. With more than two the panel shows the probability of the class
            predicted, else that of class 1.
        objects: show objects, a colour each, in place of classes: `reference_key` beside `instances_key`.
        instances_key: predicted label image (1, H, W).
        reference_key: reference label image (1, H, W).
        image_key: whose metadata tell the file name.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        objects: bool = False,
        instances_key: str = "pred_instances",
        reference_key: str = "reference",
        image_key: str = "image",
    ) -> None:
        self.folder = Path(output_dir) / "panels"
        self.class_names = list(class_names)
        self.objects = objects
        self.instances_key = instances_key
        self.reference_key = reference_key
        self.image_key = image_key
        self._names = ResultNames()

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, evaluator: Engine) -> None:
        """Draw the images of this iteration."""
        shown_class = 1 if len(self.class_names) == 2 else None
        for item in engine_items(evaluator):
            name = self._names.of(source_of(item, self.image_key) or f"image_{evaluator.state.iteration:04d}")
            arrays = panel_arrays(item, (self.image_key, "label", "pred", "pred", "weight"), shown_class)
            sides = (self.reference_key, self.instances_key) if self.objects else ()
            maps = tuple(as_array(item[key])[0].clip(0).astype(int) for key in sides)
            figure = panel_figure(
                **arrays,  # type: ignore[arg-type]  # image and label are always there
                class_names=self.class_names,
                probability_class=shown_class,
                title=name,
                objects=(maps[0], maps[1]) if maps else None,
            )
            save_figure(figure, self.folder / f"{name}.png")
