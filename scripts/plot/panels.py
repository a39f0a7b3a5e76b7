"""Draw training curves and panels of one image as matplotlib figures, without matplotlib's global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from skimage.measure import block_reduce

from .errors import (
    CORRECT,
    FALSE,
    FOUND,
    MISSED,
    OBJECT_COLOURS,
    OBJECT_NAMES,
    PIXEL_COLOURS,
    UNKNOWN,
    ObjectErrors,
    error_map,
    object_errors,
    pixel_error_names,
)
from .overlays import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    class_colours,
    class_key,
    displayable,
    overlay_image,
    save_image,
    spread_colours,
)
from .regions import WIDTH, Region, visible_region

PAPER = {CORRECT: "#FFFFFF", FOUND: "#E4E4E4"}  # colours of pixels without an error
DIM = 0.25  # of the scale of colours: the largest weight inside of objects
_LINES = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, "#000000", "#777777")
_MOST_LINES = 8  # per pair of axes
_MOST_PIXELS = 1024  # per side of a panel, which is about 440 pixels wide on screen
_DPI = 100  # pixels per inch
_FLAT = ("dice_background", "iou_background")  # near 1 in every training: they would flatten the other lines
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
    """Draw image, label, weight map, probability, prediction and error side by side. Panels without data are skipped.

    Small objects are enlarged, or a part of the image is drawn, see `scripts.plot.regions.visible_region`. The part is
    in the title. Panels show at most 1024 rows and columns: every second, third, ... of a large image. Errors are
    counted in the whole image.

    Args:
        image: (H, W) or (C, H, W).
        label: class map (H, W). Negative: not annotated.
        weight: weight map (H, W). 0: not annotated.
        probability: (H, W), of the class `probability_class`.
        prediction: class map (H, W).
        class_names: names of the classes 0 to K - 1. Two classes get a light tint, more get a strong tint.
        probability_class: class of `probability`. None: in every pixel, the predicted class.
        title: line above all panels.
        objects: instance maps (H, W) of label and prediction, drawn instead of the class maps.

    Example:
        >>> label = np.eye(8, dtype=int)
        >>> figure = panel_figure(image=np.eye(8), label=label, prediction=label)
        >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
        ['image', 'label', 'prediction', 'error (0.00% of pixels)']
    """
    region = visible_region(label if objects is None else objects[0], instances=objects is not None)
    height, width = region.rows.stop - region.rows.start, region.columns.stop - region.columns.start
    step = -(-max(height, width) // _MOST_PIXELS)
    thin = (
        ...,
        slice(region.rows.start, region.rows.stop, step),
        slice(region.columns.start, region.columns.stop, step),
    )
    if not region.whole:
        part = f"{height} x {width} of {label.shape[0]} x {label.shape[1]} pixels"
        title = f"{title}, {part}" if title else part
    panels = 2 + (weight is not None) + (probability is not None) + 2 * (prediction is not None)
    columns = panels if panels <= 3 else (panels + 1) // 2
    rows = -(-panels // columns)
    long = WIDTH / _DPI
    image_width = max(long * min(width / height, 1.0), 4.2)
    image_height = long * min(height / width, 1.0)
    key_height = 0.35 + 0.2 * (-(-len(class_names) // 3))
    size = (image_width + 0.2) * columns, (image_height + key_height + 0.3) * rows + 0.4
    figure = new_figure(*size, title, dpi=_DPI * region.side / WIDTH)  # texts are as much larger
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[image_height, key_height] * rows)
    for ax in axes.flat:
        ax.set_axis_off()
    free = ((axes[2 * row, column], axes[2 * row + 1, column]) for row in range(rows) for column in range(columns))

    if objects is None:
        alpha, colours = 0.35 if len(class_names) == 2 else 0.6, class_colours(len(class_names) - 1)
        maps = [classes[thin] for classes in (label, prediction) if classes is not None]
        drawn = [overlay_image(image[thin], classes, alpha, outline=False, colours=colours) for classes in maps]
        key = [*class_key(class_names), (f"{class_names[0]} (untinted)", "#777777")]
    else:
        drawn = [overlay_image(image[thin], spread_colours(instances[thin]), 0.5) for instances in objects]
        key = []
    note = "" if objects is None else "a colour for each object"
    _show(next(free), "image", displayable(image[thin]), [])
    _show(next(free), "label", drawn[0], key, note)
    if weight is not None:
        name = "weight map" if weight.all() else "weight map (grey: not annotated)"
        _show_weights(figure, next(free), name, weight, label, region, step)
    if probability is not None:
        whose = "the predicted class" if probability_class is None else class_names[probability_class]
        _show_scale(figure, next(free), f"probability of {whose}", probability[thin], "cividis", Normalize(0, 1))
    if prediction is not None:
        _show(next(free), "prediction", drawn[1], key, note)
        if objects is None:
            _show_errors(next(free), error_map(prediction, label, weight), class_names, thin)
        else:
            _show_object_errors(next(free), object_errors(objects[1], objects[0], weight), thin)
    return figure


def curves_figure(rows: Sequence[Mapping[str, float | None]], title: str = "") -> Figure:
    """Draw training curves: loss, validation metrics and learning rate.

    Dice and IoU of a class named background are left out: near 1 in every training, they would flatten the other lines.
    Metrics with "error" in their name have their own axes, because less is better. With more than eight scores, Dice
    and IoU have their own axes, too. The best value of the first score, the key metric, is marked.

    Args:
        rows: one mapping an epoch, with `epoch`, `loss`, `lr` and any metrics. None or NaN: not measured.
        title: line above the curves.

    Example:
        >>> figure = curves_figure([{"epoch": 1, "loss": 0.7, "lr": 0.1}, {"epoch": 2, "loss": 0.4, "lr": 0.1}])
        >>> [axes.get_title() for axes in figure.axes]
        ['training loss', 'learning rate']
    """
    metrics = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in _NO_METRIC]
    metrics = [name for name in metrics if not name.endswith(_FLAT)]
    errors = [name for name in metrics if "error" in name]
    scores = [name for name in metrics if name not in errors]
    subjects = list(dict.fromkeys(map(_subject, scores)))
    groups = {"training loss": ["loss"], **_score_groups(scores), "validation error": errors, "learning rate": ["lr"]}
    groups = {name: lines for name, lines in groups.items() if lines}
    rows_of_axes = -(-len(groups) // 2)
    figure = new_figure(12.8, 3.6 * rows_of_axes + 0.3, title)
    axes = figure.subplots(rows_of_axes, 2, squeeze=False).ravel()
    for ax in axes[len(groups) :]:
        ax.set_axis_off()
    for ax, (name, lines) in zip(axes, groups.items(), strict=False):
        for line, column in enumerate(lines[:_MOST_LINES]):
            index = subjects.index(_subject(column)) if name.endswith(("Dice", "IoU")) else line
            _draw_line(ax, rows, column, index, is_key=column in scores[:1])
        counted = f"the first {_MOST_LINES} of {len(lines)} " if len(lines) > _MOST_LINES else ""
        _label_axes(ax, counted + name, legend=name.startswith("validation"))
        ax.set_xlim(0.5, max([float(row["epoch"] or 0) for row in rows], default=1.0) + 0.5)
    return figure


def save_figure(figure: Figure, path: str | Path) -> np.ndarray:
    """Render a figure once and write the pixels as PNG. The file appears completely or not at all.

    Returns:
        the pixels, as from `figure_pixels`.

    Example:
        >>> from scripts.plot import curves_figure
        >>> save_figure(curves_figure([]), "curves.png").shape
        (390, 1280, 3)
    """
    pixels = figure_pixels(figure)
    save_image(pixels, path)
    return pixels


def figure_pixels(figure: Figure) -> np.ndarray:
    """Render a figure to uint8 (H, W, 3), for example for TensorBoard.

    Example:
        >>> from scripts.plot import curves_figure
        >>> figure_pixels(curves_figure([])).shape
        (390, 1280, 3)
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def new_figure(width: float, height: float, title: str = "", dpi: float = _DPI) -> Figure:
    """Make an empty white figure, in inches. matplotlib's constrained layout keeps its parts from overlapping.

    Args:
        width, height: in inches.
        title: line above all.
        dpi: pixels per inch.

    Example:
        >>> new_figure(width=3, height=2).axes
        []
    """
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def mark_best(ax: Axes, x: float, y: float, colour: str, layer: int) -> None:
    """Draw a ring around the best value of a line.

    Example:
        >>> ax = new_figure(width=3, height=2).subplots()
        >>> mark_best(ax, 1, 0.9, "#0072B2", layer=3)
    """
    ax.plot([x], [y], "o", color=colour, markersize=9, markerfacecolor="none", clip_on=False, zorder=layer)


def _show(
    axes: tuple[Axes, Axes], title: str, image: np.ndarray, key: Sequence[tuple[str, str]], note: str = ""
) -> None:
    """Draw an image, and below it a legend of (name, colour), or a note."""
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
    elif note:
        below.text(0.5, 1.0, note, fontsize=9, horizontalalignment="center", verticalalignment="top")


def _show_scale(
    figure: Figure, axes: tuple[Axes, Axes], title: str, values: np.ndarray, colours: str, scale: Normalize
) -> None:
    """Draw values in colours, and a colour bar below. Masked values are grey."""
    ax, below = axes
    _show(axes, title, values, [])
    drawn = ax.images[0]
    drawn.set(cmap=colormaps[colours].with_extremes(bad=GREY), norm=scale)
    bar = figure.colorbar(drawn, cax=below.inset_axes((0.05, 0.65, 0.9, 0.3)), orientation="horizontal")
    bar.ax.tick_params(labelsize=9)
    bar.minorticks_off()
    ticks: list[float] = []
    for value in MaxNLocator(6).tick_values(0, float(scale.vmax or 1))[::-1]:
        if 0 <= value <= (scale.vmax or 1) and (not ticks or scale(ticks[-1]) - scale(value) > 0.1):
            ticks.append(float(value))
    bar.set_ticks(ticks)


def _show_weights(
    figure: Figure,
    axes: tuple[Axes, Axes],
    title: str,
    weight: np.ndarray,
    label: np.ndarray,
    region: Region,
    step: int,
) -> None:
    """Draw a weight map. Borders between objects are bright, also beside heavy classes."""
    part = weight[region.rows, region.columns]
    if step > 1:  # the largest weight of every few pixels: borders are a pixel wide
        part = block_reduce(part, (step, step), np.max)
    highest, of_classes = float(weight.max()), float(weight[label > 0].max(initial=0))
    share = of_classes / highest if highest else 0.0
    gamma = float(np.clip(np.log(DIM) / np.log(share), 1, 6)) if 0 < share < 1 else 1.0
    scale = PowerNorm(gamma, 0, highest or 1.0)
    _show_scale(figure, axes, title, np.ma.masked_equal(part, 0), "magma", scale)


def _show_errors(axes: tuple[Axes, Axes], errors: np.ndarray, class_names: Sequence[str], thin: tuple) -> None:
    """Draw every n-th pixel of an error map, by the index `thin`. The title has the share of wrong pixels of all."""
    annotated = int((errors != UNKNOWN).sum())
    wrong = annotated - int((errors == CORRECT).sum())
    share = f"{wrong / annotated:.2%} of pixels" if annotated else "nothing annotated"
    _show_kinds(axes, f"error ({share})", errors, thin, pixel_error_names(class_names), PIXEL_COLOURS)


def _show_object_errors(axes: tuple[Axes, Axes], errors: ObjectErrors, thin: tuple) -> None:
    """Draw missed and false objects. The title counts those of the whole image."""
    of = errors.mistakes
    title = f"error ({of.missed} of {of.truth} objects missed, {of.false} false, at IoU .5)"
    _show_kinds(axes, title, errors.kinds, thin, OBJECT_NAMES, OBJECT_COLOURS)


def _show_kinds(
    axes: tuple[Axes, Axes],
    title: str,
    kinds: np.ndarray,
    thin: tuple,
    names: Mapping[int, str],
    colours: Mapping[int, str],
) -> None:
    """Draw kinds of errors. The legend has missed and false, and the other kinds that occur."""
    table = np.ones((1 + max(*colours, *PAPER), 3), np.float32)
    for kind, colour in {**colours, **PAPER}.items():
        table[kind] = to_rgb(colour)
    there = [kind for kind in names if kind in (MISSED, FALSE) or (kinds == kind).any()]
    _show(axes, title, table[kinds[thin]], [(names[kind], colours[kind]) for kind in there])


def _score_groups(scores: list[str]) -> dict[str, list[str]]:
    """Group scores by axes: all together, or Dice, IoU and the rest if there are more than eight."""
    if len(scores) <= _MOST_LINES:
        return {"validation scores": scores}
    dice, iou = ([score for score in scores if kind in score] for kind in ("dice", "iou"))
    rest = [score for score in scores if score not in dice + iou]
    return {"validation scores": rest, "validation Dice": dice, "validation IoU": iou}


def _subject(column: str) -> str:
    """Reduce a score to its class. Dice and IoU of one class share a colour."""
    return column.replace("dice", "").replace("iou", "")


def _draw_line(ax: Axes, rows: Sequence[Mapping[str, float | None]], column: str, index: int, is_key: bool) -> None:
    """Draw one metric. The key metric lies on top, with its best value marked."""
    points = [(row["epoch"], row[column]) for row in rows if row.get(column) is not None]
    known = np.array([(e, v) for e, v in points if v == v], dtype=float).reshape(-1, 2)
    colour = _LINES[index % len(_LINES)]
    name = column.removeprefix("val_").replace("_", " ").replace("dice", "Dice").replace("iou", "IoU")
    layer = 3 if is_key else 2
    if is_key and len(known):
        epoch, value = known[np.argmax(known[:, 1])]
        name += f" (best {value:.4f}, epoch {int(epoch)})"
        mark_best(ax, epoch, value, colour, layer)
    marker = "o" if len(known) <= 30 else ""
    width = 2.2 if is_key else 1.5
    ax.plot(*known.T, color=colour, marker=marker, markersize=3, linewidth=width, zorder=layer, label=name)


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
    if legend:  # below: inside, it would hide lines
        columns = 2 if len(ax.lines) > 3 else 3
        place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4}  # in letters
        ax.legend(fontsize=9, frameon=False, ncols=columns, **place)
