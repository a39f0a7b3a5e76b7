"""Scores of the ISBI 2012 EM challenge for a membrane probability map, over thresholds, as functions and as metrics.

Every plane is measured by itself, with cells as 1 and membrane as 0. For V_Rand and V_Info the proposal is thresholded
and thinned. The score is the mean over planes at the best threshold. The older Rand error and pixel error use no
thinning and add up the pairs or pixels of all planes before the F-score. The warping error is in
`scripts.metrics.warping`.

References:
    I. Arganda-Carreras et al., Front. Neuroanat. 9:142, 2015, doi 10.3389/fnana.2015.00142. Special cases are those of
    the challenge's program, Fiji's Trainable Segmentation (`RandError`, `VariationOfInformation`, `PixelError`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.handlers import from_engine
from scipy import sparse
from skimage.measure import label as connected_components

from ..data.annotation import annotated_pixels
from ..io.arrays import as_array
from .images import ImageMetric, ImageMetricHandler
from .overlap import Agreement, agreement, overlap_table, rand_pairs, v_info, v_rand
from .pixels import nan_mean, split_target
from .thinning import cell_regions, thin_membrane

# adding up 0.1, as in the challenge's program, keeps the last one just below 1: a probability of 1 is above all of them
THRESHOLDS = np.cumsum([0.0] + [0.1] * 10)
THINNED, POOLED = ("v_rand", "v_info"), ("rand", "pixel")


@dataclass(frozen=True)
class ThresholdCurve:
    """Precision, recall and F-score over thresholds, each float64 (T,).

    Example:
        >>> curve = ThresholdCurve(np.array([0.4, 0.5]), np.ones(2), np.array([0.5, 1]), f=np.array([2 / 3, 1]))
        >>> curve.score, curve.best_threshold
        (1.0, 0.5)
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f: np.ndarray

    @property
    def best(self) -> int:
        """Index of the highest F-score, the first of equal ones."""
        return _first_highest(self.f)

    @property
    def best_threshold(self) -> float:
        """Threshold of the highest F-score, without the rounding errors of adding up 0.1."""
        return round(float(self.thresholds[self.best]), 6)

    @property
    def score(self) -> float:
        """The highest F-score. The challenge reports this number. NaN if the truth has no cell."""
        return float(self.f[self.best])

    @property
    def error(self) -> float:
        """1 - `score`, as the older measures are reported."""
        return 1.0 - self.score


def thinned_curves(probability: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> list[ThresholdCurve]:
    """Measure V_Rand and V_Info of one plane after thinning, over the challenge's thresholds.

    Args:
        probability: floating (H, W), probability of a cell, 0 .. 1. Pixels above the threshold are cells.
        truth: (H, W), not 0 = cell. Its 4-connected regions are compared.
        valid: mask (H, W). Pixels where it is 0 are left out, e.g. because they are not annotated. They connect no
            regions, neither in the truth nor in the thinned proposal.

    Returns:
        The curve of V_Rand and the curve of V_Info.

    Raises:
        ValueError: the shapes differ, or `probability` is not one plane of probabilities.

    Example:
        >>> rand, info = thinned_curves(np.array([[0.9, 0.9, 0.7, 0.9, 0.9]]), np.array([[1, 1, 0, 1, 1]]))
        >>> rand.score, rand.best_threshold  # at lower thresholds the cells are merged
        (1.0, 0.7)
    """
    levels = checked_probability(probability, truth)
    inside = np.ones(truth.shape, bool) if valid is None else valid != 0
    regions = cell_regions((truth != 0) & inside)
    rows = []
    for threshold in THRESHOLDS:
        found = thin_membrane(levels > threshold)
        if not inside.all():
            found = connected_components(np.where(inside, found, 0), background=0, connectivity=1)
        table = overlap_table(regions, found)
        rows.append((v_rand(table), v_info(table)))
    return [ThresholdCurve(THRESHOLDS, *np.array(scores).T) for scores in zip(*rows, strict=True)]


def image_curves(pred: Any, label: Any, channel: int = 1) -> np.ndarray:
    """Measure the `thinned_curves` of an image as engines hold it.

    Args:
        pred: tensor or array, probabilities (K, H, W), or of cells alone (1, H, W).
        label: tensor or array, class map (1, H, W), or class map and weight map (2, H, W). Pixels of a negative class
            or of weight 0 are not annotated.
        channel: class of the cells.

    Returns:
        float64 (2, 3, T): precision, recall and F-score of V_Rand and V_Info.

    Example:
        >>> image_curves(torch.tensor([[[0.9, 0.15, 0.9]]]), torch.tensor([[[1, 0, 1]]]))[0, 2].round(2)
        array([0.67, 0.67, 1.  , 1.  , 1.  , 1.  , 1.  , 1.  , 1.  , 0.67, 0.67])
    """
    classes, weight = split_target(as_array(label))
    probability = cell_probability(as_array(pred), channel)
    curves = thinned_curves(probability, classes == channel, valid=annotated_pixels(classes, weight))
    return np.array([(curve.precision, curve.recall, curve.f) for curve in curves])


def cell_probability(pred: np.ndarray, channel: int) -> np.ndarray:
    """Select the probability of cells (H, W): a channel of (K, H, W), or the only channel of (1, H, W).

    Example:
        >>> cell_probability(np.array([[[0.1]], [[0.9]]]), channel=1)
        array([[0.9]])
    """
    return pred[channel] if len(pred) > 1 else pred[0]


def pooled_counts(
    probability: np.ndarray, truth: np.ndarray, thresholds: np.ndarray = THRESHOLDS
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pairs and pixels of one plane for the Rand error and the pixel error, without thinning.

    Arguments and errors as in `thinned_curves`.

    Returns:
        Pairs of pixels (Rand error) and pixels (pixel error), each float64 (T, 3): true positives, false positives,
        false negatives. A pair is positive inside one region, a pixel inside a cell. Counts of several planes are
        added.

    Example:
        >>> pairs, pixels = pooled_counts(np.array([[0.9, 0.9, 0.2]]), np.array([[1, 0, 0]]), np.array([0.5]))
        >>> pixels
        array([[1., 1., 0.]])
    """
    levels = checked_probability(probability, truth)
    regions = cell_regions(truth)
    inside = regions != 0
    pairs, pixels, in_truth = [], [], np.count_nonzero(inside)
    for threshold in thresholds:
        cells = levels > threshold
        pairs.append(rand_pairs(overlap_table(regions, cell_regions(cells))))
        both = np.count_nonzero(cells & inside)
        pixels.append((both, np.count_nonzero(cells) - both, in_truth - both))
    return np.array(pairs, float), np.array(pixels, float)


def stack_curves(slices: Sequence[Mapping[str, Any]]) -> dict[str, ThresholdCurve]:
    """Average the measures of the planes of a stack, as the challenge does.

    Args:
        slices: of each plane `thinned` (2, 3, T), from `image_curves`, and `pooled` (2, T, 3), from `pooled_counts`.

    Returns:
        `v_rand`, `v_info`: means over the planes with cells. `rand`, `pixel`: from the summed counts of all planes. The
        `error` of the last two are the older Rand error and pixel error.

    Example:
        >>> plane = {"thinned": np.ones((2, 3, 11)), "pooled": [[(4, 0, 0)] * 11, [(4, 0, 4)] * 11]}
        >>> {name: round(curve.score, 3) for name, curve in stack_curves([plane]).items()}
        {'v_rand': 1.0, 'v_info': 1.0, 'rand': 1.0, 'pixel': 0.667}
    """
    count = len(THRESHOLDS)
    means = nan_mean(np.array([s["thinned"] for s in slices], float).reshape(-1, 2, 3, count), axis=0)
    sums = np.array([s["pooled"] for s in slices], float).reshape(-1, 2, count, 3).sum(axis=0)
    rows = [*means.swapaxes(1, 2), *(np.array([agreement(*row) for row in counts]) for counts in sums)]
    return {name: ThresholdCurve(THRESHOLDS, *row.T) for name, row in zip((*THINNED, *POOLED), rows, strict=True)}


def checked_probability(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Check a plane of probabilities (H, W), and round to single precision, as the challenge's program does.

    Returns:
        float64 (H, W).

    Raises:
        ValueError: the shapes differ, there is not one plane, or a value is no probability.

    Example:
        >>> checked_probability(np.array([[0.25, 1]]), np.array([[0, 1]]))
        array([[0.25, 1.  ]])
    """
    if probability.ndim != 2 or probability.shape != truth.shape:
        raise ValueError(f"expected two planes (H, W) of one shape, got {probability.shape} and {truth.shape}")
    levels = np.asarray(probability, np.float32).astype(np.float64)
    if levels.size and not (levels.min() >= 0 and levels.max() <= 1):  # NaN fails, too
        raise ValueError(
            f"expected probabilities 0 .. 1, got {levels.min()} .. {levels.max()}. Apply ProbabilitiesFromScoresd to "
            "the network's scores, divide 8-bit maps by 255"
        )
    return levels


def _first_highest(f: np.ndarray) -> int:
    """Find the index of the highest number, the first of equal ones. 0 if all are NaN."""
    return int(np.nan_to_num(f, nan=-1.0).argmax())


class ThinnedScore(ImageMetric):
    """Collect V_Rand and V_Info of every plane over the thresholds, over all processes, and give the highest mean.

    Call it with predictions and labels as in `image_curves`, as batches (B, ...) or lists of images.

    Args:
        measure: `v_rand` or `v_info`.
        channel: class of the cells.

    Example:
        >>> metric = ThinnedScore()
        >>> _ = metric(torch.tensor([[[[0.9, 0.15, 0.9]]]]), torch.tensor([[[[1, 0, 1]]]]))
        >>> float(metric.aggregate())
        1.0
    """

    def __init__(self, measure: Callable[[sparse.csr_array], Agreement] = v_rand, channel: int = 1) -> None:
        super().__init__(image_curves, channel)
        self.row = (v_rand, v_info).index(measure)

    def per_image(self, numbers: np.ndarray) -> np.ndarray:
        """Give the F-score of every plane at the best threshold of all, from the curves (N, 2, 3, T)."""
        f = numbers[:, self.row, 2]
        return f[:, _first_highest(nan_mean(f, axis=0))]

    def over_images(self, numbers: np.ndarray) -> np.ndarray:
        """Give the highest mean over planes, from the curves (N, 2, 3, T). NaN without planes with cells."""
        mean = nan_mean(numbers[:, self.row, 2], axis=0)
        return mean[_first_highest(mean)]


class VRand(ImageMetricHandler):
    """Measure V_Rand after thinning, as a key or additional metric of a MONAI engine.

    Args:
        channel: class of the cells.
        output_transform: takes the probabilities and labels out of the engine's output.

    Example::

        key_val_metric:
          val_v_rand:
            _target_: scripts.metrics.VRand
    """

    measure: Callable[[sparse.csr_array], Agreement] = staticmethod(v_rand)

    def __init__(
        self,
        channel: int = 1,
        output_transform: Callable = from_engine(["pred", "label"]),  # noqa: B008  # a function without state
    ) -> None:
        super().__init__(ThinnedScore(type(self).measure, channel), output_transform)


class VInfo(VRand):
    """Measure V_Info after thinning, as a key or additional metric of a MONAI engine.

    The score is between 0 and 1; more is better. As in the challenge, the score is computed at the thresholds 0.0, 0.1,
    ..., 1.0 and averaged over all planes. The metric is the highest of these means. Arguments as in `VRand`.
    """

    measure = staticmethod(v_info)
