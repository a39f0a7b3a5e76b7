"""Figures of an evaluation: scores over thresholds, and a histogram of the objects by Jaccard index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from ..metrics.membranes import ThresholdCurve
from ..metrics.warping import WarpingError
from .overlays import BLUE, GREEN, GREY, ORANGE, PURPLE, RED
from .panels import mark_best, new_figure

BINS = 20


def threshold_figure(
    curves: Mapping[str, ThresholdCurve], warping: WarpingError | None = None, title: str = ""
) -> Figure:
    """Draw the measures of the EM challenge over the thresholds, and mark the best of each.

    Args:
        curves: `v_rand`, `v_info`, `rand` and `pixel`, as from `scripts.metrics.stack_curves`.
        warping: the warping error. None: no such panel.
        title: a line above all panels.

    Returns:
        Figure with 3 panels, 4 with the warping error.

    Example:
        >>> from scripts.metrics import ThresholdCurve
        >>> curve = ThresholdCurve(np.linspace(0, 1, 3), *np.array([[0.5, 1, 1], [1, 1, 0.5], [0.7, 1, 0.7]]))
        >>> len(threshold_figure(dict.fromkeys(["v_rand", "v_info", "rand", "pixel"], curve)).axes)
        3
    """
    rows, columns = (1, 3) if warping is None else (2, 2)
    figure = new_figure(4.6 * columns, 4.3 * rows + 0.3, title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, key, name in ((axes[0], "v_rand", "V_Rand, thinned"), (axes[1], "v_info", "V_Info, thinned")):
        curve = curves[key]
        ax.plot(curve.thresholds, curve.precision, color=ORANGE, linewidth=1.5, label="precision (low: mergers)")
        ax.plot(curve.thresholds, curve.recall, color=GREEN, linewidth=1.5, label="recall (low: splits)")
        _draw_best(ax, curve.thresholds, curve.f, curve.best, BLUE, "F-score")
        _label_axes(ax, name, "score")
    for key, name, colour in (("rand", "Rand F-score", RED), ("pixel", "pixel F-score", PURPLE)):
        _draw_best(axes[2], curves[key].thresholds, curves[key].f, curves[key].best, colour, name)
    _label_axes(axes[2], "Rand and pixel F-score, not thinned", "score")
    if warping is not None:
        ax, pixel = axes[3], 1 / warping.pixels
        ax.plot(warping.thresholds, warping.mergers * pixel, color=ORANGE, linewidth=1.5, label="mergers")
        ax.plot(warping.thresholds, warping.splits * pixel, color=GREEN, linewidth=1.5, label="splits")
        _draw_best(ax, warping.thresholds, warping.errors, warping.best, BLUE, "warping error", digits=6)
        ax.set_yscale("symlog", linthresh=1e-4, linscale=0.5)  # good results are near 0, where a logarithm has no value
        _label_axes(ax, "warping error", "share of pixels", highest=None)
    return figure


def jaccard_figure(jaccards: np.ndarray, title: str = "") -> Figure:
    """Draw a histogram of the reference objects by Jaccard index, with SEG, their mean, as a line.

    Args:
        jaccards: Jaccard index of every reference object (R,). 0 (no result object covers more than half of the
            reference object) has its own colour.
        title: a line above.

    Returns:
        Figure with 1 panel.

    Example:
        >>> figure = jaccard_figure(np.array([0, 0.5, 0.9]))
        >>> figure.axes[0].get_ylabel()
        'reference objects'
    """
    figure = new_figure(7.0, 4.6)
    ax = figure.subplots()
    found = jaccards[jaccards > 0]
    missed = len(jaccards) - len(found)
    counts, edges = np.histogram(found, bins=np.linspace(0, 1, BINS + 1))
    style: dict[str, Any] = {"align": "edge", "width": 1 / BINS, "edgecolor": "white", "zorder": 2}
    ax.bar(0, missed, color=RED, label=f"not covered, Jaccard index 0: {missed}", **style)
    counts_below = np.zeros(BINS)
    counts_below[0] = missed  # objects of tiny Jaccard indices stand on the missed objects
    ax.bar(edges[:-1], counts, bottom=counts_below, color=BLUE, label=f"more than half covered: {len(found)}", **style)
    if len(jaccards):
        mean = float(jaccards.mean())
        ax.axvline(mean, color="#000000", linestyle="--", linewidth=1.5, label=f"SEG {mean:.4f}", zorder=3)
    ax.set(xlim=(0, 1), xlabel="Jaccard index (IoU) of a reference object", ylabel="reference objects")
    ax.set_ylim(0, max(float((counts + counts_below).max()), 1.0) * 1.06)
    ax.xaxis.set_major_locator(MultipleLocator(0.1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(ax, legend_columns=3)
    ax.set_title(title, fontsize=11)
    return figure


def _draw_best(
    ax: Axes, thresholds: np.ndarray, values: np.ndarray, best: int, colour: str, name: str, digits: int = 4
) -> None:
    """Draw the main line of a panel. Its best value has a ring and is named in the legend."""
    if not np.isnan(values[best]):
        name += f" (best {values[best]:.{digits}f} at {thresholds[best]:.1f})"
        ax.axvline(thresholds[best], color=GREY, linestyle=":", linewidth=1.2, zorder=1)
        mark_best(ax, thresholds[best], values[best], colour, layer=4)
    ax.plot(thresholds, values, color=colour, marker="o", markersize=3, linewidth=2.2, label=name, zorder=3)


def _label_axes(ax: Axes, name: str, unit: str, highest: float | None = 1.02) -> None:
    ax.set(xlim=(-0.03, 1.03), xlabel="threshold of the cell probability", ylabel=unit)
    ax.set_ylim(bottom=0, top=highest)
    ax.xaxis.set_major_locator(MultipleLocator(0.2))
    ax.set_title(name, fontsize=11)
    _finish(ax, legend_columns=1)


def _finish(ax: Axes, legend_columns: int) -> None:
    """Draw grid and frame, and the legend below the panel."""
    ax.grid(alpha=0.3, zorder=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=legend_columns)
