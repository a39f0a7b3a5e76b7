"""Tell object numbers, classes and masks from the values of label images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.label_findings import DIVIDED, MERGED, SCATTERED, Meaning, findings
from .facts import DataFacts

MOST_CLASSES = 16
LARGEST = 2**31 - 1  # of the object numbers of a training
FEWEST_CORE = 0.1  # share of inner pixels, below which a value is the blurred border of other values
SMALL_SET = 4  # values, up to which object numbers may be classes, too


@dataclass(frozen=True)
class Choice:
    """The value of a setting, and the reason. `decided`: the facts decide. False: the default, for want of facts."""

    value: Any
    reason: str
    decided: bool = True


def kind_of(facts: DataFacts) -> Choice:
    """Choose the kind of labels. Labels refused by a training have no kind: the reason is the remedy.

    Args:
        facts: about all labels.

    Example:
        >>> from scripts.planning.facts import ItemFacts, image_facts, object_facts
        >>> from scripts.data.label_facts import label_facts
        >>> plane = np.eye(9, dtype=np.uint8)
        >>> item = ItemFacts(image_facts("a", plane), label_facts("a", plane), object_facts(plane))
        >>> kind_of(DataFacts([item])).value
        'binary'
    """
    choice = _kind_of_values(facts)
    wrong = [one.text for one in findings(facts.labels, Meaning(choice.value or "binary")) if one.sure]
    if choice.value == "instances":
        numbers = (value for value in facts.values if not (0 <= value <= LARGEST and value.is_integer()))
        wrong += [f"object numbers must be whole, from 0 to 2^31 - 1, got {value:g}" for value in numbers]
    if wrong:
        return Choice(None, f"a training refuses these labels: {wrong[0]}", decided=False)
    return choice


def _kind_of_values(facts: DataFacts) -> Choice:
    values, filled = [value for value in facts.values if value], facts.filled
    if not values:
        return Choice(None, "unknown: all labels hold 0 alone", decided=False)
    listed = _listed(facts.values)
    if len(values) == 1:
        return Choice("binary", f"the labels hold {listed} alone: touching objects count as one")
    if 0.0 not in facts.values and len(values) <= SMALL_SET:
        return Choice(None, "unknown: no pixel is 0", decided=False)
    spread = float(np.median(np.concatenate([item.label.spread for item in filled])))
    sets = [len(item.label.values) for item in filled]
    same = float(np.median(sets)) >= 0.5 * len(values)
    objects = sum(len(item.objects.diameters) for item in filled)
    if spread < DIVIDED:
        pairs = sum(item.objects.touching for item in filled)
        if len(filled) > 1 and len(values) <= SMALL_SET and min(sets) == len(values):
            return Choice(
                None,
                f"unknown: {listed} in every label, each in one piece. Say --label_kind instances if they number "
                "objects, --label_kind classes if they are classes",
                decided=False,
            )
        rare = " Few touch: --label_kind binary if only their area matters" if pairs < MERGED * objects else ""
        touch = (
            f"{pairs} pair{' of' if pairs == 1 else 's of'} {objects} objects touch{'es' if pairs == 1 else ''}.{rare}"
        )
        return Choice("instances", f"each value is one piece, as numbers of objects are; {touch}".rstrip("."))
    if spread >= SCATTERED and same and len(values) <= MOST_CLASSES:
        blurred = _blurred(facts)
        if blurred is not None:
            return Choice(
                None,
                f"unknown: the value {blurred:g} is only found along borders, as after resizing a mask. Export the "
                "labels anew, or say --label_kind classes",
                decided=False,
            )
        if 0.0 not in facts.values:
            return Choice(
                None,
                f"unknown: no pixel is 0, the values are {listed}. Say --label_kind classes, and --label_values with "
                "the background first",
                decided=False,
            )
        return Choice("classes", f"{listed}: the same few values in the labels, each in many pieces")
    return Choice(
        None,
        f"unknown: {len(values)} values, in {spread:.1f} pieces each (median). Say --label_kind instances, classes or "
        "binary",
        decided=False,
    )


def _listed(values: Sequence[float]) -> str:
    shown = [f"{value:g}" for value in values]
    return ", ".join(shown if len(shown) <= 10 else [*shown[:6], "...", shown[-1]])


def _blurred(facts: DataFacts) -> float | None:
    """The first value with hardly a pixel inside of its regions."""
    for value in facts.values:
        shares = [
            float(item.objects.core[list(item.label.values).index(value)])
            for item in facts.filled
            if value in item.label.values
        ]
        if shares and float(np.median(shares)) < FEWEST_CORE:
            return value
    return None
