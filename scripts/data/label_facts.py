"""Measure a label image: values, pieces, objects, touching pairs, border, holes. Knows nothing of right or wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import label as connected_components

THIN = 2  # pixels; foreground that vanishes in an erosion by this radius is thin: lines of at most 4 pixels


@dataclass(frozen=True)
class LabelFacts:
    """Facts about the values of a label image. Value 0 is background."""

    name: str  # address of the file
    values: np.ndarray  # all values but 0, ascending (K,)
    areas: np.ndarray  # pixels of each value (K,)
    pieces: np.ndarray  # number of connected components of each value, 8 neighbours (K,)
    spread: np.ndarray  # effective number of pieces of each value (K,): 1 for one piece, also beside specks
    neighbours: int  # values that touch the value of the largest area, 4 neighbours
    frame: float  # share of the outermost pixels with the value of the largest area
    touching: int  # pairs of values with neighbouring pixels, 4 neighbours
    foreground: float  # share of pixels that are not 0
    border: float  # the same, of the outermost pixels
    largest: float  # share of the largest connected component in the foreground
    holes: int  # connected components of 0 without contact to the image border
    enclosed: float  # area of the holes, divided by the area of the foreground
    thin: bool  # the foreground is lines only


def label_facts(name: str, plane: np.ndarray) -> LabelFacts:
    """Measure a label image.

    Args:
        name: address of the file.
        plane: (H, W), any dtype. NaN counts as 0.

    Example:
        >>> facts = label_facts("a.png", np.array([[7, 7, 0, 7], [8, 8, 0, 0]]))
        >>> facts.values.tolist(), facts.pieces.tolist(), facts.touching
        ([7, 8], [2, 1], 1)
    """
    values, codes = _numbered(np.nan_to_num(plane) if plane.dtype.kind == "f" else plane)
    areas, pieces, spread = _pieces(codes, len(values))
    mask = codes > 0
    total = int(mask.sum())
    largest = codes == 1 + (int(areas.argmax()) if len(areas) else 0)
    holes, enclosed = _holes(mask)
    return LabelFacts(
        name=name,
        values=values,
        areas=areas,
        pieces=pieces,
        spread=spread,
        neighbours=len(np.unique(codes[ndimage.binary_dilation(largest) & mask & ~largest])),
        frame=float(_edge(largest).mean()),
        touching=touching_pairs(codes),
        foreground=total / mask.size,
        border=float(_edge(mask).mean()),
        largest=_largest(mask) / max(total, 1),
        holes=holes,
        enclosed=enclosed / max(total, 1),
        thin=total > 0 and int(ndimage.binary_erosion(mask, iterations=THIN, border_value=1).sum()) < 0.01 * total,
    )


def touching_pairs(codes: np.ndarray) -> int:
    """Count pairs of positive numbers with neighbouring pixels.

    Args:
        codes: integer (H, W). 0 and below: no object.

    Example:
        >>> touching_pairs(np.array([[1, 2, 0, 3], [1, 2, 0, 3]]))
        1
    """
    if not codes.size:
        return 0
    width = int(codes.max()) + 1
    found = []
    for one, other in ((codes[1:], codes[:-1]), (codes[:, 1:], codes[:, :-1])):
        meet = (one != other) & (one > 0) & (other > 0)
        a, b = one[meet].astype(np.int64), other[meet].astype(np.int64)
        found.append(np.minimum(a, b) * width + np.maximum(a, b))
    return len(np.unique(np.concatenate(found)))


def _numbered(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values other than 0, ascending, and the plane with their positions from 1, 0 for 0."""
    if plane.dtype.kind == "u" and plane.dtype.itemsize <= 2:  # faster than sorting
        values = np.flatnonzero(np.bincount(plane.ravel()))
        values = values[values > 0]
        positions = np.zeros(np.iinfo(plane.dtype).max + 1, np.int64)
        positions[values] = np.arange(1, len(values) + 1)
        return values, positions[plane]
    values = np.unique(plane)
    values = values[values != 0]
    return values, np.where(plane == 0, 0, np.searchsorted(values, plane) + 1)


def _pieces(codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area, number of pieces and effective number of pieces of the values 1 ... count.

    The effective number is (sum of areas)^2 / (sum of squared areas), the inverse of Simpson's index.
    """
    components = connected_components(codes, background=0, connectivity=2)
    sizes = np.bincount(components.ravel())[1:].astype(np.float64)
    owner = np.zeros(len(sizes) + 1, np.int64)
    owner[components.ravel()] = codes.ravel()
    areas = np.bincount(owner[1:], sizes, count + 1)[1:]
    squares = np.bincount(owner[1:], sizes**2, count + 1)[1:]
    pieces = np.bincount(owner[1:], minlength=count + 1)[1:]
    return areas.astype(np.int64), pieces, areas**2 / np.maximum(squares, 1)


def _edge(plane: np.ndarray) -> np.ndarray:
    """The outermost pixels."""
    return np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])


def _largest(mask: np.ndarray) -> int:
    components, _ = ndimage.label(mask, np.ones((3, 3)))
    return int(np.bincount(components.ravel())[1:].max(initial=0))


def _holes(mask: np.ndarray) -> tuple[int, int]:
    """Number and area of the background components without contact to the image border."""
    components, _ = ndimage.label(~mask)
    sizes = np.bincount(components.ravel())
    inside = np.setdiff1d(np.arange(1, len(sizes)), _edge(components))
    return len(inside), int(sizes[inside].sum())
