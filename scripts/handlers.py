"""The handlers that a configuration names, each a literal `{_target_: scripts.handlers.<name>, ...}` in a list.

| name                | attached to | does                                                                      |
|---------------------|-------------|---------------------------------------------------------------------------|
| `ProgressBar`       | any engine  | a bar with running loss and time left, or lines in a log                   |
| `HistoryCSV`        | trainer     | `history.csv`: a row per epoch                                            |
| `TrainingFigures`   | trainer     | `curves.png`, `panel.png`, with every validation                          |
| `MetricsReport`     | evaluator   | `metrics_per_image.csv`, `metrics.json`                                   |
| `EmReport`          | evaluator   | the EM challenge's measures per slice and in all, `threshold_curves.png`  |
| `ObjectReport`      | evaluator   | SEG, DET, instance scores per object, image and in all, `object_iou.png`  |
| `EvaluationPanels`  | evaluator   | `panels/<name>.png`: label, probability, prediction and error of an image  |
| `SegmentationSaver` | evaluator   | class maps, probabilities, instances, overlays, `objects.csv`             |
| `RunSettings`       | any engine  | the configuration as run, to TensorBoard and MLflow                       |
| `RunFiles`          | evaluator   | what an evaluation has written, to MLflow                                 |
| `TimeLimit`         | trainer     | ends a training after so many minutes, its learning rate with it          |
| `MovingAverage`     | trainer     | a moving average of the weights, in a network of its own                  |
| `Attached`          | any engine  | a handler that other parts of a configuration refer to                    |
"""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine

from scripts.averaging import MovingAverage
from scripts.em_report import EmReport
from scripts.evaluation_panels import EvaluationPanels
from scripts.history import HistoryCSV
from scripts.object_report import ObjectReport
from scripts.progress import ProgressBar
from scripts.reports import MetricsReport
from scripts.savers import SegmentationSaver
from scripts.time_limit import TimeLimit
from scripts.tracking import RunFiles, RunSettings
from scripts.training_figures import TrainingFigures


class Attached:
    """Attach a handler that stands under a name of its own, so that other parts of a configuration can refer to it.

    MONAI looks at the list of handlers entry by entry, and wants a mapping for each.

    Args:
        handler: has a method `attach`.
    """

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def attach(self, engine: Engine) -> None:
        """Attach the handler to an engine."""
        self.handler.attach(engine)


__all__ = [
    "Attached",
    "EmReport",
    "EvaluationPanels",
    "HistoryCSV",
    "MetricsReport",
    "MovingAverage",
    "ObjectReport",
    "ProgressBar",
    "RunFiles",
    "RunSettings",
    "SegmentationSaver",
    "TimeLimit",
    "TrainingFigures",
]
