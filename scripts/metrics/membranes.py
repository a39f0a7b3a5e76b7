"""How the ISBI 2012 EM challenge scores a membrane probability map over thresholds, and metrics for MONAI's engines.

Everything is measured plane by plane, with cells as 1 and membrane as 0. For V_Rand and V_Info the proposal is
thresholded and thinned, and the reported value is the highest over thresholds of the mean over planes. The older Rand
and pixel error know no thinning, and add up pairs or pixels over the planes before they take the F-score. The warping
error is in `scripts.metrics.warping`.

References: I. Arganda-Carreras et al., Front. Neuroanat. 9:142, 2015, doi 10.3389/fnana.2015.00142, and the challenge's
program, Fiji's Trainable Segmentation (`RandError`, `VariationOfInformation`, `PixelError`), whose edge cases are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric
from scipy import sparse
from skimage.measure import label as connected_components

from scripts.data.annotation import annotated_pixels
from scripts.io.arrays import as_array
from scripts.metrics.overlap import Agreement, agreement, overlap_table, rand_pairs, v_info, v_rand
from scripts.metrics.pixels import nan_mean, split_target
from scripts.metrics.thinning import cell_regions, thin_membrane

# 0.1 added up, as in the challenge's program: the last stays just below 1, so that a probability of 1 is above it
THRESHOLDS = np.cumsum([0.0] + [0.1] * 10)
THINNED, POOLED = ("v_rand", "v_info"), ("rand", "pixel")


@dataclass(frozen=True)
class ThresholdCurve:
    """Precision, recall and F-score, each (T,), over the thresholds (T,)."""

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f: np.ndarray

    @property
    def best(self) -> int:
        """Index of the first of the highest F-scores."""
        return _first_highest(self.f)

    @property
    def best_threshold(self) -> float:
        """Where the F-score is highest, without the rounding errors of adding up 0.1."""
        return round(float(self.thresholds[self.best]), 6)

    @property
    def score(self) -> float:
        """The highest F-score, what the challenge reports; NaN where the truth has no cell."""
        return float(self.f[self.best])

    @property
    def error(self) -> float:
        """1 - `score`, as the older set of measures is given."""
        return 1.0 - self.score


def thinned_curves(
    probability: np.ndarray,
    truth: np.ndarray,
    thresholds: np.ndarray = THRESHOLDS,
    valid: np.ndarray | None = None,
    measures: tuple[Callable[[sparse.csr_array], Agreement], ...] = (v_rand, v_info),
) -> list[ThresholdCurve]:
    """V_Rand and V_Info of one plane after thinning, over the thresholds.

    Args:
        probability: floating (H, W), of being a cell, 0 .. 1; a pixel is a cell where it is above the threshold.
        truth: (H, W), not 0 = cell; its 4-connected regions are compared.
        thresholds: (T,), the challenge's by default.
        valid: (H, W); pixels where it is 0 are left out, e.g. those not annotated. Nothing is known to join regions
            through them: of both truth and (thinned) proposal, regions are what hangs together without them.
        measures: functions of an `overlap_table`.

    Returns:
        A curve for each of `measures`.

    Raises:
        ValueError: the shapes differ, or `probability` is not one plane of probabilities.
    """
    levels = checked_probability(probability, truth)
    inside = None if valid is None or np.all(valid) else valid != 0
    regions = cell_regions(truth if inside is None else (truth != 0) & inside)
    agreements: list[list[Agreement]] = []
    cells = None
    for threshold in thresholds:
        above = levels > threshold
        if cells is not None and np.array_equal(above, cells):  # as with proposals of two values
            agreements.append(agreements[-1])
            continue
        cells = above
        found = thin_membrane(cells)
        if inside is not None:
            found = connected_components(np.where(inside, found, 0), background=0, connectivity=1)
        table = overlap_table(regions, found)
        agreements.append([measure(table) for measure in measures])
    return [_curve(thresholds, np.array(rows)) for rows in zip(*agreements, strict=True)]


def pooled_counts(
    probability: np.ndarray, truth: np.ndarray, thresholds: np.ndarray = THRESHOLDS
) -> tuple[np.ndarray, np.ndarray]:
    """What the older errors of one plane are made of, without thinning, over the thresholds.

    Args:
        probability: as in `thinned_curves`.
        truth: as in `thinned_curves`.
        thresholds: (T,).

    Returns:
        Pairs of pixels (Rand error) and pixels (pixel error), each float64 (T, 3): true positives, false positives,
        false negatives, where positive means in one region, or in a cell. Add them up over the planes.

    Raises:
        ValueError: as in `thinned_curves`.
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


def challenge_curves(
    planes: Iterable[tuple[np.ndarray, np.ndarray]], thresholds: np.ndarray = THRESHOLDS
) -> dict[str, ThresholdCurve]:
    """The measures of a stack as the challenge averages them.

    Args:
        planes: (probability, truth) of every plane, each (H, W) as in `thinned_curves`.
        thresholds: (T,).

    Returns:
        `v_rand`, `v_info`: means over the planes that have cells; `rand`, `pixel`: of all planes' counts together. The
        older Rand and pixel error are the `error` of the last two.
    """
    slices = []
    for probability, truth in planes:
        thinned = [(c.precision, c.recall, c.f) for c in thinned_curves(probability, truth, thresholds)]
        slices.append({"thinned": thinned, "pooled": pooled_counts(probability, truth, thresholds)})
    return stack_curves(slices, thresholds)


def stack_curves(slices: Sequence[Mapping[str, Any]], thresholds: np.ndarray = THRESHOLDS) -> dict[str, ThresholdCurve]:
    """`challenge_curves` from the lines of `thinned_curves`, `thinned` (2, 3, T), and the `pooled_counts` of planes."""
    means = nan_mean(np.array([s["thinned"] for s in slices], float).reshape(-1, 2, 3, len(thresholds)), axis=0)
    sums = np.array([s["pooled"] for s in slices], float).reshape(-1, 2, len(thresholds), 3).sum(axis=0)
    rows = [*means.swapaxes(1, 2), *(np.array([agreement(*row) for row in counts]) for counts in sums)]
    return {name: _curve(thresholds, line) for name, line in zip((*THINNED, *POOLED), rows, strict=True)}


def checked_probability(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """A plane of probabilities as float64, checked; single precision first, as the challenge's program reads it."""
    if probability.ndim != 2 or probability.shape != truth.shape:
        raise ValueError(f"expected two planes (H, W) of one shape, got {probability.shape} and {truth.shape}")
    levels = np.asarray(probability, np.float32).astype(np.float64)
    if levels.size and not (levels.min() >= 0 and levels.max() <= 1):  # NaN fails too
        raise ValueError(
            f"expected probabilities 0 .. 1, got {levels.min()} .. {levels.max()}; apply ProbabilitiesFromScoresd to "
            "the network's scores, divide 8-bit maps by 255"
        )
    return levels


def _curve(thresholds: np.ndarray, rows: np.ndarray) -> ThresholdCurve:
    """A curve of rows (T, 3): precision, recall, F-score."""
    return ThresholdCurve(thresholds, *rows.T)


def _first_highest(f: np.ndarray) -> int:
    """Index of the first of the highest numbers, 0 where all are NaN."""
    return int(np.nan_to_num(f, nan=-1.0).argmax())


class ThinnedScore(CumulativeIterationMetric):
    """Accumulate the F-scores of every plane over the thresholds, over all ranks; report the highest mean.

    Called with probabilities (B, K, H, W), K > 1, or of cells alone (B, 1, H, W), and labels (B, 1, H, W) class maps or
    (B, 2, H, W) class map and weight map; or with lists without the batch axis. Class < 0 or weight 0: not annotated.

    Args:
        measure: `v_rand` or `v_info`.
        channel: the class of the cells.
    """

    def __init__(self, measure: Callable[[sparse.csr_array], Agreement] = v_rand, channel: int = 1) -> None:
        super().__init__()
        self.measure = measure
        self.channel = channel

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **_: object) -> torch.Tensor:
        if y is None:
            raise ValueError(f"{type(self).__name__} compares with a label, got none")
        rows = []
        for p, (label, weight) in zip(as_array(y_pred), map(split_target, as_array(y)), strict=True):
            probability = p[self.channel] if len(p) > 1 else p[0]
            valid = annotated_pixels(label, weight)
            (curve,) = thinned_curves(probability, label == self.channel, valid=valid, measures=(self.measure,))
            rows.append(curve.f)
        return torch.from_numpy(np.stack(rows))  # float64 (B, T)

    def get_buffer(self) -> torch.Tensor:
        """F-score of every plane at the threshold that is best for all, float32 (N, 1); for `MetricsSaver`."""
        rows = self._rows()
        return torch.from_numpy(rows[:, [_first_highest(nan_mean(rows, axis=0))]].astype(np.float32))

    def aggregate(self) -> torch.Tensor:
        """The highest over thresholds of the mean over planes, a scalar tensor; NaN without any plane with cells."""
        mean = nan_mean(self._rows(), axis=0)
        return torch.tensor(float(mean[_first_highest(mean)]))

    def _rows(self) -> np.ndarray:
        buffer = super().get_buffer()
        return np.zeros((0, len(THRESHOLDS))) if buffer is None else buffer.numpy()


class VRand(IgniteMetricHandler):
    """V_Rand after thinning, as a key or additional metric of a MONAI engine.

    Args:
        channel: the class of the cells.
        output_transform: takes (probabilities, label) out of the engine's output.
    """

    measure: Callable[[sparse.csr_array], Agreement] = staticmethod(v_rand)

    def __init__(
        self,
        channel: int = 1,
        output_transform: Callable = from_engine(["pred", "label"]),  # noqa: B008  # a function without state
    ) -> None:
        super().__init__(metric_fn=ThinnedScore(type(self).measure, channel), output_transform=output_transform)


class VInfo(VRand):
    """V_Info after thinning; arguments as `VRand`."""

    measure = staticmethod(v_info)
