"""Turn arrays into pictures: stretched images, tinted classes and instances, numbers, polygons.

The first seven colours are those of Okabe and Ito (jfly.uni-koeln.de/color), which colour-blind readers distinguish.
Their order keeps the tints distinct on grey images: green, which some readers see as grey, is last. The remaining
colours are from Paul Tol's "muted" scheme (personal.sron.nl/~pault). More than ten classes get more colours.

Polygons are for annotation programs. The first pixel of an image spans 0 to 1 on both axes, as in QuPath.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import cKDTree
from skimage.color import rgb2lab
from skimage.draw import polygon as pixels_within
from skimage.measure import approximate_polygon, find_contours, regionprops
from skimage.segmentation import find_boundaries

from ..io.files import replacing

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#BBBBBB"
INDIGO, WINE, OLIVE = "#332288", "#882255", "#999933"
NUMBERED = 28  # pixels of a picture across an object with a number of three digits
PALETTE = (SKY, RED, YELLOW, BLUE, ORANGE, PURPLE, GREEN, INDIGO, WINE, OLIVE)  # of class or instance 1, 2, ...

Polygon = Sequence[Sequence[float]]  # points [x, y]; the first is not repeated at the end


@lru_cache(maxsize=8)
def class_colours(count: int) -> tuple[str, ...]:
    """List different colours: those of the palette, then the most distant ones of all others.

    Example:
        >>> len(set(class_colours(40)))
        40
    """
    steps = np.linspace(0.05, 0.95, 13)
    others = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    places = rgb2lab(np.concatenate([[to_rgb(colour) for colour in PALETTE], others]))
    chosen = list(range(len(PALETTE)))
    distance = np.min([np.linalg.norm(places - places[k], axis=1) for k in chosen], axis=0)
    while len(chosen) < count:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
    more = [to_hex(others[k - len(PALETTE)]).upper() for k in chosen[len(PALETTE) :]]
    return (*PALETTE, *more)[:count]


def class_key(class_names: Sequence[str]) -> list[tuple[str, str]]:
    """List name and colour of every class except class 0, which is never tinted. No two classes share a colour.

    Example:
        >>> class_key(["membrane", "cell"])
        [('cell', '#56B4E9')]
    """
    return list(zip(class_names[1:], class_colours(len(class_names) - 1), strict=True))


def displayable(image: np.ndarray) -> np.ndarray:
    """Stretch an image (H, W) or (C, H, W) from its 0.5 to its 99.5 percentile. Dead pixels do not darken the image.

    Returns:
        float32 (H, W, 3) in [0, 1]. Images with 3 channels are shown as RGB, all others by their first channel in grey.

    Example:
        >>> displayable(np.array([[0, 100]]))[..., 0]
        array([[0., 1.]], dtype=float32)
    """
    planes = image[None] if image.ndim == 2 else image if len(image) == 3 else image[:1]
    planes = planes.astype(np.uint8) if planes.dtype == bool else planes
    low, high = np.percentile(planes, (0.5, 99.5))
    stretched = np.clip((planes - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    return np.moveaxis(np.broadcast_to(stretched, (3, *planes.shape[1:])), 0, -1)


def overlay_image(
    image: np.ndarray,
    labels: np.ndarray,
    alpha: float = 0.35,
    outline: bool = True,
    colours: Sequence[str] = PALETTE,
) -> np.ndarray:
    """Tint classes or instances on an image. Background stays untinted.

    Args:
        image: (H, W) or (C, H, W), any range.
        labels: class map or instance map, integer (H, W), 0 = background. The number decides the colour.
        alpha: opacity of the tint, 0 to 1.
        outline: draw opaque outlines, inside the regions.
        colours: of the numbers 1, 2, ... After the last, they repeat. For classes, `class_colours`.

    Returns:
        uint8 (H, W, 3).

    Example:
        >>> overlay_image(np.zeros((1, 3)), np.array([[0, 1, 1]]), alpha=0.5, outline=False)[0]
        array([[  0,   0,   0],
               [ 43,  90, 116],
               [ 43,  90, 116]], dtype=uint8)
    """
    tinted = labels > 0
    edges = tinted & find_boundaries(labels, connectivity=1, mode="inner") if outline else np.zeros_like(tinted)
    palette = np.array([to_rgb(colour) for colour in colours], np.float32)
    index = (labels - 1) % len(palette)
    shown = displayable(image)
    result = np.empty((*labels.shape, 3), np.uint8)
    for channel in range(3):  # one by one: arrays of all channels take twice the time
        plane, colour = shown[..., channel], palette[index, channel]
        plane = np.where(tinted, (1 - alpha) * plane + alpha * colour, plane)
        result[..., channel] = np.round(np.where(edges, colour, plane) * 255)
    return result


def spread_colours(instances: np.ndarray) -> np.ndarray:
    """Renumber objects from 1 to 10, the length of the palette, so that no two of eight neighbours share a colour.

    Args:
        instances: integer (H, W), 0 = background.

    Returns:
        uint8 (H, W).

    Example:
        >>> spread_colours(np.array([[0, 3, 0, 13, 0, 23]]))
        array([[0, 1, 0, 2, 0, 3]], dtype=uint8)
    """
    numbers, index = np.unique(instances.clip(0), return_inverse=True)
    index = index.reshape(instances.shape)  # numpy 2.0 gives a line
    areas = np.bincount(index.ravel(), minlength=len(numbers))
    y, x = np.indices(instances.shape)
    centres = np.stack([np.bincount(index.ravel(), axis.ravel().astype(float)) / areas for axis in (y, x)], axis=1)
    chosen = np.zeros(len(numbers), np.uint8)
    objects = np.flatnonzero(numbers > 0)
    if len(objects):
        _, near = cKDTree(centres[objects]).query(centres[objects], k=range(1, min(9, len(objects)) + 1))
        for k, neighbours in zip(objects, near, strict=True):
            used = set(chosen[objects[neighbours]].tolist())
            wanted = [(int(k - objects[0]) + step) % len(PALETTE) + 1 for step in range(len(PALETTE))]
            chosen[k] = next(colour for colour in wanted if colour not in used)
    return chosen[index]


def number_objects(picture: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Write the number of each object on a picture, in its middle. Pictures of small objects are enlarged.

    Args:
        picture: uint8 (H, W, 3), as from `overlay_image`.
        instances: integer (H, W), 0 = background.

    Returns:
        uint8 (n H, n W, 3), n = 1 to 4: large enough for the numbers in the median object.

    Example:
        >>> number_objects(np.zeros((40, 60, 3), np.uint8), np.ones((40, 60), int)).shape
        (40, 60, 3)
    """
    regions = regionprops(instances.astype(np.int32, copy=False))
    if not regions:
        return picture
    diameter = float(np.median([region.equivalent_diameter_area for region in regions]))
    enlarged = int(np.clip(np.ceil(NUMBERED / diameter), 1, 4))
    drawn = Image.fromarray(picture.repeat(enlarged, axis=0).repeat(enlarged, axis=1))
    font = ImageFont.load_default(size=float(np.clip(0.4 * diameter * enlarged, 10, 24)))
    pen = ImageDraw.Draw(drawn)
    for region in regions:
        left, top, right, bottom = pen.textbbox((0, 0), text := str(region.label), font, "mm", stroke_width=1)
        y, x = (enlarged * (value + 0.5) for value in region.centroid)
        x, y = min(max(x, -left), drawn.width - right), min(max(y, -top), drawn.height - bottom)  # not cut off
        pen.text((x, y), text, "white", font, "mm", stroke_width=1, stroke_fill="black")
    return np.asarray(drawn)


def save_image(image: np.ndarray, path: str | Path) -> None:
    """Write an image as PNG. The file appears completely or not at all.

    Args:
        image: uint8 (H, W, 3).
        path: the PNG file. An existing file is replaced.

    Example:
        >>> save_image(np.zeros((5, 7, 3), np.uint8), "black.png")
    """
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, compress_level=1)  # 25 ms for 512 x 512 on a cloud core, level 6: 114


def outlines(instances: np.ndarray, min_area: float = 0) -> list[list[list[float]]]:
    """Trace a polygon around every object. Holes are filled: a polygon is a single line.

    Args:
        instances: integer (H, W), 0 = background. An object in several parts gives a polygon for each part.
        min_area: skip objects with fewer pixels.

    Returns:
        polygons of points [x, y] in pixels, in the order of the object numbers, exact to 0.25 pixels.

    Example:
        >>> outlines(np.array([[0, 0], [0, 1]]))
        [[[1.5, 2.0], [1.0, 1.5], [1.5, 1.0], [2.0, 1.5]]]
    """
    polygons = []
    for region in regionprops(instances.astype(np.int32)):
        if region.area < min_area:
            continue
        top, left = region.bbox[:2]
        mask = np.pad(region.image_filled, 1)  # closes the line of an object at the image border
        for line in find_contours(mask, 0.5):
            points = approximate_polygon(line, tolerance=0.25)[:-1] - 0.5  # minus 1 of padding, plus 0.5 to corners
            if len(points) > 2:
                polygons.append([[float(x + left), float(y + top)] for y, x in points])
    return polygons


def fill(polygons: Iterable[tuple[int, Polygon]], size: tuple[int, int]) -> np.ndarray:
    """Draw polygons as a label image. A pixel gets the number of the last polygon around its centre.

    Args:
        polygons: pairs of a number, 0 to 65535, and the points [x, y] in pixels.
        size: (rows, columns) of the image. Parts outside are cut off.

    Returns:
        uint16 (H, W), 0 outside all polygons.

    Example:
        >>> fill([(7, [[0, 0], [2, 0], [2, 1], [0, 1]])], size=(2, 3))
        array([[7, 7, 0],
               [0, 0, 0]], dtype=uint16)
    """
    label = np.zeros(size, np.uint16)
    for number, points in polygons:
        x, y = np.asarray(points, float).reshape(-1, 2).T
        label[pixels_within(y - 0.5, x - 0.5, size)] = number
    return label
