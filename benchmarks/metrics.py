"""Times of the challenges' measures of one slice, compared with literal versions of their definitions.

Both must agree to 1e-9 before the timing. The limit is the labelling of connected regions at every threshold, since
every measure of regions needs the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.ndimage import label

from benchmarks import literal_metrics
from benchmarks.em_slice import SIDE, em_slice, proposal_of
from benchmarks.measure import Goal, Row, Setup, Times, take_turns
from scripts.inferers.memory import keep_freed_memory
from scripts.metrics.membranes import THRESHOLDS, pooled_counts, thinned_curves
from scripts.metrics.objects import det_score, instance_scores, seg_score
from scripts.metrics.overlap import agreement
from scripts.metrics.thinning import cell_regions, thin_membrane
from scripts.metrics.warping import warping_error


class Measure(NamedTuple):
    """Two functions of one measure that give the same numbers."""

    ours: Callable[[], tuple[float, ...]]
    literal: Callable[[], tuple[float, ...]]


def rows(setup: Setup) -> Iterator[Row]:
    """Time every measure of one slice, all measures together, and a large frame like those of the cell tracking sets.

    Freed memory is kept, for the baselines, too, as in an evaluation.
    """
    keep_freed_memory(True)
    try:
        yield from _rows(setup)
    finally:
        keep_freed_memory(False)


def _rows(setup: Setup) -> Iterator[Row]:
    side = 96 if setup.quick else SIDE
    image, mask = (plane[:side, :side] for plane in em_slice(setup.data))
    proposal = proposal_of(image)
    table = measures(proposal, mask)
    limit = {"limit": partial(regions_at_all_thresholds, proposal)}
    sums: dict[str, np.ndarray] = {}
    for name, measure in table.items():
        differ = max(abs(a - b) for a, b in zip(measure.ours(), measure.literal(), strict=True))
        if not differ <= 1e-9:  # NaN, too
            raise ValueError(f"{name}: the two differ by {differ:.2g}, more than 1e-9: not the same work")
        times = take_turns(
            {"ours": measure.ours, "literal": measure.literal, **limit}, min(setup.repeats, 3), warm_up=0
        )
        for way, seconds in times.items():
            sums[way] = sums.get(way, 0) + np.array(seconds)
        yield Row(
            f"{name}, {side} x {side}",
            Times("ours", times["ours"]),
            Times("the definition, pixel by pixel", times["literal"]),
            Times("connected regions at 11 thresholds", times["limit"]),
        )
    yield Row(
        f"all of these measures, {side} x {side}",
        Times("ours", sums["ours"].tolist()),
        Times("the definitions, pixel by pixel", sums["literal"].tolist()),
        Times("connected regions at 11 thresholds", (sums["limit"] / len(table)).tolist()),
        (Goal("times", 50),),
    )
    yield _by_pieces(proposal, mask, 32 if setup.quick else 128)
    result, reference = tiles_of_cells(256 if setup.quick else 2048)

    def of_objects() -> None:
        seg_score([result], [reference])
        det_score([result], [reference])
        instance_scores([result], [reference])

    times = take_turns({"ours": of_objects, "limit": partial(label, reference)}, setup.repeats)
    yield Row(
        f"SEG, DET and F1, {len(reference)} x {len(reference)}, {reference.max()} objects",
        Times("ours", times["ours"]),
        limit=Times("connected regions of one frame", times["limit"]),
    )


def _by_pieces(proposal: np.ndarray, mask: np.ndarray, side: int) -> Row:
    """Time the warping error of a corner by the definition of simple pixels, which is too slow for a whole slice."""
    corner = proposal[:side, :side], mask[:side, :side]
    times = take_turns(
        {
            "ours": lambda: warping_error([corner]),
            "literal": lambda: literal_metrics.warping_error(*corner, literal_metrics.simple_by_pieces),
            "limit": partial(regions_at_all_thresholds, corner[0]),
        },
        repeats=1,
        warm_up=0,
    )
    return Row(
        f"warping error, {side} x {side}",
        Times("ours", times["ours"]),
        Times("the definition, pieces counted around every pixel", times["literal"]),
        Times("connected regions at 11 thresholds", times["limit"]),
    )


def measures(proposal: np.ndarray, mask: np.ndarray) -> dict[str, Measure]:
    """Give the measures of a probability map (H, W) and the mask of the cells (H, W), by name."""

    def regions() -> tuple[float, ...]:
        return tuple(curve.score for curve in thinned_curves(proposal, mask))

    def errors() -> tuple[float, ...]:
        curves = pooled_counts(proposal, mask)  # (rand and pixel, thresholds, 3)
        return tuple(float(1 - max(agreement(*row).f for row in counts)) for counts in curves)

    def literal_errors() -> tuple[float, ...]:
        return literal_metrics.rand_error(proposal, mask), literal_metrics.pixel_error(proposal, mask)

    found, truth = thin_membrane(proposal > 0.55), cell_regions(mask)
    return {
        "V_Rand and V_Info": Measure(regions, lambda: literal_metrics.v_rand_and_v_info(proposal, mask)),
        "Rand error and pixel error": Measure(errors, literal_errors),
        "warping error": Measure(
            lambda: (warping_error([(proposal, mask)]).error,),
            lambda: (literal_metrics.warping_error(proposal, mask),),
        ),
        f"SEG, {truth.max()} objects": Measure(
            lambda: (seg_score([found], [truth]),), lambda: (literal_metrics.seg(found, truth),)
        ),
    }


def regions_at_all_thresholds(proposal: np.ndarray) -> None:
    """Label the connected regions at all thresholds."""
    for threshold in THRESHOLDS:
        label(proposal > threshold)


def tiles_of_cells(side: int, spacing: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Make square cells in rows and columns, and the same cells shifted: int32 (side, side) each."""
    cell = np.zeros((spacing, spacing), int)
    cell[2:-2, 2:-2] = 1
    count = side // spacing
    reference = np.zeros((side, side), np.int32)
    reference[: count * spacing, : count * spacing] = label(np.kron(np.ones((count, count), int), cell))[0]
    return np.roll(reference, (3, 2), (0, 1)), reference
