"""What listens to an engine; in a configuration a literal `{_target_: scripts.handlers.<name>, ...}` in a list.

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
| `LoadWeights`       | any engine  | loads weights at the start, or refuses them                               |
| `BestWeights`       | trainer     | the weights of the best validation                                        |
| `TrainingState`     | trainer     | all that a training needs to go on after an interruption                  |
| `Validation`        | trainer     | validates at intervals, and after the last epoch                          |
| `ClipGradients`     | trainer     | gradients of at most a given norm                                         |
| `StopOnDivergence`  | trainer     | ends a training whose loss is no longer a number                          |
| `EndProcesses`      | trainer     | ends the processes of the data loader with the training                   |
| `LossOnDevice`      | trainer     | keeps the loss on its device, so that no step waits for the GPU           |
| `TimeLimit`         | trainer     | ends a training after so many minutes, its learning rate with it          |
| `MovingAverage`     | trainer     | a moving average of the weights, in a network of its own                  |
| `Attached`          | any engine  | a handler that other parts of a configuration refer to                    |
"""

from scripts.lazy import lazy

_MODULES = {
    "Attached": "attached",
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
