"""Fit the settings of objects to the validation images at the end of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Evaluator, Trainer
from torch import nn

from ..io.arrays import as_array
from ..metrics.membranes import cell_probability
from ..metrics.object_fit import enough_images, fit_objects
from ..settings import CHOICES, FittedObjects, ModelSettings, change_settings, settings_path
from .checkpoints import bare, load_weights
from .disk import continuing_later


class FitObjects:
    """Fit threshold, gaps, areas, necks and border of objects to the validation images, and write them to model.json.

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
        self.trained = False  # whether this run made a step
        self.measure = key_metric if key_metric in ("seg", "v_rand", "v_info") else "instance_f1"

    def attach(self, trainer: Trainer) -> None:
        """Fit when a training has ended. Place the handler last: Ctrl-C then ends the fit, and the weights stay."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), self._begin)
        trainer.add_event_handler(Events.COMPLETED, self)

    def _begin(self, _: Trainer) -> None:
        self.trained = True

    def __call__(self, trainer: Trainer) -> None:
        """Fit in the first process, and tell the result."""
        if not self.trained or idist.get_rank() > 0 or self.settings.label_kind == "classes":
            return
        start = self.settings.model_dump(include=set(CHOICES) - {"intensity", "flatten"})
        trainer.logger.info(f"fitting the settings of objects to the validation images, by {self.measure}")
        fit = fit_objects(*self._predict(), start, self.measure, self.fixed)
        if not fit.after > 0:
            why = "have no object" if math.isnan(fit.after) else f"give {fit.measure} 0 with any settings"
            trainer.logger.warning(f"the validation images {why}: the settings of objects stay as they are")
            return
        facts = FittedObjects(**{name: getattr(fit, name) for name in FittedObjects.model_fields})
        with continuing_later(self.path):
            change_settings(self.path, fitted=facts, **fit.settings)
        found = ", ".join(f"{name} {value:g}" for name, value in fit.settings.items())
        trainer.logger.info(
            f"objects fitted to the validation images ({fit.images}): {found}. "
            f"{fit.measure} {fit.before:.3f} before, {fit.after:.3f} now. In {settings_path(self.path)}"
        )

    def _predict(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Predict the validation images with the weights on disk. Gives probabilities and labelled objects."""
        network = deepcopy(bare(self.network)).eval()
        load_weights(network, self.path)
        evaluator: Any = self.evaluator  # MONAI does not declare its attributes
        items = list(evaluator.data_loader.dataset)
        references = [as_array(item["reference"])[0] for item in items]
        probabilities, chosen = [], enough_images(references)
        with torch.inference_mode():
            for item in (items[k] for k in chosen):
                scores = evaluator.inferer(item["image"][None].to(evaluator.state.device), network)[0]
                item = self.probabilities({**item, "pred": scores})
                probabilities.append(cell_probability(as_array(item["pred"]), 1))
        return probabilities, [references[k] for k in chosen]
