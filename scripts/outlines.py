"""Objects as polygons, for programs that draw annotations, and polygons as label images.

The first pixel of an image reaches from 0 to 1 along both axes, as in QuPath.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from skimage.draw import polygon as pixels_within
from skimage.measure import approximate_polygon, find_contours, regionprops

Polygon = Sequence[Sequence[float]]  # points [x, y]; the first is not repeated


def outlines(instances: np.ndarray, min_area: float = 0, tolerance: float = 0.25) -> list[list[list[float]]]:
    """One polygon around every object. Holes are left out: a polygon is one line.

    Args:
        instances: whole numbers (H, W), 0 = background; an object that is in several parts gives a polygon for each.
        min_area: objects of fewer pixels are left out.
        tolerance: pixels by which a simplified line may leave the exact one.

    Returns:
        polygons in the order of the objects.
    """
    polygons = []
    for region in regionprops(instances.astype(np.int32)):
        if region.area < min_area:
            continue
        top, left = region.bbox[:2]
        mask = np.pad(region.image_filled, 1)  # so that a line at the image's edge is closed, too
        for line in find_contours(mask, 0.5):
            points = approximate_polygon(line, tolerance)[:-1] - 0.5  # 1 for the rim, 0.5 from centres to corners
            if len(points) > 2:
                polygons.append([[float(x + left), float(y + top)] for y, x in points])
    return polygons


def fill(polygons: Iterable[tuple[int, Polygon]], size: tuple[int, int]) -> np.ndarray:
    """The label image of polygons: a pixel belongs to the last one that its centre lies in.

    Args:
        polygons: pairs of a number, 0 .. 65535, and the points.
        size: (rows, columns) of the image; what lies outside is cut off.

    Returns:
        uint16 (H, W), 0 where there is no polygon.
    """
    label = np.zeros(size, np.uint16)
    for number, points in polygons:
        x, y = np.asarray(points, float).reshape(-1, 2).T
        label[pixels_within(y - 0.5, x - 0.5, size)] = number
    return label
