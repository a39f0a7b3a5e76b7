"""Judge label images before a training: find labels that are surely wrong, and labels that look wrong.

The limits are ours. They were chosen so that the six public data sets of the project, read with their settings, give no
finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..io.names import image_suffix, split_address
from .label_facts import LabelFacts

LOSSY = (".jpg", ".jpeg")
GREY_VALUES, GREY_PIECES = 16, 3  # more values than this, each in more pieces than this: a picture, no label
MERGED = 0.1  # touching pairs, divided by objects, from which binary labels would merge many objects
SCATTERED = 3  # effective pieces of a value, from which the value numbers no object
DIVIDED = 1.5  # effective pieces of a value, from which one object may be two
AROUND = 0.8  # share of the image border, from which a value around all others is the background
SHOWN_VALUES = 6


@dataclass(frozen=True)
class Finding:
    """A finding about labels, with the remedy.

    Args:
        sure: the labels are surely wrong.
        text: of the finding, with the remedy.
        final: no training is possible, with no setting of `check_labels`.
    """

    sure: bool
    text: str
    final: bool = False


@dataclass(frozen=True)
class Meaning:
    """What the settings say about the values of label images.

    Args:
        kind: "binary", "instances" or "classes".
        stated: the user, or the weights, named the kind. False: the default.
        training: the labels train a network. False: they measure one.
    """

    kind: str
    stated: bool = True
    training: bool = True


def findings(facts: Sequence[LabelFacts], meaning: Meaning) -> list[Finding]:
    """Judge labels by all rules. Of several rules that find the same labels wrong, the first gives the finding.

    Args:
        facts: of each label image.
        meaning: of the values.

    Example:
        >>> from scripts.data.label_facts import label_facts
        >>> touching = label_facts("a.png", np.array([[1, 1, 2, 2, 0]]))
        >>> [finding.sure for finding in findings([touching], Meaning("binary", stated=False))]
        [True]
    """
    found: list[Finding] = []
    rest = list(facts)
    pictures = () if meaning.kind == "classes" else (_grey,)  # maps of many classes; other values are refused as such
    for rule in (_lossy, *pictures):  # these labels need no further judgement
        finding, explained = rule(rest)
        found += [finding] if finding else []
        rest = [one for one in rest if one.name not in explained]
    found += _of_kind(rest, meaning)
    return found


def _of_kind(facts: list[LabelFacts], meaning: Meaning) -> list[Finding]:
    filled = [one for one in facts if len(one.values)]
    if not filled:
        return [_empty(facts, meaning)] if facts and meaning.kind != "classes" else []
    rules: dict[str, list[Callable[[list[LabelFacts], Meaning], Finding | None]]] = {
        "binary": [_full, _several_values, _inverted, _outlines],
        "instances": [_numbered_background, _scattered, _divided, _outlines],
        "classes": [],
    }
    found = [finding for rule in rules[meaning.kind] if (finding := rule(filled, meaning))]
    return sorted(found, key=lambda finding: not finding.sure)[:1]  # one finding explains the others


def is_grey(facts: LabelFacts) -> bool:
    """Whether an image has many values, each in many pieces: a picture or a blurred mask, no label.

    Example:
        >>> from scripts.data.label_facts import label_facts
        >>> noise = np.random.default_rng(0).integers(0, 256, (64, 64))
        >>> is_grey(label_facts("a.png", noise)), is_grey(label_facts("b.png", noise > 128))
        (True, False)
    """
    count = len(facts.values)
    return count > GREY_VALUES and int(facts.pieces.sum()) > GREY_PIECES * count


def is_mask(facts: Iterable[LabelFacts]) -> bool:
    """Whether all labels have the same single value besides 0, in several pieces: masks, no object numbers.

    Example:
        >>> from scripts.data.label_facts import label_facts
        >>> is_mask([label_facts("a.png", np.array([[255, 0, 255, 0, 255, 0]]))])
        True
    """
    filled = [one for one in facts if len(one.values)]
    values = {float(value) for one in filled for value in one.values}
    return len(values) == 1 and float(np.median([one.spread[0] for one in filled])) >= DIVIDED


def as_mask(facts: Sequence[LabelFacts]) -> Finding:
    """Say that masks, given as instances, are read as masks: each connected component is an object.

    Example:
        >>> from scripts.data.label_facts import label_facts
        >>> as_mask([label_facts("a.png", np.array([[255, 0, 255]]))]).sure
        False
    """
    filled = [one for one in facts if len(one.values)]
    pieces = np.median([one.pieces.sum() for one in filled])
    return Finding(
        False,
        f"label_kind is instances, but the labels are masks: {_values(filled)} alone, in {pieces:.0f} pieces each "
        f"({filled[0].name}). Each piece is taken as an object, as with --label_kind binary. Touching objects stay "
        "one: to separate them, give each object a number of its own",
    )


def _lossy(facts: Sequence[LabelFacts]) -> tuple[Finding | None, set[str]]:
    """JPEG blurs the border of each object: each blurred pixel would be foreground, or another object."""
    wrong = [one for one in facts if _suffix(one) in LOSSY and len(one.values) > 1]
    if not wrong:
        return None, set()
    return Finding(
        True,
        f"{_count(wrong, facts)} are JPEG, which changes values: {len(wrong[0].values)} values besides "
        f"0 in {wrong[0].name}. Export the labels anew as PNG or TIFF; a JPEG cannot be repaired exactly",
    ), {one.name for one in wrong}


def _grey(facts: Sequence[LabelFacts]) -> tuple[Finding | None, set[str]]:
    wrong = [one for one in facts if is_grey(one)]
    if not wrong:
        return None, set()
    first = wrong[0]
    return Finding(
        True,
        f"{_count(wrong, facts)} look like pictures: {first.name} has {len(first.values)} values "
        f"besides 0, in {first.pieces.sum() / len(first.values):.0f} pieces each. Are images and labels exchanged, or "
        "were masks saved as JPEG or resized with interpolation? Export the labels anew, with few values",
    ), {one.name for one in wrong}


def _empty(facts: Sequence[LabelFacts], meaning: Meaning) -> Finding:
    return Finding(
        meaning.training,
        f"all {len(facts)} labels hold 0 alone ({facts[0].name}): nothing is labelled. Check the folder of the labels",
    )


def _full(facts: list[LabelFacts], meaning: Meaning) -> Finding | None:
    wrong = [one for one in facts if one.foreground == 1]
    if not wrong:
        return None
    remedy = _two_values(wrong) or "Check the labels"
    return Finding(
        meaning.training and len(wrong) == len(facts),
        f"{_count(wrong, facts)} have no background: {_values(wrong)}, no 0, so that every pixel is class 1. {remedy}",
    )


def _two_values(facts: Sequence[LabelFacts]) -> str | None:
    """The remedy for labels with 1 and 2 in place of 0 and 1."""
    values = sorted({float(value) for one in facts for value in one.values})
    if len(values) != 2:
        return None
    listed = ", ".join(f"{value:g}" for value in values)
    return f'If {values[0]:g} is the background, as in ilastik: --label_kind classes --label_values "[{listed}]"'


def _several_values(facts: list[LabelFacts], meaning: Meaning) -> Finding | None:
    """The default kind takes all values but 0 as one class. If that is meant, the user can say so."""
    several = [one for one in facts if len(one.values) > 1]
    if not several or meaning.stated:
        return None
    head = f"{_count(several, facts)} hold several values: {_values(several)}"
    numbers = sum(len(one.values) for one in several)
    if float(np.median(np.concatenate([one.spread for one in several]))) < DIVIDED:
        pairs = sum(one.touching for one in several)
        return Finding(
            pairs > MERGED * numbers,
            f"{head}, each in one piece, like numbers of objects. label_kind is binary, the default: {pairs} pairs of "
            "touching objects would be merged. Say --label_kind instances for objects, --label_kind classes for "
            "classes, or --label_kind binary if all values but 0 are one class",
        )
    largest = int(max(one.values.max() for one in several))
    names = ["background", *(f"class_{number}" for number in range(1, largest + 1))]
    classes = f'--label_kind classes --class_names "{names}"'.replace(", ", ",")
    if largest > SHOWN_VALUES:
        classes = "--label_kind classes, --class_names and --label_values"
    return Finding(
        True,
        f"{head}. label_kind is binary, the default, which takes all values but 0 as one class. Say {classes} for "
        "classes, --label_kind binary if one class is meant; if the values come from resizing a mask, export it anew",
    )


def _inverted(facts: list[LabelFacts], meaning: Meaning) -> Finding | None:
    wrong = [one for one in facts if _encloses(one)]
    if 2 * len(wrong) <= len(facts):
        return None
    first = wrong[0]
    return Finding(
        False,
        f"{_count(wrong, facts)} may be inverted: in {first.name}, {first.foreground:.0%} are "
        f"foreground in one component, which encloses {first.holes} holes. If the holes are the objects: --label_kind "
        f'classes --label_values "[{first.values[0]:g}, 0]"',
    )


def _numbered_background(facts: list[LabelFacts], meaning: Meaning) -> Finding | None:
    """A background with a number would be an object around all others."""
    wrong = [one for one in facts if one.foreground == 1 and _largest_encloses(one)]
    if 2 * len(wrong) <= len(facts):
        return None
    around = [one for one in wrong if one.neighbours == len(one.values) - 1 and one.frame > AROUND]
    sure, first = 2 * len(around) > len(facts), (around or wrong)[0]
    remedy = _two_values(wrong) or "Give the background the value 0"
    if not sure:
        remedy = f"If {first.values[first.areas.argmax()]:g} is the background, give it the value 0"
    return Finding(
        sure,
        f"{_count(wrong, facts)} have no background: no pixel is 0, and {first.values[first.areas.argmax()]:g} covers "
        f"{first.areas.max() / first.areas.sum():.0%} of {first.name}, and touches {first.neighbours} of "
        f"{len(first.values) - 1} other values. {remedy}",
    )


def _scattered(facts: list[LabelFacts], meaning: Meaning) -> Finding | None:
    spread = np.concatenate([one.spread for one in facts])
    if float(np.median(spread)) < SCATTERED:
        return None
    pieces, numbers = sum(int(one.pieces.sum()) for one in facts), len(spread)
    return Finding(
        True,
        f"label_kind is instances, but the values are no numbers of objects: {numbers} values in {len(facts)} labels "
        f"lie in {pieces} pieces ({_values(facts)}). Say --label_kind classes for classes, --label_kind binary if all "
        "values but 0 are one class, or number the objects of each image",
    )


def _divided(facts: list[LabelFacts], meaning: Meaning) -> Finding | None:
    wrong = [(one, value) for one in facts for value, n in zip(one.values, one.spread, strict=True) if n >= DIVIDED]
    if not wrong:
        return None
    one, value = wrong[0]
    count = int(one.pieces[list(one.values).index(value)])
    return Finding(
        False,
        f"{len(wrong)} of {sum(len(one.values) for one in facts)} objects lie in several pieces, first number "
        f"{value:g} of {one.name} in {count}. Give each object a number of its own, if the pieces are objects",
    )


def _outlines(facts: list[LabelFacts], meaning: Meaning) -> Finding | None:
    wrong = [one for one in facts if one.thin and one.enclosed > 1 and one.holes]
    if 2 * len(wrong) <= len(facts):
        return None
    first = wrong[0]
    return Finding(
        meaning.kind == "instances",
        f"{_count(wrong, facts)} are thin lines: {first.name} has lines of at most 4 pixels, which "
        f"enclose {first.holes} regions. If the regions are the objects, fill them (Fiji: Process > Binary > Fill "
        "Holes) and export the labels anew",
    )


def _encloses(one: LabelFacts) -> bool:
    """Whether the foreground is one component, fills most of image and border, and has holes: an inverted mask."""
    return 0.5 < one.foreground < 1 and one.border > AROUND and one.largest > 0.9 and one.holes >= 3


def _largest_encloses(one: LabelFacts) -> bool:
    return len(one.values) > 1 and one.areas.max() > 0.5 * one.areas.sum() and one.largest == 1


def _suffix(one: LabelFacts) -> str:
    return image_suffix(split_address(one.name)[0])


def _count(wrong: Sequence[LabelFacts], facts: Sequence[LabelFacts]) -> str:
    return f"{len(wrong)} of {len(facts)} labels ({wrong[0].name}{', ...' if len(wrong) > 1 else ''})"


def _values(facts: Sequence[LabelFacts]) -> str:
    """List the values of labels: "0, 1, 2" or "0, 1, 2, 3, 4, 5, ... 40"."""
    values = sorted({float(value) for one in facts for value in one.values})
    zero = ["0"] if any(one.foreground < 1 for one in facts) else []
    shown = [f"{value:g}" for value in values]
    if len(shown) > SHOWN_VALUES + 1:
        shown = [*shown[:SHOWN_VALUES], "...", shown[-1]]
    return ", ".join(zero + shown)
