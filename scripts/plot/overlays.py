"""Arrays in, colours out: images made displayable, classes and instances tinted on them, errors told apart.

The first seven colours are those of Okabe and Ito (jfly.uni-koeln.de/color), which stay apart for colour-blind readers
too, in an order in which their tints do so on grey images (green, which some readers see as grey, is last). The others
are of Paul Tol's "muted" scheme (personal.sron.nl/~pault).

Objects as polygons, for programs that draw annotations, and polygons as label images.

The first pixel of an image reaches from 0 to 1 along both axes, as in QuPath.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.draw import polygon as pixels_within
from skimage.measure import approximate_polygon, find_contours, regionprops
from skimage.segmentation import find_boundaries

from scripts.io.files import replacing

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#BBBBBB"
INDIGO, WINE, OLIVE = "#332288", "#882255", "#999933"
# of the classes 1, 2, ... and of instances
PALETTE = (SKY, RED, YELLOW, BLUE, ORANGE, PURPLE, GREEN, INDIGO, WINE, OLIVE)

CORRECT, FALSE_BACKGROUND, MISSED_BACKGROUND, CONFUSED, UNKNOWN = range(5)
_SHOWN_PERCENT = (0.5, 99.5)  # of the pixels; the few beyond, dust and dead pixels, are shown black and white
ERROR_COLOURS = ("#FFFFFF", RED, BLUE, PURPLE, GREY)


def error_map(prediction: np.ndarray, label: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """What is right and wrong in every pixel.

    Args:
        prediction: class map (H, W).
        label: class map (H, W); negative: not annotated.
        valid: (H, W), e.g. the weight map; 0: not annotated.

    Returns:
        uint8 (H, W) of `CORRECT` (0), `FALSE_BACKGROUND` (class 0 predicted where the truth is another),
        `MISSED_BACKGROUND` (another predicted where the truth is 0), `CONFUSED` (two other classes), `UNKNOWN`.
    """
    errors = np.full(label.shape, CONFUSED, np.uint8)
    errors[prediction == 0] = FALSE_BACKGROUND
    errors[label == 0] = MISSED_BACKGROUND
    errors[prediction == label] = CORRECT
    errors[label < 0] = UNKNOWN
    if valid is not None:
        errors[valid == 0] = UNKNOWN
    return errors


def class_key(class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Name and colour of every class but class 0, which is never tinted; after ten the colours repeat.

    Example:
        >>> class_key(["membrane", "cell"])
        [('cell', '#56B4E9')]
    """
    return [(name, PALETTE[index % len(PALETTE)]) for index, name in enumerate(class_names[1:])]


def displayable(image: np.ndarray) -> np.ndarray:
    """Stretch an image (H, W) or (C, H, W) to float32 [0, 1] between its 0.5 and 99.5 percentile.

    Returns:
        (H, W, 3): the colours of an image with 3 channels, otherwise its first channel in grey.
    """
    planes = _shown_planes(image)
    stretched = _stretch(planes, *_ends(planes, _as_bytes(planes)))
    return np.moveaxis(np.broadcast_to(stretched, (3, *stretched.shape[1:])), 0, -1)


def overlay_image(
    image: np.ndarray,
    labels: np.ndarray,
    alpha: float = 0.35,
    outline: bool = True,
    classes: np.ndarray | None = None,
) -> np.ndarray:
    """Tint classes or instances on an image; 0 stays untinted.

    Args:
        image: (H, W) or (C, H, W), any range.
        labels: integers (H, W): a class map or an instance map. The number decides the colour, after ten they repeat.
        alpha: how strongly the regions are tinted.
        outline: draw their outlines, inside the regions, in full colour.
        classes: class map (H, W) that decides the colours in place of `labels`: instances then look like their class.

    Returns:
        uint8 (H, W, 3).
    """
    colours = np.array([(0.0, 0.0, 0.0), *(to_rgb(c) for c in PALETTE)], np.float32)
    numbers = labels if classes is None else np.where(labels > 0, classes, 0)
    index = np.where(numbers > 0, (numbers - 1) % len(PALETTE) + 1, 0).astype(np.uint8)
    if outline:
        index[find_boundaries(labels, connectivity=1, mode="inner") & (index > 0)] += len(PALETTE)
    # by index: untinted, the tints, the outlines
    shares = np.repeat(np.array([1, 1 - alpha, 0], np.float32), [1, len(PALETTE), len(PALETTE)])
    added = np.vstack([alpha * colours, colours[1:]])

    planes = _shown_planes(image)
    grey_values = _as_bytes(planes)
    low, high = _ends(planes, grey_values)
    if grey_values is not None and len(planes) == 1:  # few pixels differ: each kind is coloured once
        shown = _stretch(np.arange(256, dtype=np.float32), low, high)
        table = np.round((shown[:, None] * shares[:, None, None] + added[:, None]) * 255).astype(np.uint8)
        return np.take(table.reshape(-1, 3), index * np.int32(256) + grey_values[0], axis=0)
    tinted = np.empty((*labels.shape, 3), np.uint8)
    share = shares[index]
    for channel, plane in enumerate(np.broadcast_to(_stretch(planes, low, high), (3, *labels.shape))):
        tinted[..., channel] = np.round((plane * share + added[index, channel]) * 255)
    return tinted


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


def _shown_planes(image: np.ndarray) -> np.ndarray:
    """What is shown of an image (H, W) or (C, H, W): its 3 colours (3, H, W), or its first channel (1, H, W)."""
    if image.ndim == 2:
        return image[None]
    return image if image.shape[0] == 3 else image[:1]


def _as_bytes(planes: np.ndarray) -> np.ndarray | None:
    """The same values as uint8, whatever the number type, None where it does not hold them."""
    if planes.size == 0 or not (planes.min() >= 0 and planes.max() <= 255):  # nor does it hold NaN
        return None
    whole = planes.astype(np.uint8)
    return whole if np.array_equal(whole, planes) else None


def _ends(planes: np.ndarray, grey_values: np.ndarray | None) -> tuple[float, float]:
    """The 0.5 and 99.5 percentile, of the values as uint8 where there are such: counting takes a tenth of sorting."""
    if grey_values is None:
        low, high = np.percentile(planes, _SHOWN_PERCENT)
        return low, high
    up_to = np.cumsum(np.bincount(grey_values.ravel(), minlength=256))  # pixels of each value and below
    last = grey_values.size - 1
    place = last * np.array(_SHOWN_PERCENT) / 100  # in the order of values; between two of them if not whole
    before = np.floor(place)
    lower, upper = np.searchsorted(up_to, [before, np.minimum(before + 1, last)], side="right")
    low, high = (1 - (place - before)) * lower + (place - before) * upper
    return low, high


def _stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values between `low` and `high` to float32 [0, 1]."""
    stretched = (values - np.float64(low)) / max(high - low, 1e-12)
    return np.clip(stretched, 0, 1, out=stretched).astype(np.float32)


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
