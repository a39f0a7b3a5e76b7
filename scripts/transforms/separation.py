"""Part touching objects: by a gap before training, which is given back to them afterwards, or at their necks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, maximum_filter, minimum_filter
from skimage.measure import label as connected_components
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed


def separation_gap(instances: np.ndarray, width: int = 1) -> np.ndarray:
    """Part touching instances by background at least `width` pixels wide, at the cost of as few pixels as possible.

    The paper says that the separation border is "computed using morphological operations", no more. Here, in the steps
    k = 1 .. width, a pixel becomes background if k rows or columns (whichever is more) away from it lies another
    instance. It looks only at half of that square ring: at the pixels that come before it in reading order (above, or
    left in its own row) in the steps 1, 3, ..., and at those that come after it in the steps 2, 4, ... So each step
    widens the gap by one pixel and not by two, taken from either side in turn (by two where an outline runs down the
    rows or falls to the left: there the half rings of both sides reach across). Step 1 is the rule of the same group's
    later plugin (doi 10.1038/s41592-018-0261-2). Instances that are `width` or more pixels apart stay as they are.

    No instance vanishes: one that a step would erase keeps the pixels that it had, and its neighbours give way instead
    (on all sides), unless that would erase them. Only then, between two instances that are both as small as the gap,
    is the gap narrower than asked, or missing.

    Args:
        instances: integer (H, W), 0 = background, each value above 0 one instance; below 0 is left alone.
        width: of the gap, in pixels; 0 returns a copy.

    Returns:
        Array like `instances`.
    """
    _check(instances, width, "the gap's width")
    parted = instances.copy()
    for k in range(1, width + 1):
        square = [(dy, dx) for dy in range(-k, k + 1) for dx in range(-k, k + 1)]
        ring = [step for step in square if max(map(abs, step)) == k]
        half = [step for step in ring if (step < (0, 0)) == bool(k % 2)]
        parted, spared = _erase(parted, _sees_another(parted, half))
        if spared.any():
            parted, _ = _erase(parted, ~spared & _sees_another(parted, square, there=spared))
    return parted


def _sees_another(
    instances: np.ndarray, steps: Sequence[tuple[int, int]], there: np.ndarray | None = None
) -> np.ndarray:
    """Pixels of an instance that have a pixel of another instance (marked in `there`, if given) one of `steps` away."""
    result = np.zeros(instances.shape, dtype=bool)
    height, width = instances.shape
    other = instances if there is None else np.where(there, instances, 0)
    for dy, dx in steps:
        if abs(dy) >= height or abs(dx) >= width:
            continue
        here = slice(max(-dy, 0), height - max(dy, 0)), slice(max(-dx, 0), width - max(dx, 0))
        away = slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0))
        result[here] |= (instances[here] > 0) & (other[away] > 0) & (instances[here] != other[away])
    return result


def _erase(instances: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make `pixels` background but for instances that would lose all; returns the instances and where those are."""
    erased = np.where(pixels, 0, instances)
    lost = np.setdiff1d(instances[pixels], erased)
    spared = np.isin(instances, lost) if len(lost) else np.zeros(instances.shape, dtype=bool)
    return np.where(spared, instances, erased), spared


def close_gaps(instances: np.ndarray, width: int = 1) -> np.ndarray:
    """Give the background between two objects back to them where it is at most `width` pixels wide.

    The way back from `separation_gap`: a network trained with the gap draws it between touching cells, and measures
    that compare whole cells (SEG) would miss it. A pixel belongs to a gap if

    1. its distances to the two nearest objects, in rows or columns (whichever is more), sum to at most width + 1, and
    2. it lies between two objects in its row or its column: so outlines that face nothing stay as they are. An oblique
       gap is cut at a slant there, and is up to 2 width + 1 pixels from one object to the other.

    An odd width counts as the even one above it, since `separation_gap` leaves a gap of `width` between objects one
    above the other, but of width + 1 between objects side by side. Objects grow into the gap from both sides, pixel by
    pixel, and keep their numbers, so none merge. The pixel in the middle of an odd gap goes to the object on the right
    or below, from which `separation_gap` took it.

    Args:
        instances: integer (H, W), 0 = background, each value above 0 one object; below 0 is left alone.
        width: of the gaps to close, in pixels as in `separation_gap`; 0 returns a copy.

    Returns:
        Array like `instances`.

    Raises:
        ValueError: the width is negative, or `instances` is not (H, W).
    """
    _check(instances, width, "the gaps' width")
    if width == 0:
        return instances.copy()
    width += width % 2
    objects = np.maximum(instances, 0)
    gap = (instances == 0) & _near_two(objects, width + 1)
    gap &= _between_two(objects, 2 * width + 1) | _between_two(objects.T, 2 * width + 1).T

    padded = np.pad(objects, 1).ravel()
    row = instances.shape[1] + 2
    empty = np.flatnonzero(np.pad(gap, 1))
    for _ in range(width // 2):
        taken_by = np.zeros(empty.shape, dtype=padded.dtype)
        for step in (row + 1, row, row - 1, 1, -1, 1 - row, -row, -1 - row):  # what comes later in reading order first
            taken_by = np.where(taken_by > 0, taken_by, padded[empty + step])
        padded[empty] = taken_by
        empty = empty[taken_by == 0]
    return np.where(gap, padded.reshape(-1, row)[1:-1, 1:-1], instances)


def _near_two(objects: np.ndarray, total: int) -> np.ndarray:
    """Pixels whose distances to the two nearest objects, in rows or columns, sum to at most `total`."""
    last = min(int(objects.max(initial=0)) + 1, np.iinfo(objects.dtype).max)  # may be an object's, which does no harm
    none_is_last = np.where(objects > 0, objects, last).astype(objects.dtype, copy=False)
    near = np.zeros(objects.shape, dtype=bool)
    for first in range(1, total // 2 + 1):
        second = total - first
        least = minimum_filter(none_is_last, 2 * second + 1, mode="nearest")
        two_in_reach = least < maximum_filter(objects, 2 * second + 1, mode="nearest")
        near |= two_in_reach & (maximum_filter(objects, 2 * first + 1, mode="nearest") > 0)
    return near


def _between_two(objects: np.ndarray, reach: int) -> np.ndarray:
    """Pixels that have two different objects left and right of them, at most `reach` columns from each other."""
    width = objects.shape[1]
    column = np.arange(width, dtype=np.int32)
    left = np.maximum.accumulate(np.where(objects > 0, column, np.int32(-1)), axis=1)
    right = np.minimum.accumulate(np.where(objects > 0, column, np.int32(width))[:, ::-1], axis=1)[:, ::-1]
    there = np.flatnonzero((left >= 0) & (right < width) & (left < right) & (right - left <= reach))
    row = there // width * width
    flat = objects.ravel()
    between = np.zeros(objects.shape, dtype=bool)
    between.ravel()[there] = flat[row + left.ravel()[there]] != flat[row + right.ravel()[there]]
    return between


def split_at_necks(instances: np.ndarray, depth: float) -> np.ndarray:
    """Part clumps at their necks: a watershed on the distance to the outline, for objects without a gap between them.

    The distance of an object's pixels to its outline has a peak in every wide part, as high as the part's radius, and a
    saddle in every neck, half as high as the neck is wide. A part counts where its peak rises more than `depth` above
    the saddle that joins it to a higher one (the h-maxima of the distance, h = depth). The object is cut at the saddles
    between the parts that count. Round and evenly long shapes have one peak, whatever the depth; outlines that waver by
    a pixel or two need a depth of as much. The edge of the image is no outline: a cell that it cuts goes on there.

    Args:
        instances: integer (H, W), 0 = background, each value above 0 one object.
        depth: by how much half of a neck's width must be less than the radius of the parts it joins, in pixels; 0
            returns a copy.

    Returns:
        Array like `instances`, int32 in place of narrower types, with the same background. One part of an object keeps
        its number, the others have numbers above all there were.

    Raises:
        ValueError: the depth is negative, or `instances` is not (H, W).
    """
    _check(instances, depth, "the depth of necks")
    split = instances.astype(np.int32 if instances.dtype.itemsize < 4 else instances.dtype)  # room for more numbers
    if depth == 0:
        return split
    last = int(instances.max(initial=0))
    rimmed = np.pad(instances, 1, mode="edge")  # shows what is beside an object, and objects going on beyond the image
    for number, box in enumerate(find_objects(instances), start=1):
        if box is None:
            continue
        mine = rimmed[box[0].start : box[0].stop + 2, box[1].start : box[1].stop + 2] == number
        if mine.all():
            continue  # it fills the image and has no outline
        distance = distance_transform_edt(mine)[1:-1, 1:-1]
        if distance.max() <= depth + 1:
            continue  # not wide enough for any neck: a saddle has at least 1
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
