"""Scores of the ISBI 2012 and Cell Tracking challenges, as functions and as metrics of MONAI engines.

Metrics for `key_val_metric` and `additional_metrics` of an engine:

| name                                | what it returns                                                 |
|-------------------------------------|-----------------------------------------------------------------|
| `MeanDice`, `MeanIoU`, `PixelError` | mean Dice or IoU of the classes; share of wrong pixels          |
| `VRand`, `VInfo`                    | V_Rand or V_Info after thinning, at the best threshold          |
| `SegScore`, `DetScore`              | SEG or DET of the Cell Tracking Challenge                       |
| `InstanceScore`                     | precision, recall, F1 or mean IoU of matching objects           |
| `named_metrics`                     | dictionary of metrics: pixel error, Dice and IoU of every class |
| `key_metric`                        | dictionary with the key metric                                  |

Functions and classes for Python:

| name                                                 | what it returns                                               |
|------------------------------------------------------|---------------------------------------------------------------|
| `confusion_matrix`                                   | number of pixels for every pair of true and predicted class   |
| `dice_per_class`, `iou_per_class`, `pixel_error`     | scores from confusion matrices                                |
| `thinned_curves`, `stack_curves`                     | V_Rand and V_Info over thresholds: of a plane, of a stack     |
| `pooled_counts`, `ThresholdCurve`                    | counts without thinning; scores over thresholds               |
| `WarpingError`, `warping_error`                      | warping error over thresholds                                 |
| `seg_score`, `det_score`, `instance_scores`          | scores of a sequence, from label images                       |
| `seg_jaccards_of`                                    | part of every reference object in SEG                         |
| `det_counts`, `instance_counts_of`                   | counts of one frame, for the scores of a sequence             |
| `seg_from_counts`, `det_from_counts`                 | SEG and DET from counts                                       |
| `instance_scores_from_counts`                        | precision, recall, F1 and mean IoU from counts                |
| `overlaps`, `Overlaps`                               | pixels that the objects of two label images share             |
| `count_mistakes`, `Mistakes`                         | numbers of missed, false, merged and split objects            |
| `agreement`, `Agreement`                             | precision, recall and F-score                                 |
| `object_instability`                                 | change of the objects with the threshold, without a reference |
| `object_table`, `ObjectsCSV`                         | area, shape and grey values of every object: table, CSV file  |
| `image_summary`                                      | number, median area and share of the objects of an image      |
| `cell_regions`, `thin_membrane`                      | label image of the cells: as in the mask, with thin membranes |
| `to_class_map`, `split_target`, `nan_mean`           | class map; label and weight map; mean without NaN             |
| `SegmentationMetric`, `ThinnedScore`, `ObjectMetric` | metrics for MONAI's engines, one number for all images        |
| `ObjectMetricHandler`                                | base class of `SegScore` and `DetScore`                       |
"""

from ..lazy import lazy

_NAMES = {
    "ignite": ["DetScore", "InstanceScore", "ObjectMetric", "ObjectMetricHandler", "SegScore", "key_metric"],
    "membranes": [
        "ThinnedScore",
        "ThresholdCurve",
        "VInfo",
        "VRand",
        "pooled_counts",
        "stack_curves",
        "thinned_curves",
    ],
    "mistakes": ["Mistakes", "count_mistakes"],
    "objects": [
        "det_counts",
        "det_from_counts",
        "det_score",
        "instance_counts_of",
        "instance_scores",
        "instance_scores_from_counts",
        "seg_from_counts",
        "seg_jaccards_of",
        "seg_score",
    ],
    "overlap": ["Agreement", "Overlaps", "agreement", "overlaps"],
    "pixels": [
        "MeanDice",
        "MeanIoU",
        "PixelError",
        "SegmentationMetric",
        "confusion_matrix",
        "dice_per_class",
        "iou_per_class",
        "named_metrics",
        "nan_mean",
        "pixel_error",
        "split_target",
        "to_class_map",
    ],
    "shapes": ["ObjectsCSV", "image_summary", "object_table"],
    "stability": ["object_instability"],
    "thinning": ["cell_regions", "thin_membrane"],
    "warping": ["WarpingError", "warping_error"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
