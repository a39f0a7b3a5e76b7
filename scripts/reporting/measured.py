"""Measure an image of a report, and draw its layers: truth, probability, objects, errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..metrics.membranes import THRESHOLDS as MEMBRANES
from ..metrics.membranes import thinned_curves
from ..metrics.mistakes import Mistakes, mistakes_of
from ..metrics.objects import instance_counts_of, instance_scores_from_counts
from ..metrics.overlap import overlaps
from ..metrics.pixels import confusion_matrix, dice_per_class, nan_mean
from ..metrics.stability import object_instability
from ..plot.errors import (
    MATCH,
    OBJECT_COLOURS,
    OBJECT_NAMES,
    OUTLINE,
    PIXEL_COLOURS,
    UNKNOWN,
    error_map,
    object_errors,
    pixel_error_names,
)
from ..plot.overlays import SKY, class_key
from ..settings import ModelSettings
from ..transforms.objects import instances_from_scores
from .pictures import Layer, Picture, label_layer, map_layer, picture
from .results import Loaded, Segmented

LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # thresholds of the curve measured here
ERROR = 200  # opacity of errors, 0 to 255
ON_IMAGE = OBJECT_COLOURS | {OUTLINE: SKY}  # grey lines vanish in a grey image
MOST_PIXELS = 2_500_000  # of an image, for the curve


@dataclass(frozen=True)
class Measured:
    """Figures of an image.

    Args:
        scores: {}: no truth.
        mistakes: None: no objects to compare.
        counts: (T, 3) matches, false and missed objects or pixels at `LEVELS`. None: not measured.
        v_rand: (T,) F-scores at `scripts.metrics.membranes.THRESHOLDS`. None: not measured.
        uncertainty: `scripts.metrics.object_instability`, the score of `rank`. None: there is a truth, or no
            probabilities.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    mistakes: Mistakes | None = None
    counts: np.ndarray | None = None
    v_rand: np.ndarray | None = None
    uncertainty: float | None = None


def measure(loaded: Loaded, settings: ModelSettings) -> Measured:
    """Measure an image: against its truth, else how much its objects change with the threshold.

    Args:
        loaded: from `scripts.reporting.results.Results`.
        settings: in use.

    Example:
        >>> label = np.array([[0, 1]])
        >>> measure(Loaded(label, Segmented(classes=label), (label, label)), ModelSettings()).scores
        {'mean_dice': 1.0}
    """
    found = loaded.found
    if loaded.truth is None:
        if found.of_objects is None:
            return Measured()
        chance = found.of_objects.astype(np.float32)
        return Measured(uncertainty=object_instability(chance, settings.threshold, **_options(settings)))
    classes, objects = loaded.truth
    scores: dict[str, float] = {}
    mistakes, counts, v_rand = None, None, None
    if found.probability is not None and len(settings.class_names) == 2:
        chance = found.probability.astype(np.float32)
        if settings.key_metric in ("v_rand", "v_info"):
            v_rand = thinned_curves(chance, classes == 1, classes >= 0)[0].f
            scores["v_rand_f"] = float(v_rand[np.abs(MEMBRANES - settings.threshold).argmin()])
        elif chance.size <= MOST_PIXELS:
            counts = _counts(chance, loaded.truth, settings)
    if is_by_object(found, settings):
        assert found.instances is not None
        table = overlaps(found.instances, objects, objects >= 0)
        mistakes = mistakes_of(table)
        scores["f1_0.5"] = float(instance_scores_from_counts(instance_counts_of(table, [0.5]))["f1"][0])
    elif (predicted := _classes(found)) is not None:
        annotated = classes >= 0
        matrix = confusion_matrix(predicted[annotated], classes[annotated], len(settings.class_names))
        dice = dice_per_class(matrix)
        scores["mean_dice"] = float(nan_mean(dice))
        if len(settings.class_names) > 2:
            named = zip(settings.class_names, dice.tolist(), strict=True)
            scores |= {f"dice_{name.replace(' ', '_')}": score for name, score in named}
    return Measured(scores, mistakes, counts, v_rand)


def is_by_object(found: Segmented, settings: ModelSettings) -> bool:
    """Check whether objects are compared, rather than pixels."""
    return settings.label_kind == "instances" and found.instances is not None


def _classes(found: Segmented) -> np.ndarray | None:
    """Return the class of each pixel; without classes, 1 on objects."""
    if found.classes is not None or found.instances is None:
        return found.classes
    return (found.instances > 0).astype(np.int32)


def _options(settings: ModelSettings) -> dict[str, Any]:
    """List the settings that make objects of probabilities, besides the threshold."""
    return {
        "min_area": settings.min_area,
        "fill_holes": settings.fill_holes,
        "split": settings.split_necks,
        "gap": settings.close_gaps,
        "field_border": settings.field_border,
    }


def _counts(probability: np.ndarray, truth: tuple[np.ndarray, np.ndarray], settings: ModelSettings) -> np.ndarray:
    """Count matches, false and missed objects (or pixels of class 1) at `LEVELS`, (T, 3)."""
    classes, objects = truth
    rows = []
    for level in LEVELS:
        if settings.label_kind == "instances":
            drawn = instances_from_scores(probability, level, **_options(settings))
            rows.append(instance_counts_of(overlaps(drawn, objects, objects >= 0), [0.5])[0, :3])
        else:
            known, true, said = classes >= 0, classes == 1, probability > level
            rows.append(np.array([(a & b & known).sum() for a, b in ((true, said), (~true, said), (true, ~said))]))
    return np.array(rows, float)


def draw(name: str, loaded: Loaded, measured: Measured, settings: ModelSettings, most_bytes: int) -> Picture:
    """Draw an image with its layers and figures.

    Args:
        name: of the image.
        loaded: from `scripts.reporting.results.Results`.
        measured: from `measure`.
        settings: in use.
        most_bytes: for the picture.

    Example:
        >>> label = np.array([[0, 1]])
        >>> loaded = Loaded(label, Segmented(classes=label), (label, label))
        >>> [layer["name"] for layer in draw("a", loaded, Measured(), ModelSettings(), 10**5).layers]
        ['truth', 'classes', 'error']
    """
    facts = _facts(measured.mistakes, loaded.found) if len(settings.class_names) == 2 else []
    return picture(name, loaded.image, _layers(loaded, settings), most_bytes, facts)


def _layers(loaded: Loaded, settings: ModelSettings) -> list[Layer]:
    found, names = loaded.found, settings.class_names
    objects_alone = found.instances is not None and len(names) == 2
    prediction = found.instances if objects_alone else found.classes
    key = [("a colour for each object", "#56B4E9")] if objects_alone else class_key(names)
    layers = []
    if loaded.truth is not None:
        layers.append(label_layer("truth", loaded.truth[int(objects_alone)], key))
    if found.probability is not None:
        whose = "the predicted class" if len(names) > 2 else names[1]
        layers.append(map_layer("probability", found.probability, note=f"Probability of {whose}."))
    if prediction is not None:
        layers.append(label_layer("instances" if objects_alone else "classes", prediction, key))
    if loaded.truth is None or prediction is None:
        return layers
    if is_by_object(found, settings):
        kinds = object_errors(np.asarray(found.instances), loaded.truth[1]).kinds
        return [*layers, _errors(kinds, OBJECT_NAMES, ON_IMAGE, MATCH)]
    kinds = error_map(np.asarray(_classes(found)), loaded.truth[0])
    return [*layers, _errors(kinds, pixel_error_names(names), PIXEL_COLOURS)]


def _errors(kinds: np.ndarray, names: Mapping[int, str], colours: Mapping[int, str], note: str = "") -> Layer:
    there = [kind for kind in names if (kinds == kind).any()]
    legend = [(names[kind], colours[kind]) for kind in there]
    legend += [("no error", "#FFFFFF")] if set(there) <= {UNKNOWN} else []
    return label_layer("error", kinds, legend, colours, outline=False, note=note, inside=ERROR)


def _facts(mistakes: Mistakes | None, found: Segmented) -> list[str]:
    """Write the lines beside a picture."""
    facts = []
    if found.instances is not None:
        count = len(np.unique(found.instances[found.instances > 0]))
        facts.append(f"{count} object{'' if count == 1 else 's'} found")
    if mistakes is not None:
        facts[-1] += f", {mistakes.truth} in the truth"
        facts.append(
            f"{mistakes.missed} missed, {mistakes.false} false, {mistakes.merged} merged, {mistakes.split} split"
        )
    return facts
