"""Handlers for MONAI's engines. In a configuration, list them as `{_target_: scripts.handlers.<name>, ...}`.

| name                | attached to | effect                                                                     |
|---------------------|-------------|----------------------------------------------------------------------------|
| `ProgressBar`       | any engine  | shows progress, scores and remaining time, live and in lines that stay     |
| `LogFile`           | any engine  | writes all messages to `run.log`                                           |
| `HistoryCSV`        | trainer     | writes `history.csv`, a row per epoch                                      |
| `TrainingFigures`   | trainer     | writes `curves.png` and `panel.png` at every validation                    |
| `MetricsReport`     | evaluator   | writes `metrics_per_image.csv` and `metrics.json`                          |
| `EmReport`          | evaluator   | writes the EM challenge's metrics and `threshold_curves.png`               |
| `ObjectReport`      | evaluator   | writes SEG, DET and instance scores, and `object_iou.png`                  |
| `EvaluationPanels`  | evaluator   | writes `panels/<name>.png`: label, probability, prediction, error          |
| `GuardFolder`       | any engine  | locks a folder, and refuses to replace the run's images and labels         |
| `SegmentationSaver` | evaluator   | writes class maps, probabilities, instances, overlays and tables           |
| `ImageRanking`      | evaluator   | sorts images by what is most worth annotating, in `ranking.csv`            |
| `RunSettings`       | any engine  | sends the configuration as run to TensorBoard and MLflow                   |
| `RunFile`           | any engine  | writes `run.json`: command, settings, data, versions, machine, time        |
| `RunFiles`          | evaluator   | sends the files of an evaluation to MLflow                                 |
| `LoadWeights`       | any engine  | loads weights at the start, or stops with an error                         |
| `BestWeights`       | trainer     | saves the weights of the best validation; early stopping                   |
| `FitObjects`        | trainer     | fits the settings of objects to the validation images, at the end          |
| `SavedPanel`        | trainer     | draws `panel.png` with saved weights and fitted settings, at the end        |
| `Outcome`           | trainer     | warns at the end if the weights find nothing in the validation images      |
| `SelectionNote`     | evaluator   | tells at the end that the images also chose the weights                    |
| `TrainingState`     | trainer     | saves everything needed to resume a training                               |
| `ResumeTraining`    | trainer     | continues from a saved state                                               |
| `Interruption`      | trainer     | after Ctrl-C or SIGTERM, ends the step, saves the state, then stops        |
| `SeedSteps`         | trainer     | seeds each step, so that a resumed training draws the same numbers         |
| `TrainingFolders`   | trainer     | reserves the folders, moves an earlier training aside                      |
| `Validation`        | trainer     | validates at intervals and after the last epoch                            |
| `ClipGradients`     | trainer     | limits the norm of the gradients                                           |
| `StopOnDivergence`  | trainer     | ends a training when the loss is NaN or infinite                           |
| `EndProcesses`      | trainer     | ends the data loader's processes with the training                         |
| `LossOnDevice`      | trainer     | keeps the loss on the GPU, so that no step waits for it                    |
| `WatchRanks`        | any engine  | ends all processes of a run soon after one was killed, and names it        |
| `TimeLimit`         | trainer     | ends a training after a number of minutes, with its learning-rate schedule |
| `MovingAverage`     | trainer     | averages the weights in a second network                                   |
| `Attached`          | any engine  | lists a handler that other parts of a configuration refer to               |

Other names, for Python and for other keys of a configuration:

| other name             | what it is or does                                                       |
|------------------------|--------------------------------------------------------------------------|
| `WarmupCosineSchedule` | learning-rate schedule: linear warm-up, then cosine decay                |
| `ImageReport`          | base class of the reports: measures every image, writes files at the end |
| `ImageResults`         | results of one image, as `SegmentationSaver` writes them                 |
| `Background`           | runs one job at a time in a second thread                                |
| `result_settings`      | lists what decides the results of a run, for `skip_finished`             |
| `TrainingRecord`       | what a training computes, to compare a resumed training                  |
| `check_state_file`     | refuses to resume without a file of the state                            |
| `read_state`           | reads a training's state from a file                                     |
| `end_on_signals`       | ends a run at SIGTERM as at Ctrl-C                                       |
| `Interrupted`          | exception: a signal ended the run                                        |
| `at_error`             | calls a function when a run ends by an error                             |
| `load_weights`         | loads all weights of a network from a file                               |
| `read_history`         | reads `history.csv` as numbers                                           |
| `nothing_found`        | checks whether the best weights of a training find nothing               |
| `loss_of`              | gets the loss from the output of a trainer                               |
"""

from ..lazy import lazy

_NAMES = {
    "checkpoints": ["BestWeights", "LoadWeights", "load_weights"],
    "em_report": ["EmReport"],
    "figures": ["EvaluationPanels", "SavedPanel", "TrainingFigures"],
    "guard": ["GuardFolder"],
    "folders": ["TrainingFolders"],
    "history": ["HistoryCSV", "read_history"],
    "log_file": ["LogFile"],
    "interruption": ["Interrupted", "Interruption", "at_error", "end_on_signals"],
    "object_fit": ["FitObjects"],
    "object_report": ["ObjectReport"],
    "outcome": ["Outcome", "SelectionNote", "nothing_found"],
    "progress": ["LossOnDevice", "ProgressBar", "loss_of"],
    "ranking": ["ImageRanking"],
    "reports": ["ImageReport", "MetricsReport"],
    "resuming": ["ResumeTraining", "SeedSteps", "TrainingRecord", "TrainingState", "read_state"],
    "run_file": ["RunFile"],
    "segmentation": ["Background", "ImageResults", "SegmentationSaver"],
    "state_file": ["check_state_file"],
    "time_limit": ["TimeLimit"],
    "tracking": ["RunFiles", "RunSettings", "result_settings"],
    "training": [
        "Attached",
        "ClipGradients",
        "EndProcesses",
        "MovingAverage",
        "StopOnDivergence",
        "Validation",
        "WarmupCosineSchedule",
    ],
    "watch_ranks": ["WatchRanks"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
