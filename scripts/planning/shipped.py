"""Recognise data like the training data of published weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..published import published
from .facts import OUTLIERS, DataFacts

NUCLEUS = 22.0  # median diameter in the training of `nuclei`, pixels
RANGE = 2.0  # smaller or larger by this factor at most
BRIGHT = 1.0  # objects brighter than the background, in standard deviations of the image
DARK = 0.25  # of the range from the 1st to the 99th percentile, up to which the median is dark
NEARLY_ALL = 0.8  # share of the images


@dataclass(frozen=True)
class Shipped:
    """Published weights.

    Args:
        name: for `--from`.
        label_kind, class_names, features: of the weights.
        dataset: name of the training data set.
        pixel_size: micrometres. None: unknown.
    """

    name: str
    label_kind: str
    class_names: Sequence[str]
    features: Sequence[int]
    dataset: str | None = None
    pixel_size: float | None = None

    @property
    def words(self) -> str:
        """The reason to start from the weights."""
        if self.label_kind == "binary":
            return f"membranes, with pixels as in {self.name} ({1000 * float(self.pixel_size or 0):g} nm)"
        return f"bright roundish objects on a dark background, in the sizes of {self.name}"

    def fits(self, facts: DataFacts, kind: str | None, membranes: bool) -> bool:
        """Compare images and labels with the training data of the weights. An unknown pixel size fits."""
        if kind != self.label_kind or any(item.image.channels != 1 for item in facts.items):
            return False
        if kind == "instances":
            return bool(facts.filled) and _bright(facts) and _within(float(np.median(facts.diameters)), NUCLEUS)
        known = facts.pixel_size is None or self.pixel_size is None or _within(facts.pixel_size, self.pixel_size, 1.5)
        return membranes and known


def shipped_weights() -> list[Shipped]:
    """List the published weights with their settings.

    Example:
        >>> [one.name for one in shipped_weights()]
        ['em', 'em_small', 'nuclei', 'nuclei_small']
    """
    found = []
    for name, file in published().items():
        content = json.loads(file.with_suffix(".json").read_text(encoding="utf-8-sig"))
        training = content["training"]
        found.append(
            Shipped(
                name,
                content["label_kind"],
                tuple(content["class_names"]),
                tuple(content["network"]["features"]),
                training.get("dataset"),
                training.get("pixel_size"),
            )
        )
    return found


def _within(value: float, expected: float, factor: float = RANGE) -> bool:
    return expected / factor <= value <= expected * factor


def _bright(facts: DataFacts) -> bool:
    """Check for bright objects on a dark background in nearly all images. Far outliers hide the objects."""
    bright = []
    for item in facts.filled:
        low, middle, high = item.image.percentiles
        dark = middle - low <= DARK * (high - low) and item.image.outliers <= OUTLIERS
        bright.append(dark and item.objects.contrast is not None and item.objects.contrast >= BRIGHT)
    return float(np.mean(bright)) >= NEARLY_ALL
