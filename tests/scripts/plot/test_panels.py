"""Content of figures. Texts are neither cut off nor overlap."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from scripts.plot.overlays import save_image
from scripts.plot.panels import curves_figure, figure_pixels, panel_figure, save_figure


def _texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """List every visible text of a figure with its box in pixels."""
    figure_pixels(figure)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]  # of the Agg canvas
    hidden = set(_hidden_tick_labels(figure))
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in hidden]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts]


def _hidden_tick_labels(figure: Figure) -> Iterator[Text]:
    """Yield tick labels outside the limits or of axes without frame. Matplotlib keeps but does not draw them."""
    for axes in figure.findobj(Axes):
        for index, axis in enumerate((axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            for text in axis.get_ticklabels(which="both"):
                if not (axes.axison and low <= text.get_position()[index] <= high):
                    yield text


def _assert_readable(figure: Figure) -> None:
    """Check all texts: inside the figure, without overlap."""
    placed = _texts(figure)
    width, height = figure.canvas.get_width_height()
    for text, box in placed:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (text, box), (other_text, other) in combinations(placed, 2):
        overlap = Bbox.intersection(box, other)
        assert overlap is None or min(overlap.width, overlap.height) < 1, f"{text!r} overlaps {other_text!r}"


def _arrays(height: int, width: int, k: int = 2) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    label, other = generator.integers(0, k, (2, height, width))
    return {
        "image": generator.normal(size=(1, height, width)),
        "label": label,
        "weight": generator.uniform(0.5, 12, (height, width)),
        "probability": generator.uniform(0, 1, (height, width)),
        "prediction": np.where(generator.random((height, width)) < 0.9, label, other),
    }


@pytest.mark.parametrize("size", [(64, 64), (40, 100), (100, 40)])
@pytest.mark.parametrize("k", [2, 10])
def test_the_panel_is_readable(size: tuple[int, int], k: int) -> None:
    names = ["background", *(f"layer {i}" for i in range(1, k))]
    arrays = _arrays(*size, k)
    arrays["weight"][:5] = 0
    figure = panel_figure(**arrays, class_names=names, title="slice 3, epoch 12")
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    wrong = ((arrays["prediction"] != arrays["label"]) & (arrays["weight"] > 0)).sum() / (arrays["weight"] > 0).sum()
    assert titles == [
        "image",
        "label",
        "weight map (grey: not annotated)",
        "probability of layer 1",
        "prediction",
        f"error ({wrong:.2%} of pixels)",
    ]
    _assert_readable(figure)


def test_the_error_panel_shows_the_error_map() -> None:
    arrays = _arrays(30, 40)
    arrays["weight"][0] = 0
    figure = panel_figure(**arrays, class_names=["membrane", "cell"])
    ax = next(ax for ax in figure.axes if ax.get_title().startswith("error"))
    shown = np.asarray(ax.images[0].get_array())
    white = (shown == 1).all(axis=-1)
    np.testing.assert_array_equal(white[1:], (arrays["prediction"] == arrays["label"])[1:])
    assert not white[0].any()
    keys = [text.get_text() for ax in figure.axes if ax.get_legend() for text in ax.get_legend().get_texts()]
    assert keys[-3:] == ["missed membrane", "false membrane", "not annotated"]


@pytest.mark.parametrize(
    "shape, drawn", [((1024, 500), (1024, 500)), ((600, 1100), (300, 550)), ((2100, 30), (700, 10))]
)
def test_of_large_images_every_few_pixels_are_drawn_and_all_count(
    shape: tuple[int, int], drawn: tuple[int, int]
) -> None:
    arrays = _arrays(*shape)
    step = shape[0] // drawn[0]
    y, x = np.indices(shape)
    arrays["label"] = (y // 300 + x // 300) % 2  # large objects: the image is drawn whole
    arrays["weight"][-1, -1] = 0  # not among the pixels drawn of large images
    arrays["prediction"] = arrays["label"].copy()
    arrays["prediction"][1:9, 1:9] = 1 - arrays["label"][1:9, 1:9]
    for more in ({}, {"objects": (arrays["label"], arrays["prediction"])}):
        figure = panel_figure(**arrays, **more)
        pictures = {ax.get_title(): np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.get_title()}
        assert len(pictures) == 6
        assert {picture.shape[:2] for picture in pictures.values()} == {drawn}
        np.testing.assert_array_equal(pictures["probability of cell"], arrays["probability"][::step, ::step])
        assert "weight map (grey: not annotated)" in pictures
    pictures = {
        ax.get_title(): np.asarray(ax.images[0].get_array()) for ax in panel_figure(**arrays).axes if ax.get_title()
    }
    title = f"error ({64 / (np.prod(shape) - 1):.2%} of pixels)"
    wrong = (pictures[title] != pictures[title][-2, -2]).any(axis=-1)
    wrong[-1, -1] = False
    np.testing.assert_array_equal(
        np.argwhere(wrong), np.argwhere((arrays["prediction"] != arrays["label"])[::step, ::step])
    )


def _images(figure: Figure) -> dict[str, np.ndarray]:
    return {ax.get_title(): np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.get_title()}


def test_of_many_small_objects_a_part_is_drawn_and_the_title_says_so() -> None:
    label = np.zeros((900, 1000), int)
    label[::20, ::20] = np.arange(45 * 50).reshape(45, 50) + 1
    label = np.maximum.reduce([np.roll(label, (dy, dx), axis=(0, 1)) for dy in range(6) for dx in range(6)])
    found = label.copy()
    found[label == label[400, 400]] = 0
    figure = panel_figure(
        label * 1.0, (label > 0) * 1, None, None, (found > 0) * 1, objects=(label, found), title="a.png"
    )
    height, width = _images(figure)["label"].shape[:2]
    assert max(height, width) < 400
    assert figure.get_suptitle() == f"a.png, {height} x {width} of 900 x 1000 pixels"
    assert "error (1 of 2250 objects missed, 0 false, at IoU .5)" in _images(figure)
    _assert_readable(figure)


def test_the_error_panel_of_objects_fills_missed_and_false_ones() -> None:
    label = np.zeros((60, 90), int)
    label[5:25, 5:25], label[5:25, 40:60] = 1, 2
    found = np.zeros_like(label)
    found[5:25, 6:26], found[35:55, 40:60] = 7, 8
    figure = panel_figure(label * 1.0, (label > 0) * 1, None, None, (found > 0) * 1, objects=(label, found))
    shown = _images(figure)["error (1 of 2 objects missed, 1 false, at IoU .5)"]
    names = {tuple(np.round(shown[place], 3)): place for place in ((45, 50), (15, 50), (15, 15))}
    assert len(names) == 3
    ax = next(ax for ax in figure.axes if ax.get_title().startswith("error"))
    np.testing.assert_allclose(shown[15, 50], _colour_in(ax, "missed object"), atol=1e-6)
    np.testing.assert_allclose(shown[45, 50], _colour_in(ax, "false object"), atol=1e-6)
    _assert_readable(figure)


@pytest.mark.parametrize(
    "class_names, expected",
    [
        (["membrane", "cell"], ["missed membrane", "false membrane"]),
        (["background", "nucleus"], ["false nucleus", "missed nucleus"]),
        (["background", "nucleus", "debris"], ["false foreground", "missed foreground", "other class"]),
    ],
)
def test_pixel_errors_are_named_after_what_is_missed_or_false(class_names: list[str], expected: list[str]) -> None:
    label = np.zeros((9, 12), int)
    label[2:5, 2:5] = 1
    found = np.roll(label, 2, axis=1)
    if len(class_names) > 2:
        found[2, 4] = 2
    figure = panel_figure(label * 1.0, label, None, None, found, class_names)
    legend = figure.axes[-1].get_legend() or next(ax.get_legend() for ax in figure.axes[::-1] if ax.get_legend())
    assert [text.get_text() for text in legend.get_texts()] == expected
    ax = next(ax for ax in figure.axes if ax.get_title().startswith("error"))
    missed = next(name for name in expected if name.startswith("missed" if class_names[0] == "background" else "false"))
    np.testing.assert_allclose(_images(figure)[ax.get_title()][3, 2], _colour_in(ax, missed), atol=1e-6)


@pytest.mark.parametrize("of_objects", [0.4, 4.0, 40.0])
def test_borders_are_bright_and_objects_dark_in_the_weight_map(of_objects: float) -> None:
    label = np.zeros((40, 40), int)
    label[10:20, 10:30], label[21:30, 10:30] = 1, 2
    weight = np.where(label > 0, of_objects, 0.5)
    weight[20, 10:30] = of_objects + 10.0
    figure = panel_figure(weight, (label > 0) * 1, weight)
    drawn = next(ax for ax in figure.axes if ax.get_title() == "weight map").images[0]
    brightness = drawn.norm(weight)
    assert brightness[20, 15] == 1
    assert brightness[15, 15] <= 0.35


def _colour_in(axes: Axes, name: str) -> tuple[float, ...]:
    """Get the colour of a name in the legend below a picture."""
    legend = next(child.get_legend() for child in axes.figure.axes if child.get_legend() and _below(axes, child))
    names = [text.get_text() for text in legend.get_texts()]
    return legend.get_patches()[names.index(name)].get_facecolor()[:3]


def _below(axes: Axes, other: Axes) -> bool:
    one, two = axes.get_subplotspec(), other.get_subplotspec()
    return one.rowspan.stop == two.rowspan.start and one.colspan == two.colspan


def test_every_class_has_the_colour_that_the_key_gives_its_name() -> None:
    names = ["membrane", "cell", "mitochondria", "synapse", "glia"]
    label = np.repeat(np.arange(5), 40).reshape(1, -1).repeat(40, axis=0)
    flat = np.full((1, *label.shape), 7.0)  # shown black: tints are darkened colours
    probability = np.full(label.shape, 0.5)
    figure = panel_figure(flat, label, None, probability, label[:, ::-1], names, probability_class=None)
    titles = {ax.get_title(): ax for ax in figure.axes}
    assert "probability of the predicted class" in titles
    for title, classes in (("label", label), ("prediction", label[:, ::-1])):
        shown = np.asarray(titles[title].images[0].get_array())
        for number, name in enumerate(names[1:], start=1):
            here = np.unique(shown[classes == number], axis=0)
            np.testing.assert_allclose(here, [0.6 * 255 * np.array(_colour_in(titles[title], name))], atol=1)
        assert shown[classes == 0].max() == 0
        assert _colour_in(titles[title], "membrane (untinted)")
    _assert_readable(figure)


def test_panels_without_data_are_left_out() -> None:
    arrays = _arrays(30, 40)
    figure = panel_figure(arrays["image"], arrays["label"])
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["image", "label"]
    nothing_annotated = np.full_like(arrays["label"], -1)
    figure = panel_figure(arrays["image"], nothing_annotated, prediction=arrays["prediction"])
    assert "error (nothing annotated)" in [ax.get_title() for ax in figure.axes]


def _history(epochs: int, validated_every: int) -> list[dict[str, float | None]]:
    rows: list[dict[str, float | None]] = []
    for epoch in range(1, epochs + 1):
        row: dict[str, float | None] = {"epoch": epoch, "iteration": 10 * epoch, "lr": 0.1 / epoch, "loss": 1 / epoch}
        measured = epoch % validated_every == 0
        row["val_mean_dice"] = 1 - 1 / epoch - (0.2 if epoch == epochs else 0) if measured else None
        row["val_pixel_error"] = 1 / epoch if measured else None
        rows.append(row)
    return rows


def test_curves_show_the_rows_and_mark_the_best_value() -> None:
    figure = curves_figure(_history(12, 3), title="a run")
    loss, scores, error, rate = figure.axes
    assert [ax.get_title() for ax in figure.axes] == [
        "training loss",
        "validation scores",
        "validation error",
        "learning rate",
    ]
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(e, 1 / e) for e in range(1, 13)])
    np.testing.assert_allclose(error.lines[0].get_xdata(), [3, 6, 9, 12])
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [0.1 / e for e in range(1, 13)])
    assert scores.get_legend().get_texts()[0].get_text() == f"mean Dice (best {1 - 1 / 9:.4f}, epoch 9)"
    _assert_readable(figure)
    for ax in (scores, error):  # as drawn
        assert ax.get_legend().get_window_extent().y1 < ax.get_window_extent().y0


@pytest.mark.parametrize("rows", [[], _history(1, 2), _history(1, 1), _history(300, 10)], ids=len)
def test_curves_of_any_length_are_readable(rows: list[dict[str, float | None]]) -> None:
    _assert_readable(curves_figure(rows))


def test_nan_is_not_drawn() -> None:
    figure = curves_figure([{"epoch": 1, "loss": float("nan"), "lr": 1}, {"epoch": 2, "loss": 0.5, "lr": 1}])
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[2, 0.5]]


def test_many_scores_are_cut_and_the_title_says_so() -> None:
    rows = [{"epoch": e, "loss": 1.0, "lr": 1.0} | {f"iou_{i}": 0.5 + i / 50 for i in range(20)} for e in (1, 2)]
    ax = curves_figure(rows).axes[1]
    assert ax.get_title() == "the first 8 of 20 validation IoU"
    assert len(ax.get_legend().get_texts()) == 8


def test_dice_and_iou_of_several_classes_have_their_own_axes_and_the_same_colours() -> None:
    names = ["membrane", "cell", "mitochondria", "synapse", "glia"]
    scores = ["val_mean_dice", *(f"val_{kind}_{name}" for kind in ("dice", "iou") for name in names)]
    rows = [
        {"epoch": e, "loss": 1.0, "lr": 1.0} | {name: e / 9 + k / 50 for k, name in enumerate(scores)} for e in (1, 2)
    ]
    figure = curves_figure(rows)
    _, dice, iou, _ = figure.axes
    assert (dice.get_title(), iou.get_title()) == ("validation Dice", "validation IoU")
    keys = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in (dice, iou)]
    assert keys[0][0].startswith("mean Dice (best")
    assert keys[0][1:] == [f"Dice {name}" for name in names]
    assert keys[1] == [f"IoU {name}" for name in names]
    colours = [[line.get_color() for line in ax.get_legend().get_lines()] for ax in (dice, iou)]
    assert colours[0][1:] == colours[1]
    assert len(set(colours[0])) == 6
    _assert_readable(figure)


def test_figures_and_images_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "curves.png"
    figure = curves_figure(_history(3, 1))
    pixels = save_figure(figure, path)
    with Image.open(path) as image:
        assert image.size == (1280, 750)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)
    np.testing.assert_array_equal(pixels, figure_pixels(figure))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="unknown"):
        save_figure(figure, tmp_path / "curves.unknown")
    save_image(np.zeros((4, 6, 3), np.uint8), tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as image:
        assert image.size == (6, 4)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["curves.png", "new", "overlay.png"]


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    backend = matplotlib.rcParams._get_backend_or_none()  # a plain look-up would choose one
    figure_pixels(panel_figure(**_arrays(16, 16)))
    assert matplotlib.rcParams._get_backend_or_none() == backend


def test_real_em_slice_with_its_label(data_root: Path) -> None:
    folder = data_root / "isbi2012" / "train"
    with Image.open(sorted((folder / "images").iterdir())[0]) as file:
        image = np.asarray(file)
    with Image.open(sorted((folder / "labels").iterdir())[0]) as file:
        label = (np.asarray(file) > 0).astype(int)
    prediction = label.copy()
    prediction[100:110, 100:110] = 1 - prediction[100:110, 100:110]
    figure = panel_figure(image, label, None, label.astype(float), prediction, ["membrane", "cell"], title="00.png")
    assert figure.axes
    assert any(ax.get_title() == "error (0.04% of pixels)" for ax in figure.axes)  # 100 of 512 x 512
    _assert_readable(figure)
