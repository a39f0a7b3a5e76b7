"""Choose the settings of a training from facts about images, labels and machine: a small rule for each setting.

Each rule returns a value and the reason. The rules come from the configurations of the public data sets
(`configs/data_*.yaml`) and from measurements. If facts do not decide, a rule keeps the default and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.label_findings import MERGED
from ..data.splits import series_of
from ..machine import GIB, Machine
from .costs import step_memory
from .facts import OUTLIERS, DataFacts, resemblance
from .keys import CHOSEN
from .kinds import Choice, kind_of
from .listing import Listing
from .shipped import Shipped

UNEVEN = 1.5  # light, in standard deviations
RARE, CROWDED = 0.03, 0.6  # share of the pixels in objects, from which and up to which classes are not balanced
ALIKE, MORE_ALIKE = 0.3, 0.15  # correlation of neighbouring images, and its excess over distant ones
MEMBRANE_DEPTH, CELLS = 8.0, 10  # pixels of background; pieces of foreground an image
QUARTER, HALF, FULL = ([width * 2**level for level in range(5)] for width in (16, 32, 64))
TILES = (380, 572, 764)  # outputs of 196, 388 and 580 pixels
MARGIN = 184  # input minus output, pixels
RECIPE = "variant_fast"


@dataclass
class Case:
    """Everything known to the rules.

    Args:
        facts: about images and labels.
        listing: the items, and the settings to find them.
        machine: of the training.
        shipped: published weights, possible starts of a training.
        given: settings chosen by the user. Rules keep the values.
        name: of the data set.
        chosen: choices so far. Rules read the choices of earlier rules.
    """

    facts: DataFacts
    listing: Listing
    machine: Machine
    shipped: Sequence[Shipped] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    chosen: dict[str, Choice] = field(default_factory=dict)

    def value(self, key: str) -> Any:
        """Return a chosen value; None for the default."""
        return self.chosen[key].value if key in self.chosen else None

    @property
    def kind(self) -> str | None:
        """The chosen kind of labels."""
        return self.value("label_kind")

    @property
    def start(self) -> Shipped | None:
        """Published weights to start from: the widest fitting ones for a GPU, the narrowest for a CPU."""
        fits = self.alike
        misleading = any(one.dataset == self.name or (one.pixel_size and not self.facts.pixel_size) for one in fits)
        if "finetune" in self.given or misleading or not fits:
            return None
        return (max if self.machine.device == "cuda" else min)(fits, key=lambda one: one.features[0])

    @property
    def alike(self) -> list[Shipped]:
        """Published weights, if the data look like theirs."""
        return [one for one in self.shipped if one.fits(self.facts, self.kind, membranes(self))]

    @property
    def levels(self) -> list[int]:
        """Channels of the network's levels: full on a GPU, a quarter on a CPU, less if memory is short."""
        if self.start is not None:
            return list(self.start.features)
        if self.machine.device != "cuda":
            return QUARTER
        fits = (levels for levels in (FULL, HALF) if step_memory(levels, TILES[1]) < 0.7 * self.machine.gpu_memory)
        return next(fits, QUARTER)


def choose(case: Case) -> dict[str, Choice]:
    """Apply all rules. Settings chosen by the user keep their values.

    Args:
        case: facts. `case.chosen` receives the choices.

    Returns:
        key -> choice, in the order of the rules. Keys without a choice keep the default of `configs/train.yaml`.
    """
    for key, rule in RULES.items():
        choice = Choice(case.given[key], "as given") if key in case.given else rule(case)
        if choice is not None:
            case.chosen[key] = choice
    return case.chosen


def label_kind(case: Case) -> Choice:
    """Objects, classes or a mask."""
    return kind_of(case.facts)


def label_values(case: Case) -> Choice | None:
    """The value of each class, if the values are not 0, 1, 2, ..."""
    values = [int(value) for value in case.facts.values]
    if case.kind != "classes" or values == list(range(len(values))):
        return None
    return Choice(values, "value of each class. To merge classes, a table: {value: class}")


def membranes(case: Case) -> bool:
    """Whether a mask shows many cells with thin membranes of value 0 between them."""
    return (
        case.kind == "binary"
        and case.facts.foreground > 0.5
        and float(np.median([len(item.objects.diameters) for item in case.facts.filled])) >= CELLS
        and float(np.median([item.objects.background_depth for item in case.facts.filled])) <= MEMBRANE_DEPTH
    )


def class_names(case: Case) -> Choice | None:
    """Names of the classes: as in the weights to start from, else plain names."""
    if case.start is not None:
        return Choice(list(case.start.class_names), f"as the weights {case.start.name}")
    if "finetune" in case.given and case.kind != "classes":
        return None
    if membranes(case):
        return Choice(["membrane", "cell"], "0 is thin and between many cells")
    if case.kind == "classes":
        values = case.value("label_values")
        values = values if isinstance(values, list) else None
        names = [f"value_{value}" for value in values or ()] or [
            "background",
            *(f"class_{k}" for k in range(1, len(case.facts.values))),
        ]
        return Choice(names, "unknown: write your names, in the order of the values", decided=False)
    if case.kind is None:
        return None
    return Choice(["background", "object"], "any names will do")


def in_channels(case: Case) -> Choice:
    """Number of channels."""
    counts = sorted({item.image.channels for item in case.facts.items})
    grey = all(item.image.equal_channels for item in case.facts.items)
    note = ", all equal: grey images saved as colour would train faster as grey" if grey else ""
    return Choice(counts[-1], f"channels of the images{note}")


def intensity(case: Case) -> Choice | None:
    """Scaling of the grey values: z-score, or percentiles if few pixels are far brighter than the rest."""
    if case.start is not None:
        return None
    outliers = float(np.median([item.image.outliers for item in case.facts.items]))
    ratio = f"standard deviation {outliers:.2f} times the one without the outermost 1 % of grey values"
    if outliers > OUTLIERS:
        return Choice("percentile", f"few pixels are far brighter or darker than the rest: {ratio}")
    return Choice("z_score", f"no far outliers: {ratio}")


def flatten(case: Case) -> Choice | None:
    """Blur to subtract against uneven light, several objects wide."""
    if case.start is not None:
        return None
    uneven = float(np.median([item.image.unevenness for item in case.facts.items]))
    found = f"the light changes by {uneven:.1f} standard deviations over an image"
    large = float(np.percentile(case.facts.diameters, 95)) if len(case.facts.diameters) else 0.0
    if uneven <= UNEVEN or not large:
        return Choice(0, f"even enough: {found}")
    width = round(3 * large)
    if width > case.facts.short_side / 3:
        return Choice(0, f"{found}, but objects of {large:.0f} px would be flattened, too")
    return Choice(width, f"{found}; 3 x the diameter of large objects ({large:.0f} px)")


def separation_gap(case: Case) -> Choice | None:
    """Background between touching objects."""
    if case.kind != "instances":
        return None
    touching, small = _touching(case), _diameter(case, 5)
    found = f"{touching:.2f} touching pairs an object, the smallest {small:.0f} px wide (5th percentile)"
    if touching > MERGED and small >= 40:
        return Choice(2, f"{found}: a wider gap costs large objects little")
    return Choice(1, found)


def close_gaps(case: Case) -> Choice | None:
    """Fitted after the training."""
    if case.kind in (None, "classes"):
        return None
    return Choice(None, "fitted to the validation images at the end, with threshold, min_area, fill_holes, split_necks")


def sigma(case: Case) -> Choice | None:
    """Width of the separation borders, in relation to the smallest objects."""
    if case.kind != "instances" or not len(case.facts.diameters):
        return None
    small = _diameter(case, 10)
    width = float(min(5, max(1, round(0.3 * small))))
    why = "large enough for the paper's 5" if width == 5 else "0.3 x their diameter, below the paper's 5"
    return Choice(width, f"pixels; small objects are {small:.0f} px wide (10th percentile): {why}")


def class_balance(case: Case) -> Choice | None:
    """Weights of the classes in the loss."""
    if case.kind is None:
        return None
    if case.kind == "classes":
        shares = _class_shares(case)
    else:
        foreground = case.facts.foreground
        shares = [1 - foreground, foreground]
        if RARE <= foreground <= CROWDED and case.kind == "instances":
            return Choice(None, f"objects cover {foreground:.1%} of the pixels: balanced, predicted too large")
        if 0.1 <= foreground <= 0.9:
            return Choice("per_image", f"the default; objects cover {foreground:.1%} of the pixels")
    if min(shares) == 0:
        return None
    weights = 1 / np.sqrt(shares)
    weights /= float(np.average(weights, weights=shares))
    return Choice(
        [round(float(weight), 2) for weight in weights],
        f"a weight for each class, 1 / sqrt(share of pixels): the rarest has {min(shares):.1%}, per_image would weigh "
        "it too much",
    )


def _class_shares(case: Case) -> list[float]:
    """Share of pixels of each class, after `label_values`."""
    values = case.value("label_values")
    if values is None:
        values = [int(value) for value in case.facts.values]
    table = values if isinstance(values, Mapping) else {value: number for number, value in enumerate(values)}
    shares = [0.0] * (1 + max(table.values()))
    for value, share in case.facts.shares.items():
        shares[table.get(int(value), 0)] += share
    return shares


def scale(case: Case) -> Choice | None:
    """Zoom of the tiles, for objects of many sizes."""
    if membranes(case):
        return Choice(0.1, "as in the training of em_small")
    if case.kind != "instances" or not len(case.facts.diameters):
        return None
    small, large = _diameter(case, 10), _diameter(case, 90)
    value = 0.2 if large > 3 * small else 0.15 if large > 1.5 * small else 0.0
    return Choice(value, f"objects of {small:.0f} to {large:.0f} px (10th to 90th percentile)")


def split_rule(case: Case) -> Choice | None:
    """Keep stacks, films and series in one part."""
    items = case.listing.items
    if case.listing.reference is not None:
        return None
    names = [series_of(item) for item in items]
    sizes = {name: names.count(name) for name in dict.fromkeys(names)}
    large = [name for name, size in sizes.items() if size >= 3]
    shown = ", ".join(name.rpartition("/")[2] for name in large[:3])
    if len(large) >= 2 and sum(sizes[name] for name in large) >= 0.8 * len(items):
        return Choice("series", f"{len(large)} series by name ({shown}, ...): neighbours resemble each other")
    near, far = resemblance([item.image.thumbnail for item in case.facts.items])
    found = f"neighbouring images correlate by {near:.2f}, distant ones by {far:.2f}"
    if near > ALIKE and near - far > MORE_ALIKE:
        return Choice("last", f"a stack or film, held out in one block: {found}")
    return Choice("random", f"no order: {found}" if len(items) > 3 else "few images: no order to be seen")


def val_fraction(case: Case) -> Choice | None:
    """Share of images for validation."""
    if case.listing.reference is not None:
        return None
    count = len(case.listing.items)
    return Choice(0.1, f"enough of {count} images") if count >= 200 else Choice(0.2, f"the default; {count} in all")


def key_metric(case: Case) -> Choice | None:
    """The score for choosing the best weights."""
    if case.kind == "instances" and case.listing.reference is not None:
        return Choice("seg", "the score of the Cell Tracking Challenge")
    if case.kind == "instances":
        return Choice("instance_f1", "objects found, at an IoU of 0.5")
    if membranes(case):
        return Choice("v_rand", "cells joined or divided count, as in the challenge for membranes")
    return Choice("mean_dice", "the default, of masks and classes") if case.kind else None


def finetune(case: Case) -> Choice | None:
    """Published weights to start from, if the images look like theirs."""
    if not case.alike:
        return Choice(None, "from scratch: no published weights are for such images")
    name = " or ".join(one.name for one in case.alike)
    if any(one.dataset == case.name for one in case.alike):
        return Choice(None, f"from scratch: {name} were trained on a data set of this name, and scores would mislead")
    if case.start is not None:
        return Choice(case.start.name, case.start.words)
    size = next(one.pixel_size for one in case.alike if one.pixel_size)
    return Choice(
        None,
        f"from scratch: the labels look like those of {name}, but the pixel size is unknown. Try --from "
        f"{case.alike[0].name} for pixels near {1000 * size:g} nm",
        decided=False,
    )


def features(case: Case) -> Choice:
    """Width of the network. Weights to start from, or to continue from, keep their own."""
    if case.start is not None:
        return Choice(None, f"as in {case.start.name}")
    value = f"${case.levels} if @finetune is None and not @resume else None"
    share = f"{case.levels[0] / FULL[0]:g} of the paper's width"
    if case.machine.device != "cuda":
        return Choice(value, f"{share}: ten times as fast on a CPU")
    need, memory = step_memory(case.levels, TILES[1]) / GIB, case.machine.gpu_memory / GIB
    return Choice(value, f"{share}: a step takes {need:.1f} of {memory:.0f} GiB of the GPU")


def input_size(case: Case) -> Choice:
    """Tiles: not much larger than the images, and larger than the objects."""
    gpu, side = case.machine.device == "cuda", case.facts.short_side
    large = _diameter(case, 95) if len(case.facts.diameters) and case.kind == "instances" else 0.0
    tile = TILES[1] if gpu and side >= 300 else TILES[0]
    why = "as in the paper" if tile == TILES[1] else "smaller tiles for a CPU" if side >= 300 else "small images"
    larger = next((size for size in TILES if size > tile and size - MARGIN <= 1.5 * side), None)
    if large > tile - MARGIN and larger:
        tile, why = larger, f"objects of {large:.0f} px (95th percentile) need surroundings"
    return Choice(tile, f"{why}; output {tile - MARGIN} px, images {side} px (shorter side, median)")


def max_minutes(case: Case) -> Choice:
    """Length of the training."""
    if case.machine.device == "cuda":
        return Choice(None, "40 epochs of 100 tiles: 3 minutes on an H200")
    return Choice(30, f"on this CPU ({case.machine.cores} cores). More minutes are seldom worse")


def pixel_size(case: Case) -> Choice:
    """Pixel size for `model.json`."""
    size = case.facts.pixel_size
    if size is None:
        return Choice(None, "micrometres; unknown: not in the headers, or not the same in all", decided=False)
    return Choice(size, "micrometres, from the headers")


def _touching(case: Case) -> float:
    pairs = sum(item.objects.touching for item in case.facts.items)
    return pairs / max(len(case.facts.diameters), 1)


def _diameter(case: Case, percent: float) -> float:
    return float(np.percentile(case.facts.diameters, percent)) if len(case.facts.diameters) else 0.0


RULES: dict[str, Callable[[Case], Choice | None]] = {key: globals()[key.rpartition("#")[2]] for key in CHOSEN}
