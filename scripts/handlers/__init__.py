"""Handlers for MONAI's engines. In a configuration, list them as `{_target_: scripts.handlers.<name>, ...}`.

| name                | attached to | effect                                                                      |
|---------------------|-------------|-----------------------------------------------------------------------------|
| `ProgressBar`       | any engine  | shows progress, running loss and remaining time: a bar, or lines in a log   |
| `HistoryCSV`        | trainer     | writes `history.csv`, a row per epoch                                       |
| `TrainingFigures`   | trainer     | writes `curves.png` and `panel.png` at every validation                     |
| `MetricsReport`     | evaluator   | writes `metrics_per_image.csv` and `metrics.json`                           |
| `EmReport`          | evaluator   | writes the EM challenge's metrics and `threshold_curves.png`                |
| `ObjectReport`      | evaluator   | writes SEG, DET and instance scores, and `object_iou.png`                   |
| `EvaluationPanels`  | evaluator   | writes `panels/<name>.png`: label, probability, prediction, error           |
| `SegmentationSaver` | evaluator   | writes class maps, probabilities, instances, overlays and `objects.csv`     |
| `RunSettings`       | any engine  | sends the configuration as run to TensorBoard and MLflow                    |
| `RunFiles`          | evaluator   | sends the files of an evaluation to MLflow                                  |
| `LoadWeights`       | any engine  | loads weights at the start, or stops with an error                          |
| `BestWeights`       | trainer     | saves the weights of the best validation; early stopping                    |
| `TrainingState`     | trainer     | saves everything needed to resume a training                                |
| `Validation`        | trainer     | validates at intervals and after the last epoch                             |
| `ClipGradients`     | trainer     | limits the norm of the gradients                                            |
| `StopOnDivergence`  | trainer     | ends a training when the loss is NaN or infinite                            |
| `EndProcesses`      | trainer     | ends the data loader's processes with the training                          |
| `LossOnDevice`      | trainer     | keeps the loss on the GPU, so that no step waits for it                     |
| `TimeLimit`         | trainer     | ends a training after a number of minutes, with its learning-rate schedule  |
| `MovingAverage`     | trainer     | averages the weights in a second network                                    |
| `Attached`          | any engine  | lists a handler that other parts of a configuration refer to                |
"""

from scripts.lazy import lazy

_MODULES = {
    "Attached": "training",
    "Background": "segmentation",
    "BestWeights": "checkpoints",
    "ClipGradients": "training",
    "EmReport": "em_report",
    "EndProcesses": "training",
    "EvaluationPanels": "figures",
    "HistoryCSV": "history",
    "ImageReport": "reports",
    "ImageResults": "segmentation",
    "LoadWeights": "checkpoints",
    "LossOnDevice": "progress",
    "MetricsReport": "reports",
    "MovingAverage": "training",
    "ObjectReport": "object_report",
    "ProgressBar": "progress",
    "RunFiles": "tracking",
    "RunSettings": "tracking",
    "SegmentationSaver": "segmentation",
    "StopOnDivergence": "training",
    "TimeLimit": "time_limit",
    "TrainingFigures": "figures",
    "TrainingState": "checkpoints",
    "Validation": "training",
    "WarmupCosineSchedule": "training",
    "load_weights": "checkpoints",
    "loss_of": "progress",
    "read_history": "history",
}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
