"""Scores of the ISBI 2012 and Cell Tracking challenges, as functions and as metrics of MONAI engines."""

from scripts.lazy import lazy

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
    "shapes": ["ObjectsCSV", "object_table"],
    "thinning": ["cell_regions", "thin_membrane"],
    "warping": ["WarpingError", "warping_error"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__ = lazy(__name__, _NAMES)
