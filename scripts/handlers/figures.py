"""Draw pictures of a training (curves, one validation image) and of an evaluation (every image)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.engines import Evaluator, Trainer
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from ..data.items import source_of
from ..engines import data_files, engine_items
from ..io.arrays import as_array
from ..io.names import ResultNames
from ..metrics.pixels import split_target, to_class_map
from ..networks.geometry import center_crop
from ..plot.panels import curves_figure, panel_figure, save_figure
from ..settings import read_settings
from ..transforms.objects import InstancesFromScoresd
from .history import read_history
from .saved import predict_saved
from .tracking import log_picture


class TrainingFigures:
    """Update `curves.png` and `panel.png` with every validation, also in TensorBoard and MLflow if used.

    The curves show `history.csv` from the same folder (`scripts.handlers.HistoryCSV`) and are drawn after the epoch.
    The panel shows image, label, weight map, probability, prediction and error of the first validation image. Only the
    first of several processes draws.

    List `SavedPanel` at the end, so that the last panel shows the saved weights.

    Args:
        output_dir: folder of the figures and of `history.csv`.
        evaluator: source of the validation images.
        class_names: names of the classes 0 to K - 1. With two classes, the panel shows the probability of class 1.
            With more, it shows the probability of the predicted class.
        writer: TensorBoard's writer. None: no TensorBoard.
        objects: draw instances, a colour each, as in `EvaluationPanels`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        evaluator: Evaluator,
        class_names: Sequence[str],
        writer: SummaryWriter | None = None,
        objects: bool = False,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.evaluator = evaluator
        self.class_names = list(class_names)
        self.writer = writer
        self.objects = objects
        self._validated = False

    def attach(self, trainer: Trainer) -> None:
        """Follow a trainer and its validations."""
        if idist.get_rank() != 0:
            return
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=1), self._draw_panel, trainer)
        self.evaluator.add_event_handler(Events.COMPLETED, self._validation_completed)
        # the row of an epoch is complete when all handlers of EPOCH_COMPLETED have run
        trainer.add_event_handler(Events.EPOCH_STARTED, self._draw_curves)
        trainer.add_event_handler(Events.COMPLETED, self._draw_curves)

    def _draw_panel(self, evaluator: Engine, trainer: Engine) -> None:
        item, epoch = engine_items(evaluator)[0], trainer.state.epoch
        title = f"{Path(source_of(item)).name}, epoch {epoch}".lstrip(", ")
        self.draw_panel(item, title, trainer)

    def draw_panel(self, item: Mapping[str, Any], title: str, trainer: Engine, tag: str = "panel") -> None:
        """Write `panel.png`, and send the panel to TensorBoard and MLflow under a name.

        Args:
            item: as in `panel_arrays`.
            title: line above the panel.
            trainer: with the epoch.
            tag: name in TensorBoard and MLflow.
        """
        figure = panel_figure(**panel_arrays(item, self.class_names, self.objects), title=title)
        self._publish("panel", figure, trainer, trainer.state.epoch, tag)

    def _validation_completed(self, _: Engine) -> None:
        self._validated = True

    def _draw_curves(self, trainer: Engine) -> None:
        history = self.output_dir / "history.csv"
        if not self._validated or not history.is_file():
            return
        self._validated = False
        rows = read_history(history)
        last = int(rows[-1]["epoch"] or 0) if rows else 0
        self._publish("curves", curves_figure(rows), trainer, last, "curves")

    def _publish(self, name: str, figure: Figure, trainer: Engine, epoch: int, tag: str) -> None:
        path = self.output_dir / f"{name}.png"
        pixels = save_figure(figure, path)
        if self.writer is not None:
            self.writer.add_image(tag, pixels, epoch, dataformats="HWC")
            self.writer.flush()
        log_picture(trainer, path, epoch, tag)


class SavedPanel:
    """Draw `panel.png` once more when a training has ended: with the saved weights and settings, as users get them.

    The weights of the best validation are often not those of the last epoch, and `FitObjects` changes the settings of
    objects. Weights of another training are not drawn. Only the first of several processes draws.

    Args:
        figures: draws the panel, and knows the validation images.
        path: the file of weights, e.g. models/model.pt.
        network: a network of the same kind.
        probabilities: transform from the scores under "pred" to probabilities.
    """

    def __init__(
        self,
        figures: TrainingFigures,
        path: str | Path,
        network: nn.Module,
        probabilities: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self.figures = figures
        self.path = Path(path)
        self.network = network
        self.probabilities = probabilities

    def attach(self, trainer: Trainer) -> None:
        """Draw when a training has ended. Place the handler after `FitObjects`."""
        trainer.add_event_handler(Events.COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Draw the first validation image."""
        evaluator: Any = self.figures.evaluator  # MONAI does not declare its attributes
        if idist.get_rank() != 0 or not self.path.is_file() or not len(evaluator.data_loader.dataset):
            return
        known = read_settings(self.path)
        if known is None or known.training.run != trainer.state.run:
            return
        items = [evaluator.data_loader.dataset[0]]
        (item,) = predict_saved(self.path, self.network, evaluator, self.probabilities, items)
        if self.figures.objects:
            names = {"split": "split_necks", "gap": "close_gaps"}
            same = ("threshold", "min_area", "fill_holes", "field_border")
            options = {name: getattr(known, names.get(name, name)) for name in (*same, *names)}
            item = InstancesFromScoresd("pred", "pred_instances", **options)(item)
        title = f"{Path(source_of(item)).name}, saved weights, epoch {known.training.epoch}".lstrip(", ")
        self.figures.draw_panel(item, title, trainer, tag="panel_saved")


def panel_arrays(item: Mapping[str, Any], class_names: Sequence[str], objects: bool = False) -> dict[str, Any]:
    """Collect the arguments of `panel_figure` from an item of an engine.

    Args:
        item: `image` (C, H, W); `label`, (1, H, W) or stacked with the weight map (2, H, W); `pred`, class map
            (1, H, W), scores or probabilities (K, H, W); optionally `weight` (1, H, W). The image is cropped to the
            size of the label, in the centre, since an unpadded network has a smaller output.
        class_names: names of the classes 0 to K - 1.
        objects: add the instances, from `reference` and `pred_instances`, both (1, H, W).

    Returns:
        Arguments of `scripts.plot.panel_figure`. `probability` is None unless `pred` has several channels in [0, 1].

    Example:
        >>> pred = torch.tensor([0.2, 0.8]).reshape(2, 1, 1)
        >>> item = {"image": torch.zeros(1, 1, 1), "label": torch.ones(1, 1, 1), "pred": pred}
        >>> panel_arrays(item, ["membrane", "cell"])["prediction"]
        array([[1]])
    """
    image, label, pred = (torch.as_tensor(as_array(item[key])) for key in ("image", "label", "pred"))
    image = center_crop(image[None], list(label.shape[1:]))[0]
    truth, weight = split_target(label.numpy())
    if weight is None and "weight" in item:
        weight = as_array(item["weight"])[0]
    scores = pred.numpy()
    shown_class = 1 if len(class_names) == 2 else None
    is_probability = len(scores) > 1 and scores.min() >= 0 and scores.max() <= 1
    shown = scores.max(axis=0) if shown_class is None or not is_probability else scores[shown_class]
    maps = [as_array(item[key])[0].clip(0).astype(int) for key in ("reference", "pred_instances")] if objects else []
    return {
        "image": image.numpy(),
        "label": truth.astype(np.int64),
        "weight": weight if weight is not None and weight.shape == truth.shape else None,
        "probability": shown if is_probability else None,
        "prediction": to_class_map(scores).astype(np.int64),
        "class_names": class_names,
        "probability_class": shown_class,
        "objects": (maps[0], maps[1]) if objects else None,
    }


class EvaluationPanels:
    """Write `<output_dir>/panels/<name>.png` for every image: image, label, probability, prediction, error.

    Args:
        output_dir: parent of the folder `panels`.
        class_names: as in `TrainingFigures`.
        objects: draw instances instead of classes: `reference` and `pred_instances`, both (1, H, W).
    """

    def __init__(self, output_dir: str | Path, class_names: Sequence[str], objects: bool = False) -> None:
        self.folder = Path(output_dir) / "panels"
        self.class_names = list(class_names)
        self.objects = objects
        self._names = ResultNames()

    def attach(self, evaluator: Engine) -> None:
        """Follow an evaluator."""
        evaluator.add_event_handler(Events.STARTED, self._start)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self)

    def _start(self, evaluator: Engine) -> None:
        self._names = ResultNames(data_files(evaluator)[0])

    def __call__(self, evaluator: Engine) -> None:
        """Draw the images of this iteration."""
        for item in engine_items(evaluator):
            name = self._names.of(source_of(item) or f"image_{evaluator.state.iteration:04d}")
            arrays = panel_arrays(item, self.class_names, self.objects)
            save_figure(panel_figure(**arrays, title=name), self.folder / f"{name}.png")
