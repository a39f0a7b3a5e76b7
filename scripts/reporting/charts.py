"""Draw line charts as SVG. Colours come from the page's style, so that a dark page has light lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, HEIGHT = 460, 250  # units of the drawing
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40  # margins
LARGEST = 1e30  # of a value; larger ones come from a loss that has exploded, and have no axis
STEPS = [1, 2, 2.5, 5, 10]  # of the ticks


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Args:
        name: for the legend.
        points: pairs (x, y). Points with NaN, infinite or larger values than 1e30 are left out.
        best: mark the highest point.
    """

    name: str
    points: Sequence[tuple[float, float]]
    best: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with its heading.

    Args:
        title: heading.
        svg: the drawing.
        text: what the chart shows, in a sentence, also for readers who do not see the drawing.
        names: names of the lines, for the legend. Fewer than two: no legend.
    """

    title: str
    svg: str
    text: str
    names: Sequence[str] = ()


def chart(
    title: str,
    lines: Sequence[Line],
    x: str,
    text: str,
    log: bool = False,
    marked: float | None = None,
    limits: tuple[float, float] | None = None,
) -> Chart | None:
    """Draw lines.

    Args:
        title: heading.
        lines: with finite points; other points are left out. At most six are drawn.
        x: name of the horizontal axis.
        text: what the chart shows, in a sentence.
        log: logarithmic vertical axis.
        marked: place of a vertical line.
        limits: lowest and highest value of the vertical axis. None: of the points.

    Returns:
        None without any point.

    Example:
        >>> drawn = chart("loss", [Line("loss", [(1, 0.5), (2, 0.4)])], "epoch", "The loss falls.")
        >>> drawn.svg.count("<path class=")
        1
    """
    known = [
        Line(line.name, [p for p in line.points if all(abs(value) < LARGEST for value in p)], line.best)
        for line in lines
    ]
    known = [line for line in known if line.points][:6]
    if not known:
        return None
    across = [px for line in known for px, _ in line.points] + ([] if marked is None else [marked])
    up = [py for line in known for _, py in line.points]
    log = log and min(up) > 0
    x_low, x_high = _widened(min(across), max(across))
    y_low, y_high = limits or _widened(*(min(up), max(up)))
    y_ticks = (LogLocator(numticks=6) if log else MaxNLocator(5, steps=STEPS)).tick_values(y_low, y_high)
    x_ticks = MaxNLocator(6, steps=STEPS, integer=x == "epoch").tick_values(x_low, x_high)

    def place_x(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def place_y(value: float) -> float:
        low, high, value = (math.log(v) for v in (y_low, y_high, value)) if log else (y_low, y_high, value)
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in y_ticks:
        if y_low <= tick <= y_high:
            at = place_y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_tick(tick)}</text>')
    for tick in x_ticks:
        if x_low <= tick <= x_high:
            at = place_x(tick)
            parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_tick(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    if marked is not None:
        at = place_x(marked)
        parts.append(f'<line class="marked" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for number, line in enumerate(known):
        points = [(place_x(px), place_y(py)) for px, py in line.points]
        route = "M" + "L".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<path class="line l{number}" d="{route}"/>')
        if len(points) <= 30:
            parts += [f'<circle class="dot l{number}" cx="{px:.1f}" cy="{py:.1f}" r="2.5"/>' for px, py in points]
        if line.best:
            px, py = points[max(range(len(points)), key=lambda k: line.points[k][1])]
            parts.append(f'<circle class="best l{number}" cx="{px:.1f}" cy="{py:.1f}" r="6"/>')
    label = escape(f"{title}. {text}", quote=True)
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return Chart(title, svg, text, [line.name for line in known])


def _tick(value: float) -> str:
    """Write the number at a tick. Small numbers are powers: 2e-4."""
    if 0 < abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e")
    return f"{round(value, 10):.4g}"


def _widened(low: float, high: float) -> tuple[float, float]:
    if low == high:
        return low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    return low, high
