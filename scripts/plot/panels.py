"""Drawing: arrays in, matplotlib figures out; nothing is read, and no global state of matplotlib is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from scripts.io.files import replacing
from scripts.plot.overlays import (
    BLUE,
    CONFUSED,
    CORRECT,
    ERROR_COLOURS,
    FALSE_BACKGROUND,
    GREEN,
    GREY,
    MISSED_BACKGROUND,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    UNKNOWN,
    class_key,
    displayable,
    error_map,
    overlay_image,
)

_LINES = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, "#000000", "#777777")
_MOST_LINES = 8  # of one pair of axes
_MOST_PIXELS = 1024  # of a side of a picture, which is shown in about 440
_NO_METRIC = ("epoch", "iteration", "lr", "loss", "seconds")


def panel_figure(
    image: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray | None = None,
    probability: np.ndarray | None = None,
    prediction: np.ndarray | None = None,
    class_names: Sequence[str] = ("membrane", "cell"),
    probability_class: int | None = 1,
    title: str = "",
    objects: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Image | label | weight map | probability | prediction | error, side by side; what is not given is left out.

    Of large images every second (third, ...) row and column is drawn, up to 1024 each; the errors of all are counted.

    Args:
        image: (H, W) or (C, H, W).
        label: class map (H, W); negative: not annotated.
        weight: weight map (H, W).
        probability: of the class `probability_class`, (H, W).
        prediction: class map (H, W).
        class_names: names of the classes 0 .. K - 1. Two are tinted lightly, so that the image shines through; more of
            them strongly, so that they are told apart.
        probability_class: which class `probability` belongs to; None: in every pixel to the one predicted there.
        title: a line above all panels.
        objects: instance maps (H, W) of the label and of the prediction, drawn in place of the class maps, a colour
            each; of all classes but 0 together.
    """
    step = -(-max(label.shape) // _MOST_PIXELS)
    thin = np.s_[..., ::step, ::step]
    image = image[thin]
    panels = 2 + (weight is not None) + (probability is not None) + 2 * (prediction is not None)
    columns = panels if panels <= 3 else (panels + 1) // 2
    rows = -(-panels // columns)
    image_height = 4.2 * min(max(label.shape[0] / label.shape[1], 0.4), 2.0)
    key_height = 0.35 + 0.2 * (-(-len(class_names) // 3))
    figure = new_figure(4.4 * columns, (image_height + key_height + 0.3) * rows + 0.4)
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[image_height, key_height] * rows)
    for ax in axes.flat:
        ax.set_axis_off()
    free = ((axes[2 * row, column], axes[2 * row + 1, column]) for row in range(rows) for column in range(columns))

    key = [*class_key(class_names), (f"{class_names[0]} (untinted)", "#777777")]
    alpha = 0.35 if len(class_names) == 2 else 0.6

    def drawn(classes: np.ndarray, side: int) -> np.ndarray:
        if objects is None:
            return overlay_image(image, classes[thin], alpha, outline=False)
        return overlay_image(image, objects[side][thin], 0.5)

    if objects is not None:
        key = [("objects, a colour each", "#FFFFFF")]
    _show(next(free), "image", displayable(image), [])
    _show(next(free), "label", drawn(label, 0), key)
    if weight is not None:
        name = "weight map" if weight.all() else "weight map (grey: not annotated)"
        shown = np.ma.masked_equal(weight[thin], 0)
        _show_scale(figure, next(free), name, shown, "magma", float(np.max(weight)))
    if probability is not None:
        whose = "the predicted class" if probability_class is None else class_names[probability_class]
        _show_scale(figure, next(free), f"probability of {whose}", probability[thin], "cividis", 1.0)
    if prediction is not None:
        _show(next(free), "prediction", drawn(prediction, 1), key)
        _show_errors(next(free), error_map(prediction, label, weight), class_names[0], thin)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def curves_figure(rows: Sequence[Mapping[str, float | None]], title: str = "") -> Figure:
    """Training curves: loss, learning rate, and whatever was measured at validation.

    Args:
        rows: one per epoch, with `epoch`, `loss`, `lr` and any metrics; None or NaN: not measured in that epoch. The
            first metric is taken for the key metric, its best value is marked. Metrics with "error" in their name (less
            is better) are drawn apart; so are Dice and IoU where there are more than eight scores.
        title: a line above the curves.
    """
    metrics = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in _NO_METRIC]
    errors = [name for name in metrics if "error" in name]
    scores = [name for name in metrics if name not in errors]
    subjects = list(dict.fromkeys(map(_subject, scores)))
    validation = [*_score_groups(scores), ("error", errors)]
    groups = [("training loss", ["loss"]), *((f"validation {kind}", lines) for kind, lines in validation if lines)]
    groups = [*groups, ("learning rate", ["lr"])]
    columns = min(2, len(groups))
    figure = new_figure(6.4 * columns, 3.6 * -(-len(groups) // columns) + 0.3)
    axes = figure.subplots(-(-len(groups) // columns), columns, squeeze=False).ravel()
    for ax in axes[len(groups) :]:
        ax.set_axis_off()
    for ax, (name, lines) in zip(axes, groups, strict=False):
        for line, column in enumerate(lines[:_MOST_LINES]):
            index = subjects.index(_subject(column)) if name.endswith(("Dice", "IoU")) else line
            _draw_line(ax, rows, column, index, is_key=column in scores[:1])
        counted = f"the first {_MOST_LINES} of {len(lines)} " if len(lines) > _MOST_LINES else ""
        _label_axes(ax, counted + name, legend=name.startswith("validation"))
        ax.set_xlim(0.5, max([float(row["epoch"] or 0) for row in rows], default=1.0) + 0.5)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 100) -> None:
    """Write a figure in the format that the ending names; atomic."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def figure_pixels(figure: Figure, dpi: int = 100) -> np.ndarray:
    """Render a figure to uint8 (H, W, 3), e.g. for TensorBoard."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of so many inches, whose parts make room for each other."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _show(axes: tuple[Axes, Axes], title: str, image: np.ndarray, key: Sequence[tuple[str, str]]) -> None:
    """Draw an image, and a key of (name, colour) below it."""
    ax, below = axes
    ax.set_axis_on()
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color("#999999")
    ax.imshow(image, interpolation="nearest" if max(image.shape[:2]) < 200 else "antialiased")
    ax.set_title(title, fontsize=11)
    handles = [Patch(facecolor=colour, edgecolor="#555555", label=name) for name, colour in key]
    if handles:
        style = {"frameon": False, "fontsize": 9, "handlelength": 1.0, "columnspacing": 1.2, "borderaxespad": 0.0}
        below.legend(handles=handles, loc="upper center", ncols=min(3, len(handles)), **style)


def _show_scale(
    figure: Figure, axes: tuple[Axes, Axes], title: str, values: np.ndarray, colours: str, highest: float
) -> None:
    """Draw values from 0 to `highest` in colours, and a colour bar below; masked values are grey."""
    ax, below = axes
    _show(axes, title, values, [])
    drawn = ax.images[0]
    drawn.set(cmap=colormaps[colours].with_extremes(bad=GREY), clim=(0.0, highest))
    bar = figure.colorbar(drawn, cax=below.inset_axes((0.05, 0.65, 0.9, 0.3)), orientation="horizontal")
    bar.ax.tick_params(labelsize=9)


def _show_errors(axes: tuple[Axes, Axes], errors: np.ndarray, background: str, thin: tuple) -> None:
    """Draw the part `thin` of an error map, with the share of wrong pixels of the whole."""
    names = ("correct", f"false {background}", f"missed {background}", "other class", "not annotated")
    annotated = int((errors != UNKNOWN).sum())
    wrong = annotated - int((errors == CORRECT).sum())
    share = f"{wrong / annotated:.2%} of pixels" if annotated else "nothing annotated"
    shown = [FALSE_BACKGROUND, MISSED_BACKGROUND, *(c for c in (CONFUSED, UNKNOWN) if (errors == c).any())]
    colours = np.array([to_rgb(c) for c in ERROR_COLOURS], np.float32)
    _show(axes, f"error ({share})", colours[errors[thin]], [(names[c], ERROR_COLOURS[c]) for c in shown])


def _score_groups(scores: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Which scores share a pair of axes: all; or, where they are too many, Dice, IoU and the others apart."""
    if len(scores) <= _MOST_LINES:
        return [("scores", list(scores))]
    of_kind = {"Dice": [s for s in scores if "dice" in s], "IoU": [s for s in scores if "iou" in s]}
    others = [s for s in scores if not any(s in lines for lines in of_kind.values())]
    return [("scores", others), *of_kind.items()]


def _subject(column: str) -> str:
    """What a score is of, the same for Dice and IoU of one class, so that they have one colour."""
    return column.replace("dice", "").replace("iou", "")


def _draw_line(ax: Axes, rows: Sequence[Mapping[str, float | None]], column: str, index: int, is_key: bool) -> None:
    """One measure; the key metric lies above the others, and its best value is marked."""
    points = [(row["epoch"], row[column]) for row in rows if row.get(column) is not None]
    known = np.array([(e, v) for e, v in points if v == v], dtype=float).reshape(-1, 2)
    colour = _LINES[index % len(_LINES)]
    name = column.removeprefix("val_").replace("_", " ").replace("dice", "Dice").replace("iou", "IoU")
    layer = 3 if is_key else 2
    if is_key and len(known):
        epoch, value = known[np.argmax(known[:, 1])]
        name += f" (best {value:.4f}, epoch {int(epoch)})"
        ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "clip_on": False}
        ax.plot([epoch], [value], "o", color=colour, zorder=layer, **ring)
    marker = "o" if len(known) <= 30 else ""
    width = 2.2 if is_key else 1.5
    style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3, "linewidth": width, "zorder": layer}
    ax.plot(known[:, 0], known[:, 1], label=name, **style)


def _label_axes(ax: Axes, name: str, legend: bool) -> None:
    ax.set_title(name, fontsize=11)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10], min_n_ticks=1))
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines] or [np.ones(1)])
    if name == "training loss" and values.size and 0 < values.min() < values.max() / 20:
        ax.set_yscale("log")
    if name == "learning rate":
        ax.set_ylim(bottom=0)
    if legend:
        many = len(ax.get_legend_handles_labels()[1]) > 3  # then beside the lines, since it would hide some
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if many else {}
        ax.legend(fontsize=9, frameon=False, **beside)
