"""Check labels and pairs once before a training or an evaluation, and describe the labels in one line."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..checks import check_choice
from ..io.reader import PlaneReader
from .label_facts import LabelFacts, label_facts, touching_pairs
from .label_findings import Finding, Meaning, as_mask, findings, is_grey, is_mask
from .pairs import some
from .placement import displaced_pairs
from .same_images import same_images

logger = logging.getLogger(__name__)

MODES = ("refuse", "warn", "off")
COMPARED = 3  # images that are looked at if the labels look like pictures
FALLBACK = "mean_dice"  # key metric of images without objects
OF_OBJECTS = ("seg", "instance_f1", "v_rand", "v_info")  # key metrics that need an object, or a cell
KNOWN_IMAGES = (
    "the data set has the name of the data set that the weights were trained with: scores of images that trained are "
    "too good. Measure the images held out with --split_file output/NAME/split.json, or another folder"
)
Items = Sequence[Mapping[str, Any]]


class LabelConversion(Protocol):
    """`scripts.transforms.InstanceLabelsd`: the conversion of label images that the training uses."""

    kind: str
    ignore_value: int | None

    def convert(self, label: np.ndarray, markers: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Convert a label image (1, H, W) to classes and objects (H, W)."""


@dataclass(frozen=True)
class _Label:
    """A label image as found and as converted."""

    facts: LabelFacts
    error: str | None  # why the conversion fails
    sizes: np.ndarray  # of objects, pixels
    touching: int  # pairs of touching objects
    classes: np.ndarray  # pixels of each class


@dataclass(frozen=True)
class Examination:
    """All findings about labels and pairs, with a line about the labels."""

    findings: Sequence[Finding]
    line: str
    measurable: bool  # the key metric can be measured on the validation images


@dataclass(frozen=True)
class LabelReport:
    """What was found: a line about the labels, and the key metric that the validation images allow."""

    line: str
    key_metric: str


def check_labels(
    training: Items,
    validation: Items,
    labels: LabelConversion,
    class_names: Sequence[str],
    mode: str = "refuse",
    stated: bool = True,
    evaluating: bool = False,
    same_set: bool = False,
    key_metric: str = FALLBACK,
    tiff_axes: str | None = None,
    quiet: bool = False,
) -> LabelReport:
    """Look at all labels once, and log a line about them. Refuse labels that are surely wrong.

    Masks given as instances are converted as masks from here on, with a warning: `labels.kind` becomes "binary".

    Args:
        training, validation: items {"image": address, "label": address}, with or without "markers". The same list:
            all images train and validate, as with split_rule all.
        labels: conversion of the labels.
        class_names: of all classes.
        mode: "refuse": an error for labels that are surely wrong, a warning for labels that look wrong. "warn":
            warnings alone. "off": labels are not looked at.
        stated: the kind of the labels was named by the user or by the weights. False: it is the default.
        evaluating: `validation` is measured; no network is trained. Empty labels are no error then.
        same_set: the evaluated data set has the name of the data set of the training.
        key_metric: see `scripts.metrics.key_metric`.
        tiff_axes: axes of TIFF files with wrong axes in the file, see `scripts.io.tiff`.
        quiet: log nothing, in all processes of a training but the first.

    Returns:
        line: the line about the labels; "" with "off".
        key_metric: the given key metric. "mean_dice" instead, with a warning, if the key metric needs objects and no
            validation image has an object.

    Raises:
        ValueError: unknown mode, or a finding that is sure. The message has files, numbers and the setting that helps.
        ImageFileError, FileNotFoundError: a label cannot be read.

    Example:
        >>> from PIL import Image
        >>> from scripts.transforms import InstanceLabelsd
        >>> Image.fromarray(np.eye(8, dtype=np.uint8)).save("cells.png")
        >>> pairs = [{"image": "cells.png", "label": "cells.png"}]
        >>> check_labels(pairs, pairs, InstanceLabelsd(), ["background", "cell"]).line
        'labels of 1 image: 8 objects each, median 1 px, no touching pairs'
    """
    check_choice("check_labels", mode, MODES)
    if mode == "off" or not (training or validation):
        return LabelReport("", key_metric)
    found = examine_labels(
        training, validation, labels, class_names, stated, evaluating, same_set, key_metric, tiff_axes
    )
    sure = [one for one in found.findings if one.sure]
    if sure and (mode == "refuse" or any(one.final for one in sure)):
        remedy = "" if any(one.final for one in sure) else ". If it is meant like this: --check_labels warn"
        raise ValueError("; ".join(one.text for one in sure) + remedy)
    if not quiet:
        logger.info(found.line)
        for one in found.findings:
            logger.warning(one.text)
    return LabelReport(found.line, key_metric if found.measurable else FALLBACK)


def examine_labels(
    training: Items,
    validation: Items,
    labels: LabelConversion,
    class_names: Sequence[str],
    stated: bool = True,
    evaluating: bool = False,
    same_set: bool = False,
    key_metric: str = FALLBACK,
    tiff_axes: str | None = None,
) -> Examination:
    """Look at all labels and pairs once. Nothing is refused or logged. Arguments and errors as in `check_labels`.

    Example:
        >>> from PIL import Image
        >>> from scripts.transforms import InstanceLabelsd
        >>> Image.fromarray(np.eye(8, dtype=np.uint8)).save("cells.png")
        >>> pairs = [{"image": "cells.png", "label": "cells.png"}]
        >>> examine_labels(pairs, pairs, InstanceLabelsd(), ["background", "cell"]).findings
        []
    """
    whole = training is validation  # split_rule all, not a list with every image twice
    looked_at = list(validation) if evaluating or whole else [*training, *validation]
    if not looked_at:
        return Examination([], "", True)
    reader = PlaneReader(tiff_axes, labels=True)
    seen = [_look(item, labels, reader) for item in looked_at]
    found = []
    if labels.kind == "instances" and is_mask(one.facts for one in seen):
        found, labels.kind = [as_mask([one.facts for one in seen])], "binary"
        seen = [_look(item, labels, reader) for item in looked_at]
    trains = seen if evaluating or whole else seen[: len(training)]
    found += _judge(seen, trains, Meaning(labels.kind, stated, not evaluating), class_names)
    exchanged = exchanged_folders(looked_at, [one.facts for one in seen], tiff_axes)
    found = [exchanged] if exchanged else found
    found += _pairs(training if not whole else [], validation, looked_at, tiff_axes)
    unmeasurable = _unmeasurable(seen[len(seen) - len(validation) :], key_metric)
    found += unmeasurable
    if evaluating and whole and same_set:
        found.append(Finding(False, KNOWN_IMAGES))
    failed = [one for one in seen if one.error]
    if failed:
        text = f"{len(failed)} of {len(seen)} labels, first {failed[0].facts.name}: {failed[0].error}"
        return Examination([*found, Finding(True, text, final=True)], "", not unmeasurable)
    return Examination(found, _summary(seen, labels.kind, class_names), not unmeasurable)


def _look(item: Mapping[str, Any], labels: LabelConversion, reader: PlaneReader) -> _Label:
    plane = reader.get_data([str(item["label"])])[0]
    ignored = None if labels.ignore_value is None else plane == labels.ignore_value
    facts = label_facts(str(item["label"]), plane if ignored is None else np.where(ignored, 0, plane))
    markers = reader.get_data([str(item["markers"])])[0][None] if item.get("markers") else None
    try:
        classes, objects = labels.convert(plane[None], markers)
    except ValueError as error:
        return _Label(facts, str(error), np.zeros(0, int), 0, np.zeros(0, int))
    sizes = np.unique(objects[objects > 0], return_counts=True)[1]
    return _Label(facts, None, sizes, touching_pairs(objects), np.bincount(classes[classes >= 0].ravel()))


def _judge(seen: Sequence[_Label], trains: Sequence[_Label], meaning: Meaning, names: Sequence[str]) -> list[Finding]:
    """Findings about the values, then about the conversion, then about the classes."""
    found = findings([one.facts for one in seen], meaning)
    if meaning.training and not any(one.error for one in seen):
        if all(not one.facts.values.size for one in trains) and any(one.facts.values.size for one in seen):
            found += [Finding(True, f"all {len(trains)} labels of the training images hold 0 alone: split otherwise")]
        if meaning.kind == "classes":
            found += _classes(trains, names)
    return found


def _classes(trains: Sequence[_Label], names: Sequence[str]) -> list[Finding]:
    shares = _shares(trains, len(names))
    absent = [name for name, share in zip(names, shares, strict=True) if share == 0]
    if not absent:
        return []
    single = len(absent) == len(names) - 1
    there = ", ".join(name for name in names if name not in absent)
    return [
        Finding(
            single,
            f"class{'es' if len(absent) > 1 else ''} {', '.join(absent)}: in none of the {len(trains)} labels of the "
            f"training images ({there} {'is' if single else 'are'}). Check class_names and the values of the labels, "
            "or leave the class out",
        )
    ]


def exchanged_folders(items: Items, labels: Iterable[LabelFacts], tiff_axes: str | None = None) -> Finding | None:
    """Find exchanged folders: images like labels, and labels like pictures.

    Args:
        items: as in `check_labels`. Images are read only if a label looks like a picture.
        labels: facts of the labels.
        tiff_axes: as in `check_labels`.

    Returns:
        None: the folders are not exchanged.

    Example:
        >>> exchanged_folders([], []) is None
        True
    """
    if not any(map(is_grey, labels)):
        return None
    reader = PlaneReader(tiff_axes)
    images = [item["image"] for item in items[:COMPARED] if isinstance(item["image"], str)]
    planes = [reader.get_data([image])[0] for image in images]
    facts = [label_facts(name, plane) for name, plane in zip(images, planes, strict=True) if plane.ndim == 2]
    alike = [one for one in facts if len(one.values) <= 2 or int(one.pieces.sum()) <= 2 * len(one.values)]
    if not alike or len(alike) < len(facts):
        return None
    values = len(alike[0].values)
    return Finding(
        True,
        f"images and labels are exchanged: the image {alike[0].name} has {values} value{'' if values == 1 else 's'} "
        f"besides 0, like a label, and the label {items[0]['label']} has grey values. Exchange the folders",
    )


def _pairs(training: Items, validation: Items, items: Items, tiff_axes: str | None) -> list[Finding]:
    found = []
    turned, shifted = displaced_pairs(items, tiff_axes)
    if turned:
        found.append(
            Finding(
                True,
                f"{_first(turned)} have another direction in space than their image, and would train mirrored or "
                "turned. Resample the label onto the image (3D Slicer: Resample Image). If both agree as stored, give "
                "the label the affine of the image",
            )
        )
    if shifted:
        found.append(Finding(False, f"{_first(shifted)} differ from their image in space. Pixels pair as stored"))
    both, copies = same_images(training, validation)
    if both:
        found.append(
            Finding(True, f"{some(both)} images train and validate: scores would be too good. List each image once")
        )
    if copies:
        found.append(
            Finding(
                False,
                f"{some(copies)} images of the validation are copies of training images: scores are too good. Take "
                "the copies out",
            )
        )
    return found


def _first(labels: Sequence[str]) -> str:
    return f"{len(labels)} label{'s' if len(labels) > 1 else ''} ({labels[0]}{', ...' if len(labels) > 1 else ''})"


def _unmeasurable(validation: Sequence[_Label], key_metric: str) -> list[Finding]:
    if key_metric not in OF_OBJECTS or not validation or any(len(one.sizes) or one.error for one in validation):
        return []
    return [
        Finding(
            False,
            f"none of the {len(validation)} validation images has an object ({validation[0].facts.name}), so "
            f"{key_metric} cannot be measured. {FALLBACK} takes its place. Hold out images with objects: "
            "--seed 1 draws others, --split_file names them",
        )
    ]


def _summary(seen: Sequence[_Label], kind: str, names: Sequence[str]) -> str:
    """Describe the labels: "labels of 8 images: 88 objects each, median 98 px, 31 touching pairs"."""
    head = f"labels of {len(seen)} image{'s' if len(seen) > 1 else ''}: "
    counts = [len(one.sizes) for one in seen]
    sizes = np.concatenate([one.sizes for one in seen])
    empty = f", {counts.count(0)} without objects" if 0 in counts else ""
    if kind == "classes":
        shares = _shares(seen, len(names))
        return head + ", ".join(f"{name} {share:.2%}" for name, share in zip(names, shares, strict=True))
    pairs = sum(one.touching for one in seen)
    each = f"{np.median(counts):.0f} object{'' if np.median(counts) == 1 else 's'} each"
    size = f", median {np.median(sizes):.0f} px" if len(sizes) else ""
    touching = f"{pairs or 'no'} touching pair{'' if pairs == 1 else 's'}"
    return f"{head}{each}{size}, {touching}{empty}"


def _shares(seen: Sequence[_Label], count: int) -> np.ndarray:
    """Share of pixels of each class."""
    total = np.zeros(count)
    for one in seen:
        total[: len(one.classes)] += one.classes
    return total / max(total.sum(), 1)
