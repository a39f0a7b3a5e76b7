"""Measures of objects that add up over parts of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_NEIGHBOURS = ((-1, 0), (0, -1), (0, 1), (1, 0)), ((-1, -1), (-1, 1), (1, -1), (1, 1))  # over edges, over corners
_STEPS = np.array([1, np.sqrt(2), (1 + np.sqrt(2)) / 2])  # length of an outline's piece at a pixel, in pixels
_PIECES = np.full(50, -1)  # kind of piece by 1 + 2 * neighbours over edges + 10 * neighbours over corners
_PIECES[[5, 7, 15, 17, 25, 27]], _PIECES[[21, 33]], _PIECES[[13, 23]] = 0, 1, 2


class ObjectMeasures(NamedTuple):
    """Measures of N objects, or of their parts, in pixels.

    Args:
        numbers: int64 (N,), ascending.
        boxes: int64 (N, 4): top, left, bottom, right (end not included).
        outlines: int64 (N, 3). Pixels of the outline by length: 1, the square root of 2, and the mean of both, see
            `skimage.measure.perimeter`.
        areas: float64 (N,).
        centres: float64 (N, 2): mean y and x of the pixels.
        scatters: float64 (N, 2, 2): products of the deviations from the centre in y and x, summed over the pixels.
        intensities: float64 (N, C): sums of the grey values of C channels.

    Example:
        >>> labels = np.array([[0, 7, 7, 7], [0, 7, 7, 7]])
        >>> left = ObjectMeasures.of(labels, core=(slice(0, 2), slice(0, 2)))
        >>> right = ObjectMeasures.of(labels, core=(slice(0, 2), slice(2, 4)))
        >>> whole = ObjectMeasures.merged([left, right])
        >>> whole.areas, whole.centres, whole.perimeters
        (array([6.]), array([[0.5, 2. ]]), array([6.]))
    """

    numbers: np.ndarray
    boxes: np.ndarray
    outlines: np.ndarray
    areas: np.ndarray
    centres: np.ndarray
    scatters: np.ndarray
    intensities: np.ndarray

    @property
    def perimeters(self) -> np.ndarray:
        """Length of the outlines, float64 (N,), as `skimage.measure.perimeter`."""
        return self.outlines @ _STEPS

    @property
    def covariances(self) -> np.ndarray:
        """Covariances of y and x of the pixels, float64 (N, 2, 2)."""
        return self.scatters / self.areas[:, None, None]

    def take(self, objects: np.ndarray | slice) -> ObjectMeasures:
        """Select objects by place or mask."""
        return ObjectMeasures(*(values[objects] for values in self))

    @classmethod
    def of(
        cls,
        instances: np.ndarray,
        channels: np.ndarray | None = None,
        core: tuple[slice, slice] = (slice(None), slice(None)),
        origin: tuple[int, int] = (0, 0),
    ) -> ObjectMeasures:
        """Measure the objects of a label image.

        Args:
            instances: integer (H, W), 0 = background.
            channels: grey values (C, h, w) of the core. None: no channels.
            core: rows and columns that are measured, (h, w). Up to 2 pixels beyond decide the outline.
            origin: y and x of the first pixel of `instances`.
        """
        labels = instances[core]
        first = np.array([origin[0] + (core[0].start or 0), origin[1] + (core[1].start or 0)])
        y, x = np.nonzero(labels > 0)
        at_pixels = labels[y, x]
        new = np.ones(len(x), bool)  # a run of pixels of an object in a row starts here
        new[1:] = (at_pixels[1:] != at_pixels[:-1]) | (x[1:] != x[:-1] + 1) | (y[1:] != y[:-1])
        starts = np.flatnonzero(new)
        ends = np.append(starts, len(x))[1:]
        numbers, of_run = np.unique(at_pixels[starts], return_inverse=True)
        index = np.repeat(of_run, ends - starts)  # of the object at each pixel
        count = len(numbers)

        y, x = y.astype(float), x.astype(float)
        areas = np.bincount(index, minlength=count).astype(float)
        centres = np.stack([np.bincount(index, values, count) for values in (y, x)], axis=1) / areas[:, None]
        dy, dx = y - centres[index, 0], x - centres[index, 1]
        products = [np.bincount(index, product, count) for product in (dy * dy, dy * dx, dy * dx, dx * dx)]
        corners = np.stack([y[starts], x[starts], y[starts] + 1, x[ends - 1] + 1], axis=1).astype(np.int64)
        grey = [] if channels is None else [c[labels > 0].astype(float) for c in channels]
        return cls(
            numbers.astype(np.int64),
            _hull(of_run, corners, count) + np.tile(first, 2),
            _outlines(instances, core, numbers),
            areas,
            centres + first,
            np.stack(products, axis=1).reshape(-1, 2, 2),
            np.stack([np.bincount(index, values, count) for values in grey], axis=1) if grey else np.zeros((count, 0)),
        )

    @classmethod
    def merged(cls, parts: Sequence[ObjectMeasures]) -> ObjectMeasures:
        """Add up the parts of each object. Deviations are taken from the common centre, so that no digits are lost."""
        every = cls(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        numbers, index = np.unique(every.numbers, return_inverse=True)

        def total(values: np.ndarray) -> np.ndarray:
            added = np.zeros((len(numbers), *values.shape[1:]), values.dtype)
            np.add.at(added, index, values)
            return added

        areas = total(every.areas)
        centres = total(every.centres * every.areas[:, None]) / areas[:, None]
        shift = every.centres - centres[index]
        apart = every.areas[:, None, None] * shift[:, :, None] * shift[:, None, :]
        return cls(
            numbers,
            _hull(index, every.boxes, len(numbers)),
            total(every.outlines),
            areas,
            centres,
            total(every.scatters + apart),
            total(every.intensities),
        )


def _hull(index: np.ndarray, boxes: np.ndarray, count: int) -> np.ndarray:
    """Get the smallest box around the boxes (M, 4) of each object, int64 (count, 4)."""
    hull = np.tile(np.repeat(np.array([np.iinfo(np.int64).max, 0]), 2), (count, 1))
    np.minimum.at(hull[:, :2], index, boxes[:, :2])
    np.maximum.at(hull[:, 2:], index, boxes[:, 2:])
    return hull


def _outlines(instances: np.ndarray, core: tuple[slice, slice], numbers: np.ndarray) -> np.ndarray:
    """Count the pieces of each object's outline in the core by kind, int64 (N, 3), as `skimage.measure.perimeter`."""
    height, width = instances.shape
    padded = np.pad(instances, 1)

    def shifted(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
        return image[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    outer = np.zeros(instances.shape, bool)
    for dy, dx in _NEIGHBOURS[0]:
        outer |= shifted(padded, dy, dx) != instances
    outline = np.where(outer, instances, 0)
    own = outline[core]
    y, x = np.nonzero(own > 0)
    labels = own[y, x]
    y, x = y + 1 + (core[0].start or 0), x + 1 + (core[1].start or 0)
    padded = np.pad(outline, 1)
    kind = np.ones(len(labels), int)
    for weight, steps in zip((2, 10), _NEIGHBOURS, strict=True):
        for dy, dx in steps:
            kind += weight * (padded[y + dy, x + dx] == labels)
    piece = _PIECES[kind]
    place = 3 * np.searchsorted(numbers, labels)[piece >= 0] + piece[piece >= 0]
    return np.bincount(place, minlength=3 * len(numbers)).reshape(-1, 3)
