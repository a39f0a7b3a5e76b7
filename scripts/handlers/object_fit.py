"""Fit the settings of objects to the validation images at the end of a training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Events
from monai.engines import Evaluator, Trainer
from torch import nn

from ..io.arrays import as_array
from ..metrics.membranes import cell_probability
from ..metrics.object_fit import FITTED, MEMBRANES, ObjectFit, enough_images, enough_of_an_image, fit_objects
from ..settings import CHOICES, FittedObjects, ModelSettings, change_settings, read_settings
from .disk import continuing_later
from .saved import predict_saved

logger = logging.getLogger(__name__)

LEAST_OBJECTS = 10  # fewer would fit chance


class FitObjects:
    """Fit threshold, holes, gaps, areas and necks of objects to the validation images, and write them to model.json.

    The weights are those on disk, the best of the training. The measure is the key metric for `seg`, `v_rand` and
    `v_info`, else `instance_f1`. Labels that are classes are left out: they have no single kind of objects.

    Args:
        path: the file of weights, e.g. models/model.pt. Its model.json is changed.
        network: a network of the same kind.
        evaluator: its data set has the images, its inferer predicts.
        probabilities: transform from the scores under "pred" to probabilities.
        settings: of the training.
        given: name of a setting -> its value in the configuration. Values that are not None stay.
        key_metric: name of the key metric.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        evaluator: Evaluator,
        probabilities: Callable[[dict[str, Any]], dict[str, Any]],
        settings: ModelSettings,
        given: Mapping[str, Any],
        key_metric: str = "mean_dice",
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.evaluator = evaluator
        self.probabilities = probabilities
        self.settings = settings
        self.fixed = [name for name, value in given.items() if value is not None]
        self.measure = key_metric if key_metric in ("seg", "v_rand", "v_info") else "instance_f1"

    def attach(self, trainer: Trainer) -> None:
        """Fit when a training has ended. Place the handler after `Interruption`: Ctrl-C ends the fit at once.

        Weights stay whole. If the training is resumed, an interrupted fit is made up for.
        """
        trainer.add_event_handler(Events.COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Fit in the first process, and tell the result. Weights of other trainings, and fitted ones, stay."""
        if idist.get_rank() > 0 or not self._is_due(trainer):
            return
        items, references = self._validation_images()
        objects = sum(len(np.unique(reference[reference > 0])) for reference in references)
        if objects < LEAST_OBJECTS:
            logger.info(
                f"objects: the settings stay as they are. {objects} objects in the validation images "
                f"({len(items)}) are too few to fit to, expected at least {LEAST_OBJECTS}"
            )
            return
        logger.info(f"fitting the settings of objects to the validation images, by {self.measure}")
        chosen = enough_images(references)
        parts = [enough_of_an_image(references[k]) for k in chosen]
        probabilities = [p[part] for p, part in zip(self._predict([items[k] for k in chosen]), parts, strict=True)]
        examples = probabilities, [references[k][part] for k, part in zip(chosen, parts, strict=True)]
        start = self.settings.model_dump(include=set(CHOICES) - {"intensity", "flatten"})
        least_gap = self.settings.separation_gap if self.settings.label_kind == "instances" else 0
        fit = fit_objects(*examples, start, self.measure, self.fixed, least_gap)
        if fit.after > 0:
            self._write(fit)
        else:
            logger.warning(
                f"objects: the settings stay as they are. {fit.measure} is {fit.after:g} with all settings tried"
            )

    def _is_due(self, trainer: Any) -> bool:
        """Whether a setting is free, and the weights on disk are of this training and not fitted yet."""
        names = FITTED if self.measure not in MEMBRANES else ("threshold",)
        if self.settings.label_kind == "classes" or set(names) <= set(self.fixed) or not self.path.is_file():
            return False
        known = read_settings(self.path)
        return known is not None and known.training.run == trainer.state.run and known.training.fitted is None

    def _validation_images(self) -> tuple[list[Mapping[str, Any]], list[np.ndarray]]:
        """All items of the validation, and their labelled objects (H, W)."""
        evaluator: Any = self.evaluator  # MONAI does not declare its attributes
        items = list(evaluator.data_loader.dataset or ())
        return items, [as_array(item["reference"])[0] for item in items]

    def _write(self, fit: ObjectFit) -> None:
        """Write the fitted settings to model.json, and tell them."""
        facts = FittedObjects(**{name: getattr(fit, name) for name in FittedObjects.model_fields})
        with continuing_later(self.path):
            change_settings(self.path, fitted=facts, **fit.settings)
        found = ", ".join(f"{name} {value:g}" for name, value in fit.settings.items())
        told = f"{fit.measure} {fit.before:.3f} before, {fit.after:.3f} now"
        if fit.measure == "instance_f1" and fit.searched is not None:
            told = f"F1 over the IoU .5 to .9 {fit.searched[0]:.3f} before, {fit.searched[1]:.3f} now; {told}"
            told += ": lower, since the fit searches the mean over IoU .5 to .9" if fit.after < fit.before else ""
        logger.info(f"objects fitted to the validation images ({fit.images}): {found}")
        logger.info(told)

    def _predict(self, items: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """Predict images with the weights on disk. Gives probabilities (H, W)."""
        found = predict_saved(self.path, self.network, self.evaluator, self.probabilities, items)
        return [cell_probability(as_array(result["pred"]), 1) for result in found]
