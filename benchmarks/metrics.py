"""The challenge metrics of one EM slice, ours against their definitions taken literally.

The literal ones are in `benchmarks.literal_metrics`; each gives our value to 1e-9 (a test says so).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from skimage.measure import label

from benchmarks import literal_metrics as literal
from benchmarks.em_slice import em_slice, proposal_of
from scripts.em_metrics import pooled_counts, stack_curves, thinned_curves
from scripts.object_metrics import det_score, instance_scores, seg_score
from scripts.thinning import cell_regions
from scripts.warping import warping_error

Values = tuple[float, ...]
Ways = dict[str, Callable[[], Values]]
OURS, LITERAL = "ours", "literal"


def metric_ways(probability: np.ndarray, truth: np.ndarray) -> dict[str, Ways]:
    """Metric -> name -> its values; ours is the first name.

    Args:
        probability: (H, W), of being a cell.
        truth: bool (H, W), True = cell.
    """
    reference, result = cell_regions(truth), cell_regions(probability > 0.5)

    def thinned() -> Values:
        rand, info = thinned_curves(probability, truth)
        return rand.score, info.score

    def pooled() -> Values:
        counts = pooled_counts(probability, truth)
        curves = stack_curves([{"thinned": np.zeros((2, 3, len(counts[0]))), "pooled": counts}])
        return curves["rand"].error, curves["pixel"].error

    return {
        "V_Rand, V_Info": {OURS: thinned, LITERAL: lambda: literal.v_rand_and_v_info(probability, truth)},
        "Rand and pixel error": {
            OURS: pooled,
            LITERAL: lambda: (literal.rand_error(probability, truth), literal.pixel_error(probability, truth)),
        },
        "warping error": {
            OURS: lambda: (warping_error([(probability, truth)]).error,),
            LITERAL: lambda: (literal.warping_error(probability, truth),),
        },
        "SEG": {
            OURS: lambda: (seg_score([result], [reference]),),
            LITERAL: lambda: (literal.seg(result, reference),),
        },
    }


def slice_ways(folder: Path | None = None) -> dict[str, Ways]:
    """`metric_ways` of one EM slice of 512 x 512, see `em_slice`, and "all" of them together as the last."""
    image, truth = em_slice(folder)
    ways = metric_ways(proposal_of(image), truth)

    def together(name: str) -> Values:
        return tuple(value for metric in ways.values() for value in metric[name]())

    return {**ways, "all": {name: partial(together, name) for name in (OURS, LITERAL)}}


def object_ways(side: int = 2048) -> Callable[[], None]:
    """SEG, DET and F1 of a frame of (side / 28)^2 objects, ours alone: the literal ones would take hours."""
    result, reference = tiles_of_cells(side)

    def all_scores() -> None:
        seg_score([result], [reference])
        det_score([result], [reference])
        instance_scores([result], [reference])

    return all_scores


def tiles_of_cells(side: int, spacing: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Square cells in rows and columns, and the same shifted: int32 (side, side) each."""
    cell = np.zeros((spacing, spacing), int)
    cell[2:-2, 2:-2] = 1
    count = side // spacing
    reference = np.zeros((side, side), np.int32)
    reference[: count * spacing, : count * spacing] = label(np.kron(np.ones((count, count), int), cell))
    return np.roll(reference, (3, 2), (0, 1)), reference
