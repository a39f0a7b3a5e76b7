"""Arrays in, colours out: images made displayable, classes and instances tinted on them, errors told apart.

The first seven colours are those of Okabe and Ito (jfly.uni-koeln.de/color), which stay apart for colour-blind readers
too, in an order in which their tints do so on grey images (green, which some readers see as grey, is last). The others
are of Paul Tol's "muted" scheme (personal.sron.nl/~pault).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.segmentation import find_boundaries

from scripts.atomic_files import replacing

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#BBBBBB"
INDIGO, WINE, OLIVE = "#332288", "#882255", "#999933"
# of the classes 1, 2, ... and of instances
PALETTE = (SKY, RED, YELLOW, BLUE, ORANGE, PURPLE, GREEN, INDIGO, WINE, OLIVE)

CORRECT, FALSE_BACKGROUND, MISSED_BACKGROUND, CONFUSED, UNKNOWN = range(5)
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
    planes = image if image.ndim == 3 and image.shape[0] == 3 else (image[:1] if image.ndim == 3 else image[None])
    low, high = np.percentile(planes, (0.5, 99.5))
    stretched = (planes - low) / max(high - low, 1e-12)
    stretched = np.clip(stretched, 0, 1, out=stretched).astype(np.float32)
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
        index[find_boundaries(labels, mode="inner") & (index > 0)] += len(PALETTE)
    # by index: untinted, the tints, the outlines
    shares = np.repeat(np.array([1, 1 - alpha, 0], np.float32), [1, len(PALETTE), len(PALETTE)])
    added = np.vstack([alpha * colours, colours[1:]])
    shown, share = displayable(image), shares[index]
    tinted = np.empty(shown.shape, np.uint8)
    for channel, values in enumerate(added.T):
        tinted[..., channel] = np.round((shown[..., channel] * share + values[index]) * 255)
    return tinted


def save_image(image: np.ndarray, path: str | Path) -> None:
    """Write a uint8 image (H, W, 3); atomic.

    The lowest level of compression takes a quarter of the time of the usual one, and the file is no larger for grain
    such as a microscope's.
    """
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, compress_level=1)
