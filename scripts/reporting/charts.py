"""Draw line charts as SVG. Colours come from the page's style, so that a dark page has light lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.ticker import Locator, LogLocator, MaxNLocator

WIDTH, HEIGHT = 460, 250  # units of the drawing
RIGHT, TOP, BOTTOM = 12, 12, 40  # margins; the left margin has room for the longest number
CHARACTER = 8.3  # width of a digit in the widest usual font, at 13 pixels
INSET = 8  # between the margins and the first and last point, which may have a ring
SPAN = 0.1  # least range of the axis of a score: smaller changes are noise
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
    is_score: bool = False,
    from_zero: bool = False,
) -> Chart | None:
    """Draw lines.

    Args:
        title: heading.
        lines: with finite points; other points are left out. At most six are drawn.
        x: name of the horizontal axis.
        text: what the chart shows, in a sentence.
        log: logarithmic vertical axis.
        marked: place of a vertical line.
        is_score: values from 0 to 1. The vertical axis stays within, and spans at least 0.1.
        from_zero: the vertical axis begins at 0 or below.

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
    lowest, highest = min([*up, 0.0] if from_zero else up), max(up)
    y_low, y_high = _score_axis(lowest, highest) if is_score else _widened(lowest, highest)
    y_ticks = _ticks(LogLocator(subs=(1, 2, 5), numticks=6) if log else MaxNLocator(5, steps=STEPS), y_low, y_high)
    x_ticks = _ticks(MaxNLocator(6, steps=STEPS, integer=x == "epoch"), x_low, x_high)
    left = 14 + CHARACTER * max((len(text) for _, text in y_ticks), default=0)

    def place_x(value: float) -> float:
        return left + INSET + (value - x_low) / (x_high - x_low) * (WIDTH - left - 2 * INSET - RIGHT)

    def place_y(value: float) -> float:
        low, high, value = (math.log(v) for v in (y_low, y_high, value)) if log else (y_low, y_high, value)
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick, figure in y_ticks:
        at = place_y(tick)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{at + 4:.1f}" text-anchor="end">{figure}</text>')
    for tick, figure in x_ticks:
        at = place_x(tick)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{figure}</text>')
    middle = (left + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
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


def _ticks(locator: Locator, low: float, high: float) -> list[tuple[float, str]]:
    """Place ticks on an axis, and write their numbers: all with the same decimals, or all as powers (2e-4)."""
    ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
    largest = max(map(abs, ticks), default=0.0)
    smallest = min((abs(tick) for tick in ticks if tick), default=0.0)
    if largest >= 1e5 or 0 < largest < 1e-2 or 0 < smallest < largest / 1e4:
        return [(tick, _power(tick)) for tick in ticks]
    decimals = next((k for k in range(6) if all(abs(tick - round(tick, k)) < 1e-9 for tick in ticks)), 6)
    return [(tick, f"{tick:.{decimals}f}") for tick in ticks]


def _power(value: float) -> str:
    digits, _, power = f"{value:.3e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}" if value else "0"


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return the range of an axis. A flat line lies between 0 and twice its value."""
    if low < high:
        return low, high
    return (min(0.0, 2 * low), max(0.0, 2 * low)) if low else (0.0, 1.0)


def _score_axis(low: float, high: float) -> tuple[float, float]:
    """Return the range of the axis of a score."""
    missing = max(SPAN - (high - low), 0.0)
    bottom = min(max(low - missing / 2, 0.0), max(1.0 - SPAN, 0.0)) if missing else low
    return bottom, max(high, bottom + SPAN)
