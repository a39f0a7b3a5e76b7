"""Make the pictures of a report: read or compute the segmentation of some images, and compare with the truth."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from ..data.items import describe_failure, paths_in
from ..failures import cause_of
from ..io.names import plane_address, split_address
from ..io.reader import PlaneReader
from ..io.writer import SegmentationStore
from ..metrics.membranes import THRESHOLDS as MEMBRANES
from ..metrics.membranes import thinned_curves
from ..metrics.objects import instance_counts_of, instance_scores_from_counts
from ..metrics.overlap import overlaps
from ..metrics.pixels import confusion_matrix, dice_per_class, nan_mean
from ..options import converted
from ..plot.errors import UNKNOWN, error_map
from ..plot.overlays import BLUE, GREY, PURPLE, RED, class_key
from ..segmenter import Segmenter
from ..settings import CHOICES, ModelSettings
from ..transforms.instance_labels import InstanceLabelsd
from ..transforms.objects import instances_from_scores
from .gather import Item, Run
from .mistakes import COLOURS, MEANINGS, Mistakes, count_mistakes
from .mistakes import UNKNOWN as NOT_JUDGED
from .pictures import Layer, Picture, label_layer, map_layer, picture

logger = logging.getLogger(__name__)

LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # thresholds of the curve measured here
ERROR = 200  # opacity of errors, 0 to 255
MOST_PIXELS = 25_000_000  # of all images together, for the curve
ERRORS = {1: RED, 2: BLUE, 3: PURPLE, 4: GREY}  # kinds of `scripts.plot.errors.error_map`


@dataclass(frozen=True)
class Segmented:
    """Results of an image. None: not known.

    Args:
        classes: class of each pixel, integer (H, W).
        probability: of class 1, or of the predicted class with several classes, float (H, W).
        instances: objects, integer (H, W).
    """

    classes: np.ndarray | None = None
    probability: np.ndarray | None = None
    instances: np.ndarray | None = None


@dataclass(frozen=True)
class Case:
    """An image of the report.

    Args:
        name: of the image, as in the tables.
        picture: for the viewer.
        scores: measured here; {}: no truth.
        mistakes: None: no objects to compare.
        counts: (T, 3) matches, false and missed objects or pixels at `LEVELS`. None: not measured.
        v_rand: (T,) F-scores at `scripts.metrics.membranes.THRESHOLDS`. None: not measured.
        doubt: mean of 4 p (1 - p) over pixels, 0: all certain, 1: all undecided. None: no probabilities.
    """

    name: str
    picture: Picture
    scores: Mapping[str, float] = field(default_factory=dict)
    mistakes: Mistakes | None = None
    counts: np.ndarray | None = None
    v_rand: np.ndarray | None = None
    doubt: float | None = None


@dataclass(frozen=True)
class Cases:
    """The images of a report.

    Args:
        cases: worst first.
        available: number of images to choose from.
        segmented_here: images segmented for the report, instead of read from results.
        seconds: for the images segmented here.
        failures: a line for each image that could not be read or segmented.
        missing: why there are no pictures; "": there are some.
    """

    cases: Sequence[Case] = ()
    available: int = 0
    segmented_here: int = 0
    seconds: float = 0.0
    failures: Sequence[str] = ()
    missing: str = ""


def make_cases(
    run: Run,
    items: Mapping[str, Item],
    most: int,
    most_bytes: int,
    track: Callable[[Sequence[str], str], Iterable[str]] = lambda names, _: names,
) -> Cases:
    """Choose images of a run, and make their pictures.

    Results in the folder are read. Without results, the images are segmented with the weights of the run. Half of the
    images are the worst by the key metric, if the run has measured the images. The others are drawn at random, by a
    fixed seed.

    Args:
        run: from `read_run`.
        items: from `images_of`.
        most: number of images.
        most_bytes: for all pictures together.
        track: shows progress: gets names and a description, and gives the names one by one.

    Example:
        >>> from pathlib import Path
        >>> make_cases(Run(Path("out"), ("training",)), {}, most=4, most_bytes=10**6).missing[:10]
        'The images'
    """
    names = choose(run, items, most)
    if not names:
        return Cases(missing=_nothing_to_show(run, items))
    results = _Results(run, items)
    if not results.reads and run.weights is None:
        return Cases(missing="The weights of the run were not found, and the run has saved no results: no pictures.")
    cases, failures = [], []
    for name in track(names, "pictures"):
        try:
            cases.append(_case(run, name, items.get(name), results, most_bytes // len(names)))
        except Exception as error:  # whatever an image or its results raise: the others go on
            failures.append(describe_failure(name, cause_of(error) if isinstance(error, RuntimeError) else error))
            logger.warning("no picture of %s", failures[-1])
    key = run.key_column
    cases.sort(key=lambda case: _badness(case, run.table.get(case.name, {}).get(key or "")))
    available = len(items) or len(run.finished) or len(run.areas)
    return Cases(cases, available, results.segmented, round(results.seconds, 1), failures)


def choose(run: Run, items: Mapping[str, Item], most: int) -> list[str]:
    """Choose images: half of them the worst by the key metric, the others at random with a fixed seed.

    Example:
        >>> from pathlib import Path
        >>> run = Run(Path("."), ("evaluation",), table={"a": {"mean_dice": 0.9}, "b": {"mean_dice": 0.1}})
        >>> choose(run, {"a": {}, "b": {}}, most=1)
        ['b']
    """
    names = list(items) or list(run.finished) or list(run.areas)
    if most >= len(names):
        return names
    key = run.key_column
    known = [name for name in names if run.table.get(name, {}).get(key or "") is not None]
    worst = sorted(known, key=lambda name: float(run.table[name][key or ""] or 0))[: (most + 1) // 2]
    others = [name for name in names if name not in set(worst)]
    return [*worst, *random.Random(0).sample(others, most - len(worst))]


def _badness(case: Case, measured: float | None) -> float:
    """Sort key: images with low scores first; without scores, uncertain images first."""
    if measured is not None:
        return measured
    if case.scores:
        return next(iter(case.scores.values()))
    return -(case.doubt or 0.0)


def _nothing_to_show(run: Run, items: Mapping[str, Item]) -> str:
    if run.record.get("items") and not run.is_in_place:
        return (
            "The folder was moved, or comes from elsewhere: no pictures, since its run.json could name any image of "
            "this computer. Name the folder of the images: --data my/data."
        )
    if run.record.get("items"):
        return (
            "The images were not found where the run has read them: no pictures. Name their folder now: --data my/data."
        )
    return "The images of the run are not known: no pictures. Name their folder: --data my/data."


class _Results:
    """Read the results of a run, or segment."""

    def __init__(self, run: Run, items: Mapping[str, Item]) -> None:
        addresses = [next(paths_in([item["image"]])) for item in items.values()] or list(run.finished or run.areas)
        self.run = run
        self.store = SegmentationStore(run.folder, sources=addresses)
        self.reads = any((run.folder / kind).is_dir() for kind in ("instances", "probabilities", "classes"))
        self.segmented, self.seconds = 0, 0.0
        self._segmenter: Segmenter | None = None

    def of(self, address: str, image: np.ndarray | None) -> Segmented:
        """Get the results of an image: read, or segmented."""
        found = self._read(address) if self.reads else Segmented()
        if found.probability is None and found.instances is None and found.classes is None:
            if image is None or self.run.weights is None:
                raise FileNotFoundError(f"neither results of {address} in {self.run.folder} nor image and weights")
            found = self._segment(image)
        return found

    def _read(self, address: str) -> Segmented:
        _, page = split_address(address)
        planes: dict[str, np.ndarray] = {}
        for kind in ("classes", "probabilities", "instances"):
            path = self.store.path_of(kind, address)
            if path.is_file():
                place = str(path) if page is None else plane_address(path, page)
                planes[kind] = PlaneReader(labels=kind != "probabilities").get_data([place])[0]
        classes, scores = planes.get("classes"), planes.get("probabilities")
        values = self.run.settings.class_names if self.run.settings else []
        if classes is not None and classes.max(initial=0) >= max(2, len(values)):  # --class_map_values
            classes = None
        probability = None
        if scores is not None:
            probability = scores[..., 1] if scores.ndim == 3 and scores.shape[2] == 2 else np.atleast_3d(scores).max(2)
            if classes is None:
                classes = np.atleast_3d(scores).argmax(2)
        return Segmented(classes, probability, planes.get("instances"))

    def _segment(self, image: np.ndarray) -> Segmented:
        started = time.perf_counter()
        if self._segmenter is None:
            self._segmenter = Segmenter(self.run.weights, **used_settings(self.run))
        found = self._segmenter(image)
        self.segmented += 1
        self.seconds += time.perf_counter() - started
        scores = found.probabilities
        probability = scores[1] if len(scores) == 2 else scores.max(axis=0)
        return Segmented(found.classes, probability, found.instances)


def used_settings(run: Run) -> dict[str, Any]:
    """List the settings of `Segmenter` with which an evaluation or a segmentation ran. {}: those of the weights.

    `run.json` may come from elsewhere. Text with code is no value of a setting.

    Raises:
        ValueError: a value of the wrong type or range.

    Example:
        >>> from pathlib import Path
        >>> used_settings(Run(Path("."), ("evaluation",), record={"settings": {"threshold": "0.4", "seed": "0"}}))
        {'threshold': 0.4}
    """
    if "training" in run.kinds:
        return {}
    recorded = run.record.get("settings", {})
    names = [name for name in (*CHOICES, "orientations") if recorded.get(name, "None") != "None"]
    return {name: converted(name, recorded[name]) for name in names}


def _case(run: Run, name: str, item: Item | None, results: _Results, most_bytes: int) -> Case:
    settings = run.settings or ModelSettings()
    address = name if item is None else next(paths_in([item["image"]]))
    image = None if item is None else PlaneReader().get_data(list(paths_in([item["image"]])))[0]
    found = results.of(address, image)
    truth = None if item is None or "label" not in item else read_truth(item, settings)
    layers, scores, mistakes = _compared(found, truth, settings)
    counts, v_rand = None, None
    if truth is not None and found.probability is not None and len(settings.class_names) == 2:
        if settings.key_metric in ("v_rand", "v_info"):
            valid = truth[0] >= 0
            v_rand = thinned_curves(found.probability.astype(np.float32), truth[0] == 1, valid)[0].f
            scores = {"v_rand_f": float(v_rand[np.abs(MEMBRANES - settings.threshold).argmin()]), **scores}
        elif found.probability.size <= MOST_PIXELS // 10:
            counts = _counts(found.probability, truth, settings)
    shown = _overlay(results, address) if image is None else image if image.ndim == 2 else np.moveaxis(image, 2, 0)
    drawn = picture(name, shown, layers, most_bytes, _facts(mistakes, found) if len(settings.class_names) == 2 else [])
    doubt = None
    if found.probability is not None:
        doubt = float(np.mean(4 * found.probability * (1 - found.probability)))
    return Case(name, drawn, scores, mistakes, counts, v_rand, doubt)


def _overlay(results: _Results, address: str) -> np.ndarray:
    """Read the overlay of an image that is not known any more."""
    path = results.run.folder / "overlays" / f"{results.store.names.of(address)}.png"
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def read_truth(item: Item, settings: ModelSettings) -> tuple[np.ndarray, np.ndarray]:
    """Read the label of an image as a training does, without the separation gap.

    Args:
        item: "label", and "markers" if there are some: addresses.
        settings: how labels are read.

    Returns:
        classes and objects, int32 (H, W), -1 where not annotated.

    Raises:
        ValueError: values that are no labels.

    Example:
        >>> Image.fromarray(np.array([[0, 5]], np.uint8)).save("label.png")
        >>> read_truth({"label": "label.png"}, ModelSettings(label_kind="instances"))[1]
        array([[0, 5]], dtype=int32)
    """
    reader = PlaneReader(labels=True)
    label = reader.get_data([str(item["label"])])[0]
    markers = reader.get_data([str(item["markers"])])[0][None] if item.get("markers") else None
    convert = InstanceLabelsd(
        kind=settings.label_kind,
        class_values=settings.label_values,
        out_channels=max(2, len(settings.class_names)),
        field_border=settings.field_border,
    ).convert
    return convert(label[None], markers)


def _compared(
    found: Segmented, truth: tuple[np.ndarray, np.ndarray] | None, settings: ModelSettings
) -> tuple[list[Layer], dict[str, float], Mistakes | None]:
    """Draw the layers of an image, and measure the image if there is a truth."""
    several = len(settings.class_names) > 2
    by_object = settings.label_kind == "instances" and found.instances is not None
    key = class_key(settings.class_names)
    each = [("a colour for each object", "#56B4E9")]
    layers: list[Layer] = []
    scores: dict[str, float] = {}
    mistakes = None
    prediction = found.classes if several or found.instances is None else found.instances
    if truth is not None:
        classes, objects = truth
        of_objects = not several and found.instances is not None
        layers.append(label_layer("truth", objects if of_objects else classes, each if of_objects else key))
    if found.probability is not None:
        whose = "the predicted class" if several else settings.class_names[1]
        layers.append(map_layer("probability", found.probability, note=f"Probability of {whose}."))
    if prediction is not None:
        is_objects = prediction is found.instances
        layers.append(label_layer("instances" if is_objects else "classes", prediction, each if is_objects else key))
    if truth is None or prediction is None:
        return layers, scores, mistakes
    if by_object and found.instances is not None:
        mistakes, places = count_mistakes(found.instances, objects)
        present = [value for value in COLOURS if (places == value).any()]
        legend = [(MEANINGS[value], COLOURS[value]) for value in present]
        if present == [NOT_JUDGED] or not present:
            legend = [*legend, ("no error", "#FFFFFF")]
        layers.append(label_layer("error", places, legend, COLOURS, outline=False, inside=ERROR))
        table = overlaps(found.instances, objects, objects >= 0)
        scores["f1_0.5"] = float(instance_scores_from_counts(instance_counts_of(table, [0.5]))["f1"][0])
    else:
        shown = found.classes if found.classes is not None else (prediction > 0).astype(np.int32)
        places = error_map(shown, classes)
        wrong = [k for k in ERRORS if (places == k).any()]
        names = _errors(settings.class_names)
        legend = [(names[k], ERRORS[k]) for k in wrong] or [("no error", "#FFFFFF")]
        layers.append(label_layer("error", places, legend, ERRORS, outline=False, inside=ERROR))
        annotated = places != UNKNOWN
        matrix = confusion_matrix(shown[annotated], classes[annotated], len(settings.class_names))
        dice = dice_per_class(matrix)
        scores["mean_dice"] = float(nan_mean(dice))
        if several:
            named = zip(settings.class_names, dice.tolist(), strict=True)
            scores |= {f"dice_{each.replace(' ', '_')}": score for each, score in named}
    return layers, scores, mistakes


def _errors(class_names: Sequence[str]) -> dict[int, str]:
    """Name the kinds of wrong pixels."""
    background, *others = class_names
    other = others[0] if len(others) == 1 else "another class"
    return {
        1: f"{background} predicted, {other} in the truth",
        2: f"{other} predicted, {background} in the truth",
        3: "another class predicted",
        4: "not annotated",
    }


def _counts(probability: np.ndarray, truth: tuple[np.ndarray, np.ndarray], settings: ModelSettings) -> np.ndarray:
    """Count matches, false and missed objects (or pixels of class 1) at `LEVELS`, (T, 3)."""
    classes, objects = truth
    rows = []
    for level in LEVELS:
        if settings.label_kind == "instances":
            drawn = instances_from_scores(
                probability.astype(np.float32),
                level,
                settings.min_area,
                fill_holes=settings.fill_holes,
                split=settings.split_necks,
                gap=settings.close_gaps,
                field_border=settings.field_border,
            )
            rows.append(instance_counts_of(overlaps(drawn, objects, objects >= 0), [0.5])[0, :3])
        else:
            known, true, said = classes >= 0, classes == 1, probability > level
            rows.append(np.array([(a & b & known).sum() for a, b in ((true, said), (~true, said), (true, ~said))]))
    return np.array(rows, float)


def _facts(mistakes: Mistakes | None, found: Segmented) -> list[str]:
    """Write the lines beside a picture."""
    facts = []
    if found.instances is not None:
        facts.append(f"{len(np.unique(found.instances[found.instances > 0]))} objects found")
    if mistakes is not None:
        facts[-1] += f", {mistakes.truth} in the truth"
        facts.append(
            f"{mistakes.missed} missed, {mistakes.false} false, {mistakes.merged} merged, {mistakes.split} split"
        )
    return facts
