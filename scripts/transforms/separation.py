"""Separate touching objects: by a gap before training, closed again in results, or by cuts at constrictions."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects
from skimage.measure import label as connected_components
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from ..compiled import as_native, compiled


def separation_gap(instances: np.ndarray, width: int = 1) -> np.ndarray:
    """Separate touching instances by background at least `width` pixels wide. As few pixels as possible are lost.

    The paper says only that the separation border is "computed using morphological operations". Here each step
    k = 1 .. width widens the gap by 1 pixel, from either side in turn. A pixel becomes background if another instance
    lies k rows or columns away (the larger of both). Odd steps look only at pixels before the centre in reading order
    (above, or left in the same row), even steps at pixels after the centre. Along outlines that run down the rows or
    fall to the left, a step may widen the gap by 2 pixels. Step 1 is the rule of the same group's later plugin (doi
    10.1038/s41592-018-0261-2). Instances with `width` or more background pixels between them are not changed.

    No instance vanishes: if a step would erase an instance, the instance keeps its pixels. Its neighbours lose pixels
    on all sides instead, unless they would vanish too. Between two instances as small as the gap, the gap may be
    narrower, or missing.

    Args:
        instances: integer (H, W). 0 = background, values above 0 = instances, values below 0 are kept.
        width: of the gap in pixels. 0 returns a copy.

    Returns:
        Array like `instances`.

    Raises:
        ValueError: the width is negative, or `instances` is not (H, W).

    Example:
        >>> separation_gap(np.array([[1, 1, 1, 2, 2, 2]]), width=2)
        array([[1, 1, 0, 0, 2, 2]])
    """
    _check(instances, width, "the gap's width")
    if width == 0:
        return instances.copy()
    separated = as_native(instances)
    everywhere = np.ones(instances.shape, dtype=bool)
    for k in range(1, width + 1):
        square = np.array([(dy, dx) for dy in range(-k, k + 1) for dx in range(-k, k + 1)])
        ring = square[np.abs(square).max(axis=1) == k]  # in reading order
        half = ring[: 4 * k] if k % 2 else ring[4 * k :]
        separated, spared = _erase(separated, _sees_another(separated, half, everywhere))
        if spared.any():
            separated, _ = _erase(separated, ~spared & _sees_another(separated, square, spared))
    return separated.astype(instances.dtype, copy=False)


@compiled
def _sees_another(instances: np.ndarray, steps: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Find pixels from which one of `steps` (N, 2) leads to another instance's pixel marked in `candidates`."""
    height, width = instances.shape
    found = np.zeros((height, width), dtype=np.bool_)
    for y in range(height):
        for x in range(width):
            own = instances[y, x]
            for i in range(len(steps)):
                row, column = y + steps[i, 0], x + steps[i, 1]
                if own > 0 and 0 <= row < height and 0 <= column < width and candidates[row, column]:
                    found[y, x] |= instances[row, column] > 0 and instances[row, column] != own
    return found


def _erase(instances: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make `pixels` background, except in instances that would vanish. Returns the instances and the exceptions."""
    erased = np.where(pixels, 0, instances)
    spared = np.isin(instances, np.setdiff1d(instances[pixels], erased))
    return np.where(spared, instances, erased), spared


def close_gaps(instances: np.ndarray, width: int = 1) -> np.ndarray:
    """Fill background up to `width` pixels wide between two objects with the objects' labels.

    Reverses `separation_gap`: a network trained with the gap predicts the gap, and measures of whole cells (SEG) count
    the gap as missing pixels. A pixel belongs to a gap if both conditions hold:

    1. Its distances to the two nearest objects, in rows or columns (the larger of both), sum to at most width + 1.
    2. Its row or column has two different objects on both sides, at most 2 width + 1 pixels from each other (oblique
       gaps are cut at a slant). Outlines without a neighbour keep their place.

    Odd widths count as the next even width, because `separation_gap` may leave one pixel more. Objects grow into the
    gap from both sides, pixel by pixel. Labels do not change and objects never merge. The middle pixel of an odd gap
    goes to the object on the right or below, because `separation_gap` took the pixel from there.

    Args:
        instances: integer (H, W). 0 = background, values above 0 = objects, values below 0 are kept.
        width: of the gaps in pixels, as in `separation_gap`. 0 returns a copy.

    Returns:
        Array like `instances`.

    Raises:
        ValueError: the width is negative, or `instances` is not (H, W).

    Example:
        >>> close_gaps(np.array([[1, 1, 0, 0, 2, 2]]), width=2)
        array([[1, 1, 1, 2, 2, 2]])
    """
    _check(instances, width, "the gaps' width")
    if width == 0:
        return instances.copy()
    closed = as_native(instances)
    width += width % 2
    reach = 2 * width + 1
    between = _between_two(closed, reach) | _between_two(as_native(instances.T), reach).T
    gap = _near_two(closed, between & (instances == 0), width + 1)
    for _ in range(width // 2):
        closed = _grow(closed, gap)
    return closed.astype(instances.dtype, copy=False)


@compiled
def _between_two(objects: np.ndarray, reach: int) -> np.ndarray:
    """Find the pixels between two different objects in their row, at most `reach` columns from object to object."""
    height, width = objects.shape
    between = np.zeros((height, width), dtype=np.bool_)
    for y in range(height):
        last = -1  # column of the last object pixel
        for x in range(width):
            if objects[y, x] > 0:
                if last >= 0 and objects[y, x] != objects[y, last] and x - last <= reach:
                    between[y, last + 1 : x] = True
                last = x
    return between


@compiled
def _near_two(objects: np.ndarray, pixels: np.ndarray, total: int) -> np.ndarray:
    """Keep the `pixels` whose distances to the two nearest objects, in rows or columns, sum to at most `total`."""
    height, width = objects.shape
    near = np.zeros((height, width), dtype=np.bool_)
    for place in np.argwhere(pixels):
        y, x = place[0], place[1]
        nearest, first, second = 0, total, total  # label of the nearest object, and the two distances
        for row in range(max(y - total, 0), min(y + total + 1, height)):
            for column in range(max(x - total, 0), min(x + total + 1, width)):
                label, distance = objects[row, column], max(abs(row - y), abs(column - x))
                if label > 0 and label == nearest:
                    first = min(first, distance)
                elif label > 0 and distance < first:
                    nearest, first, second = label, distance, first
                elif label > 0:
                    second = min(second, distance)
        near[y, x] = first + second <= total
    return near


@compiled
def _grow(objects: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Give empty pixels of `gap` the label of the last object in reading order among their 8 neighbours."""
    height, width = objects.shape
    grown = objects.copy()
    for place in np.argwhere(gap):
        y, x = place[0], place[1]
        for row in range(max(y - 1, 0), min(y + 2, height)):
            for column in range(max(x - 1, 0), min(x + 2, width)):
                if objects[y, x] == 0 and objects[row, column] > 0:
                    grown[y, x] = objects[row, column]
    return grown


def split_at_necks(instances: np.ndarray, depth: float) -> np.ndarray:
    """Split objects at constrictions, by a watershed on the distance to the outline.

    Inside an object, the distance to the outline has a peak in each wide part, as high as the radius of the part, and a
    saddle in each constriction, as high as half the constriction's width. A part counts if its peak rises more than
    `depth` above the saddle to a higher peak (h-maxima with h = depth). The cuts run through the saddles between the
    counted parts. Round or evenly long objects have a single peak and are never split. If outlines waver by 1 or 2
    pixels, `depth` must be at least as much. The image edge is no outline, because cells continue beyond the edge.

    Args:
        instances: integer (H, W). 0 = background, values above 0 = objects.
        depth: in pixels. Half the constriction's width must be smaller than the radius of both parts by more than
            `depth`. 0 returns a copy.

    Returns:
        Array like `instances`, int32 instead of narrower types, with the same background. The first part of
        an object keeps its label, further parts get labels above all existing labels.

    Raises:
        ValueError: the depth is negative, or `instances` is not (H, W).

    Example:
        >>> neck = np.zeros((7, 14), dtype=int)
        >>> neck[1:6, 1:6] = neck[1:6, 8:13] = neck[3, 6:8] = 1
        >>> split_at_necks(neck, depth=1)[3]
        array([0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0])
    """
    _check(instances, depth, "the depth of necks")
    split = instances.astype(np.int32 if instances.dtype.itemsize < 4 else instances.dtype)  # room for more labels
    if depth == 0:
        return split
    last = int(instances.max(initial=0))
    extended = np.pad(instances, 1, mode="edge")  # objects continue beyond the image edge
    for number, box in enumerate(find_objects(instances), start=1):
        if box is None:
            continue
        mask = extended[box[0].start : box[0].stop + 2, box[1].start : box[1].stop + 2] == number
        if mask.all():
            continue  # the object fills the image and has no outline
        distance = distance_transform_edt(mask)[1:-1, 1:-1]
        if distance.max() <= depth + 1:
            continue  # a saddle has at least 1
        peaks = local_maxima(reconstruction(distance - depth, distance))
        seeds, count = connected_components(peaks, connectivity=2, return_num=True)
        if count > 1:
            parts = watershed(-distance, seeds, connectivity=2, mask=distance > 0)
            split[box] = np.where(parts > 1, last + parts - 1, split[box])
            last += count - 1
    return split


def _check(instances: np.ndarray, length: float, of_what: str) -> None:
    if length < 0:
        raise ValueError(f"{of_what} must be 0 px or more, got {length}")
    if instances.ndim != 2:
        raise ValueError(f"instances must be (height, width), got shape {instances.shape}")
