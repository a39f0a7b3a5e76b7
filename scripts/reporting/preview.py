"""Show what a training will see: whole images with separated objects, weights and tiles, and augmented samples."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Randomizable

from ..data.items import describe_failure, paths_in
from ..failures import cause_of
from ..handlers.run_file import typed_command
from ..handlers.tracking import building_parser, settings_of
from ..inferers.tiling import TileRule, plan_tiles
from ..io.arrays import as_array
from ..io.names import shown
from ..metrics.pixels import split_target
from ..networks.geometry import reflect_index
from ..plot.overlays import BLUE, ORANGE, RED, YELLOW, class_key
from .page import own_version, render, write_page
from .page_file import check_page
from .pictures import Layer, Picture, label_layer, line_layer, map_layer, picture

logger = logging.getLogger(__name__)

MOST_BYTES = 15_000_000  # of all pictures
SAMPLES = 2  # of each image
SPACING = 32  # pixels between grid lines
BRIGHT, LIMIT = 100.0, 30.0  # grid lines before the transforms, and the limit to find the lines after them
OWN_OPTIONS = ("--open", "--output", "--images", "--preview#images", "--preview#path")
SETTINGS = (
    *("dataset_dir", "label_kind", "class_names", "in_channels", "intensity", "flatten", "input_size", "batch_size"),
    *("separation_gap", "w0", "sigma", "class_balance", "rotation", "flip_prob", "scale", "elastic_points"),
    *("elastic_sigma", "shift_intensity", "scale_intensity", "noise_std", "seed"),
)
BRIGHT_WEIGHTS = "Bright in the weight map: rare classes (class_balance), and narrow background between two"
QUESTIONS = {  # label_kind: what to look for
    "instances": "Are the labels on the objects, and are touching objects separated? If not, look at label_kind and "
    f"separation_gap. {BRIGHT_WEIGHTS} objects (w0, sigma).",
    "binary": "Are the labels on the objects? Objects that touch in the label are a single object: number the objects "
    f"to separate them. {BRIGHT_WEIGHTS} labelled regions (w0, sigma).",
    "classes": "Has each class the right pixels and the right name? If not, look at label_values and class_names. "
    f"{BRIGHT_WEIGHTS} labelled regions, of any class (w0, sigma).",
}


class TrainingPreview:
    """Write a page about what a training will see.

    Args:
        path: the page.
        items: training images, as in a datalist.
        once: transforms of a whole image: loads and normalises, and adds `label`, `reference`, `instances`, `weight`.
        each: transforms of a training sample. Its random transforms are drawn by `seed`.
        network: for the sizes of the tiles.
        inferer: a `scripts.inferers.OverlapTileInferer`, for the sizes of the tiles.
        input_size: length of the tiles in pixels.
        class_names: names of all classes, the background first.
        label_kind: "instances", "binary" or "classes".
        images: number of images, evenly from `items`.
        seed: of the samples.

    Raises:
        ForeignPageError: at `write`: the file is of another program.
        ValueError: at `write`: no image can be read.

    Example, in a configuration::

        preview: {_target_: scripts.reporting.TrainingPreview, path: preview.html, items: "$@split['training']", ...}
    """

    def __init__(
        self,
        path: str | Path,
        items: Sequence[Mapping[str, Any]],
        once: Callable[[Any], Any],
        each: Compose,
        network: torch.nn.Module,
        inferer: Any,
        input_size: int = 572,
        class_names: Sequence[str] = ("background", "cell"),
        label_kind: str = "instances",
        images: int = 6,
        seed: int = 0,
    ) -> None:
        self.path = Path(path)
        self.items = items
        self.once = once
        self.each = each
        self.rule: TileRule = inferer.tile_rule(network)
        self.input_size = int(input_size)
        self.class_names = list(class_names)
        self.label_kind = label_kind
        self.images = images
        self.seed = seed
        self.parser = building_parser()

    def write(self) -> None:
        """Write the page."""
        check_page(self.path)
        count = max(1, min(self.images, len(self.items)))
        chosen = [self.items[k] for k in np.unique(np.linspace(0, len(self.items) - 1, count).astype(int))]
        most = MOST_BYTES // (len(chosen) * (2 + SAMPLES))
        whole, tiled, samples, failures = [], [], [], []
        for number, item in enumerate(chosen):
            name = Path(next(paths_in([item["image"]]), "image")).name
            try:
                loaded = self.once(dict(item))
                whole.append(whole_picture(name, loaded, self.class_names, most, self.label_kind))
                tiled.append(tiles_picture(name, as_array(loaded["image"]), self.rule, self.input_size, most))
                samples += [self._sample(name, item, SAMPLES * number + k, most) for k in range(SAMPLES)]
            except Exception as error:  # whatever an image raises: the others go on
                failures.append(describe_failure(name, cause_of(error)))
        if not whole:
            raise ValueError(f"none of {len(chosen)} images can be shown. The first: {failures[0]}")
        for failure in failures:
            logger.warning("no preview of %s", failure)
        write_page(self.path, self._page(whole, tiled, samples, failures))

    def _sample(self, name: str, item: Mapping[str, Any], number: int, most: int) -> Picture:
        """Draw a training sample, and once more with grid lines in place of the image."""
        steps = list(self.each.transforms)
        first = next((k for k, step in enumerate(steps) if isinstance(step, Randomizable)), len(steps))
        fixed, drawn = Compose(steps[:first]), Compose(steps[first:])
        prepared = fixed(dict(item))
        drawn.set_random_state(self.seed + number)
        sample = drawn(dict(prepared))
        drawn.set_random_state(self.seed + number)
        lines = torch.as_tensor(grid(as_array(prepared["image"]).shape[-2:]) * BRIGHT)[None]
        grid_sample = drawn({**prepared, "image": lines.expand_as(torch.as_tensor(prepared["image"])).clone()})
        label, weight = split_target(as_array(sample["label"]))
        arrays = as_array(sample["image"]), as_array(grid_sample["image"])[0], label, weight
        return sample_picture(f"{name}, sample {number % SAMPLES + 1}", *arrays, self.class_names, most)

    def _page(
        self, whole: Sequence[Picture], tiled: Sequence[Picture], samples: Sequence[Picture], failures: Sequence[str]
    ) -> str:
        settings: dict[str, str] = {}
        if self.parser is not None:
            settings = settings_of(self.parser.get(), self.parser.ref_resolver.resolved_content)
        first = next(paths_in([self.items[0]["image"]]), "")
        dataset = Path(settings.get("dataset_dir") or Path(first).parent).resolve().name or "data"
        depth = f"{self.rule.depth} poolings"
        sections = [
            {
                "id": "whole",
                "title": "Images, labels and weights",
                "text": QUESTIONS[self.label_kind],
                "first": {"instances": "separated", "binary": "labels"}.get(self.label_kind, "classes"),
                "pictures": whole,
            },
            {
                "id": "samples",
                "title": "Augmented samples",
                "text": f"{SAMPLES} samples of each image, as the network sees them: cut out, turned, mirrored, bent "
                f"and with other grey values. Grid lines were straight, {SPACING} pixels apart. Do the samples still "
                "look like real images? If not, lower rotation, scale, elastic_sigma or the changes of grey values.",
                "first": "grid",
                "pictures": samples,
            },
            {
                "id": "tiles",
                "title": "Tiles over the mirrored image",
                "text": f"Segmentation in tiles of {self.input_size} pixels ({depth}): each tile sees more of the "
                "image than it predicts. Beyond its edge, the image is mirrored. Inference may choose larger tiles.",
                "first": "tiles",
                "pictures": tiled,
            },
        ]
        return render(
            "preview",
            version=own_version(),
            title=f"{shown(dataset)}: preview",
            kind="Preview of a training",
            heading=shown(dataset),
            subtitle=f"{len(whole)} of {len(self.items)} training images, chosen evenly.",
            contents=[(str(section["id"]), section["title"]) for section in sections] + [("settings", "Settings")],
            sections=sections,
            failures=failures,
            facts=[(name, settings[name]) for name in SETTINGS if settings.get(name) not in (None, "None")],
            command=train_command(sys.orig_argv),
        )


def train_command(words: Sequence[str]) -> str:
    """Write the command that trains with the settings of a preview. "": the preview was started otherwise.

    Example:
        >>> train_command(["program", "preview", "my/data", "--w0", "5", "--open", "--images", "3"])
        'program train my/data --w0 5'
    """
    if "preview" not in words:
        return ""
    kept: list[str] = []
    dropped = ""
    for word in words:
        name = word.partition("=")[0]
        if name in OWN_OPTIONS:
            dropped = "" if "=" in word or name == "--open" else name
        elif dropped:
            dropped = ""
        else:
            kept.append(word)
    kept[kept.index("preview")] = "train"
    return typed_command(kept)


def grid(size: tuple[int, ...], spacing: int = SPACING) -> np.ndarray:
    """Draw grid lines 2 pixels wide, float32 (H, W): 1 on a line.

    Example:
        >>> grid((3, 5), spacing=3)[2].tolist()
        [1.0, 1.0, 0.0, 1.0, 1.0]
    """
    rows, columns = np.indices(size)
    return ((rows % spacing < 2) | (columns % spacing < 2)).astype(np.float32)


def whole_picture(
    name: str, item: Mapping[str, Any], class_names: Sequence[str], most_bytes: int, label_kind: str = "instances"
) -> Picture:
    """Draw an image with its labels, separated objects and weight map.

    Args:
        name: title.
        item: `image` (C, H, W), `label` classes (1, H, W), and if present `reference` objects as labelled, `instances`
            separated objects, `weight`, each (1, H, W).
        class_names: names of all classes.
        most_bytes: for the picture.
        label_kind: "instances", "binary" or "classes". Objects are separated for "instances" alone.

    Example:
        >>> item = {"image": np.zeros((1, 4, 4)), "label": np.ones((1, 4, 4))}
        >>> [layer["name"] for layer in whole_picture("a.png", item, ["background", "cell"], 10**5).layers]
        ['classes']
    """
    classes = as_array(item["label"])[0].astype(int)
    maps = {key: as_array(item[key])[0] for key in ("reference", "instances", "weight") if key in item}
    each = [("a colour for each object", "#56B4E9")]
    layers, facts = [], []
    if len(class_names) > 2 or "reference" not in maps:
        layers.append(label_layer("classes", classes, class_key(class_names)))
    if "reference" in maps and len(class_names) == 2:
        labelled = maps["reference"].astype(int)
        layers.append(label_layer("labels", labelled, each))
        facts.append(f"{len(np.unique(labelled[labelled > 0]))} objects")
    if "instances" in maps and label_kind == "instances":
        separated = maps["instances"].astype(int)
        layers.append(_separated(maps.get("reference", separated).astype(int), separated, facts))
    if "weight" in maps:
        weight = maps["weight"]
        layers.append(_weight_layer(weight, classes, class_names))
        facts.append(f"weights from {weight.min():.2g} to {weight.max():.3g}")
        if (weight == 0).any():
            facts.append(f"{100 * np.mean(weight == 0):.1f} % of the pixels are not annotated")
    return picture(name, as_array(item["image"]), layers, most_bytes, facts)


def _separated(labelled: np.ndarray, separated: np.ndarray, facts: list[str]) -> Layer:
    """Show the objects after the gap, and the pixels that the gap has taken."""
    taken = (labelled > 0) & (separated == 0)
    share = 100 * taken.sum() / max((labelled > 0).sum(), 1)
    facts.append(f"the gap takes {share:.1f} % of the pixels of objects")
    if not taken.any():
        note = "Nothing was separated: no objects touch, or the labels do not number the objects."
        return label_layer("separated", separated, [("a colour for each object", "#56B4E9")], note=note)
    shown_values = np.where(taken, 1, np.where(separated > 0, 2, 0))
    legend = [("taken by the gap", RED), ("object", BLUE)]
    note = "The gap between touching objects becomes background, and gets a high weight."
    return label_layer("separated", shown_values, legend, {1: RED, 2: BLUE}, outline=False, note=note, inside=170)


def _weight_layer(weight: np.ndarray, classes: np.ndarray, class_names: Sequence[str]) -> Layer:
    """Show the weights, with the usual weight of each class."""
    highest = max(float(weight.max()), 1e-6)
    places = {name: (classes == k) & (weight > 0) for k, name in enumerate(class_names)}
    usual = [f"{name} {np.median(weight[place]):.2g}" for name, place in places.items() if place.any()]
    annotated = weight[weight > 0]
    if annotated.size and annotated.min() == annotated.max():
        note = "All pixels have the same weight in the loss."
    else:
        note = f"Weight of each pixel in the loss. Median: {', '.join(usual)}. Largest: {highest:.3g}."
    return map_layer("weight map", weight, "magma", (0.0, highest), note=note)


def tiles_picture(name: str, image: np.ndarray, rule: TileRule, tile: int, most_bytes: int) -> Picture:
    """Draw the tiles of an image (C, H, W) over the mirrored image.

    Args:
        name: title.
        image: (C, H, W).
        rule: sizes that fit the network.
        tile: length of the tiles in pixels; another length if this one does not fit `rule`.
        most_bytes: for the picture.

    Example:
        >>> tiles_picture("a.png", np.zeros((1, 512, 512)), TileRule(), 572, 10**6).facts[0]
        '4 tiles of 572 x 572'
    """
    size = image.shape[-2:]
    length = rule.at_most(max(tile, rule.tile_for(rule.step)))
    plan = plan_tiles(size, rule, tile_size=length)
    ends = [max(span[1] for span in spans) for spans in zip(*((t.rows, t.columns) for t in plan.tiles), strict=True)]
    starts = [[t.rows[0] for t in plan.tiles], [t.columns[0] for t in plan.tiles]]
    margin = plan.margin
    reach = [max(start) - margin + length for start in starts]
    index = [
        reflect_index(np.arange(-margin, max(end, stop)), n) for end, stop, n in zip(ends, reach, size, strict=True)
    ]
    mirrored = image[:, index[0][:, None], index[1]]

    def lines(canvas: np.ndarray, scale: float) -> None:
        for each in plan.tiles:
            _frame(canvas, each.rows, each.columns, margin, scale, value=1, width=2)
        first = plan.tiles[0]
        seen = [(start - margin, start - margin + length) for start in (first.rows[0], first.columns[0])]
        _frame(canvas, seen[0], seen[1], margin, scale, value=2, width=3)
        _frame(canvas, (0, size[0]), (0, size[1]), margin, scale, value=3, width=3)

    legend = [("image", YELLOW), ("what each tile predicts", BLUE), ("what the first tile sees", ORANGE)]
    colours = {1: BLUE, 2: ORANGE, 3: YELLOW}
    height, width = mirrored.shape[-2:]
    layer = line_layer("tiles", lines, (height, width), colours=colours, legend=legend)
    outside = 1 - np.prod(size) / (height * width)
    count = len(plan.tiles)
    facts = [
        f"{count} tile{'s' if count > 1 else ''} of {length} x {length}",
        f"{100 * outside:.0f} % of the pixels seen are mirrored",
    ]
    return picture(name, mirrored, [layer], most_bytes, facts)


def _frame(
    canvas: np.ndarray, rows: Sequence[int], columns: Sequence[int], shift: int, scale: float, value: int, width: int
) -> None:
    """Draw a rectangle on a canvas of another scale. `rows` and `columns` are pixels of the image."""
    (top, bottom), (left, right) = ([round((n + shift) * scale) for n in span] for span in (rows, columns))
    bottom, right = min(bottom, canvas.shape[0]), min(right, canvas.shape[1])
    top, left = max(top, 0), max(left, 0)
    canvas[top : top + width, left:right] = canvas[max(bottom - width, 0) : bottom, left:right] = value
    canvas[top:bottom, left : left + width] = canvas[top:bottom, max(right - width, 0) : right] = value


def sample_picture(
    name: str,
    image: np.ndarray,
    lines: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray | None,
    class_names: Sequence[str],
    most_bytes: int,
) -> Picture:
    """Draw an augmented sample with grid lines, label and weights.

    Args:
        name: title.
        image: (C, h, w), the input of the network.
        lines: (h, w), transformed grid lines, up to `BRIGHT`.
        label: classes (h', w'), the output of the network, in the centre of the image.
        weight: weight map (h', w'). None: none.
        class_names: names of all classes.
        most_bytes: for the picture.

    Example:
        >>> arrays = np.zeros((1, 8, 8)), np.zeros((8, 8)), np.ones((4, 4)), None
        >>> [layer["name"] for layer in sample_picture("a", *arrays, ["background", "cell"], 10**5).layers]
        ['grid', 'label']
    """
    size = image.shape[-2:]
    key = [*class_key(class_names), ("output of the network", YELLOW)]
    inside = _centred(label.astype(int), size, 0)
    window = _centred(np.ones(label.shape, int), size, 0)
    colours = {k: colour for k, (_, colour) in enumerate(class_key(class_names), 1)}
    edge = len(colours) + 1
    marked = np.where(_edge(window), edge, np.where(inside > 0, inside, 0))
    layers = [
        label_layer("grid", (lines > LIMIT).astype(int), [("grid line", YELLOW)], {1: YELLOW}, inside=200),
        label_layer("label", marked, key, {**colours, edge: YELLOW}),
    ]
    facts = []
    if weight is not None:
        layers.append(_weight_layer(_centred(weight, size, 0.0), _centred(label, size, -1), class_names))
        facts.append(f"weights up to {weight.max():.3g}")
    known = label >= 0
    share = 100 * np.mean(label[known] > 0) if known.any() else 0.0
    facts.append(f"{share:.0f} % of the output is {'not background' if len(class_names) > 2 else class_names[1]}")
    return picture(name, image, layers, most_bytes, facts)


def _centred(values: np.ndarray, size: Sequence[int], otherwise: float) -> np.ndarray:
    """Put an array into the centre of a larger one."""
    placed = np.full(tuple(size), otherwise, values.dtype)
    top, left = ((outer - inner) // 2 for outer, inner in zip(size, values.shape, strict=True))
    placed[top : top + values.shape[0], left : left + values.shape[1]] = values
    return placed


def _edge(window: np.ndarray) -> np.ndarray:
    """Mark the outermost 2 pixels of a rectangle of ones."""
    rows, columns = np.flatnonzero(window.any(axis=1)), np.flatnonzero(window.any(axis=0))
    inner = np.zeros(window.shape, bool)
    inner[rows[0] + 2 : rows[-1] - 1, columns[0] + 2 : columns[-1] - 1] = True
    return (window > 0) & ~inner
