"""Figures of an evaluation: scores over thresholds, and how well the single objects are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from scripts.metrics.membranes import ThresholdCurve
from scripts.metrics.warping import WarpingError
from scripts.plot.overlays import BLUE, GREEN, GREY, ORANGE, PURPLE, RED
from scripts.plot.panels import new_figure

BINS = 20


def threshold_figure(
    curves: Mapping[str, ThresholdCurve], warping: WarpingError | None = None, title: str = ""
) -> Figure:
    """How the measures of the EM challenge depend on the threshold; the best of each is marked.

    Args:
        curves: `v_rand`, `v_info`, `rand` and `pixel`, as `scripts.metrics.membranes.challenge_curves` gives them.
        warping: the warping error; None: left out.
        title: a line above all.
    """
    rows, columns = (1, 3) if warping is None else (2, 2)
    figure = new_figure(4.6 * columns, 4.3 * rows + 0.3)
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
        ax.set_yscale("symlog", linthresh=1e-4, linscale=0.5)  # the best are near 0, which a logarithm lacks
        _label_axes(ax, "warping error", "share of pixels", highest=None)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def jaccard_figure(jaccards: np.ndarray, title: str = "") -> Figure:
    """How many reference objects are found how well; their mean, SEG, is a line, the missed ones have a colour.

    Args:
        jaccards: Jaccard index of every reference object (R,), 0 where no result object covers more than half of it.
        title: a line above.
    """
    figure = new_figure(7.0, 4.6)
    ax = figure.subplots()
    found = jaccards[jaccards > 0]
    missed = len(jaccards) - len(found)
    counts, edges = np.histogram(found, bins=np.linspace(0, 1, BINS + 1))
    style: dict[str, Any] = {"align": "edge", "width": 1 / BINS, "edgecolor": "white", "zorder": 2}
    ax.bar(0, missed, color=RED, label=f"missed, Jaccard index 0: {missed}", **style)
    counts_below = np.zeros(BINS)
    counts_below[0] = missed  # an object of a tiny Jaccard index stands on the missed ones
    ax.bar(edges[:-1], counts, bottom=counts_below, color=BLUE, label=f"more than half covered: {len(found)}", **style)
    if len(jaccards):
        mean = float(jaccards.mean())
        ax.axvline(mean, color="#000000", linestyle="--", linewidth=1.5, label=f"SEG {mean:.4f}", zorder=3)
    ax.set(xlim=(0, 1), xlabel="Jaccard index (IoU) of a reference object", ylabel="reference objects")
    ax.set_ylim(0, max(float((counts + counts_below).max()), 1.0) * 1.06)
    ax.xaxis.set_major_locator(MultipleLocator(0.1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(ax, legend_columns=3)
    if title:
        ax.set_title(title, fontsize=11)
    return figure


def _draw_best(
    ax: Axes, thresholds: np.ndarray, values: np.ndarray, best: int, colour: str, name: str, digits: int = 4
) -> None:
    """The line that counts, above the others, its best value ringed and named in the legend."""
    if not np.isnan(values[best]):
        name += f" (best {values[best]:.{digits}f} at {thresholds[best]:.1f})"
        ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "clip_on": False, "zorder": 4}
        ax.axvline(thresholds[best], color=GREY, linestyle=":", linewidth=1.2, zorder=1)
        ax.plot([thresholds[best]], [values[best]], "o", color=colour, **ring)
    ax.plot(thresholds, values, color=colour, marker="o", markersize=3, linewidth=2.2, label=name, zorder=3)


def _label_axes(ax: Axes, name: str, unit: str, highest: float | None = 1.02) -> None:
    ax.set(xlim=(-0.03, 1.03), xlabel="threshold of the cell probability", ylabel=unit)
    ax.set_ylim(bottom=0, top=highest)
    ax.xaxis.set_major_locator(MultipleLocator(0.2))
    ax.set_title(name, fontsize=11)
    _finish(ax, legend_columns=1)


def _finish(ax: Axes, legend_columns: int) -> None:
    """Grid and frame, and the legend below, where it covers nothing."""
    ax.grid(alpha=0.3, zorder=0)
    ax.spines[["top", "right"]].set_visible(False)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": legend_columns}
    ax.legend(fontsize=9, frameon=False, **place)
