"""Literal versions of the challenge metrics, pixel by pixel and object by object: baselines, and oracles of tests.

Only the list of thresholds comes from `scripts`. The sources of the definitions are named in `scripts.metrics.overlap`,
`scripts.metrics.thinning`, `scripts.metrics.warping` and `scripts.metrics.objects`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from math import log

import numpy as np
from scipy.ndimage import label

from scripts.metrics.membranes import THRESHOLDS

RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))  # from the right, against the clock
EIGHT = np.ones((3, 3), int)
IsSimple = Callable[[list[list[int]], int, int], bool]  # of a padded mask, row and column


def thinned(cells: np.ndarray) -> np.ndarray:
    """Grow the regions of a mask (H, W) over the membrane, in the order of a queue, columns first. 0 = line."""
    regions, count = label(cells)
    if not count:
        return np.ones_like(regions)
    height, width = cells.shape
    values = {(x, y): region for y, row in enumerate(regions.tolist()) for x, region in enumerate(row) if region}

    def beside(x: int, y: int) -> list[tuple[int, int]]:
        return [
            (i, j) for i, j in ((x - 1, y), (x, y - 1), (x + 1, y), (x, y + 1)) if 0 <= i < width and 0 <= j < height
        ]

    membrane = [(x, y) for x in range(width) for y in range(height) if (x, y) not in values]
    queue = deque(pixel for pixel in membrane if any(other in values for other in beside(*pixel)))
    queued = set(queue)
    while queue:
        pixel = queue.popleft()
        around = beside(*pixel)
        found = {values[other] for other in around if values.get(other)}
        values[pixel] = found.pop() if len(found) == 1 else 0
        for other in around:
            if other not in values and other not in queued:
                queued.add(other)
                queue.append(other)
    return np.array([[values[x, y] for x in range(width)] for y in range(height)])


def v_rand_and_v_info(probability: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Measure V_Rand and V_Info of one plane after thinning, each the highest over the thresholds."""
    cells = label(truth)[0]
    scores = [_region_scores(cells, thinned(_levels(probability) > t)) for t in THRESHOLDS]
    return max(rand for rand, _ in scores), max(info for _, info in scores)


def rand_error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Measure the older Rand error of one plane: 1 - the highest F-score over the thresholds, without thinning."""
    cells = label(truth)[0]
    return 1 - max(_region_scores(cells, label(_levels(probability) > t)[0])[0] for t in THRESHOLDS)


def pixel_error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Measure the pixel error of one plane: 1 - the highest F-score of the cell pixels over the thresholds."""
    scores, is_cell = [], (truth != 0).ravel().tolist()
    for t in THRESHOLDS:
        counts = Counter(zip((_levels(probability) > t).ravel().tolist(), is_cell, strict=True))
        wrong = counts[True, False] + counts[False, True]
        scores.append(2 * counts[True, True] / (2 * counts[True, True] + wrong))
    return 1 - max(scores)


def _region_scores(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Give the F-scores of pairs and of information where the truth is not 0. Each 0 of `found` is a region."""
    pixels = [
        (t, p or -k)
        for k, (t, p) in enumerate(zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True), 1)
        if t
    ]
    n = len(pixels)
    of_truth, of_found, of_both = Counter(t for t, _ in pixels), Counter(p for _, p in pixels), Counter(pixels)
    both, in_truth, in_found = (sum(c * c for c in table.values()) for table in (of_both, of_truth, of_found))
    h_truth, h_found, h_both = (
        -sum(c / n * log(c / n) for c in table.values()) for table in (of_truth, of_found, of_both)
    )
    shared = h_truth + h_found - h_both
    return 2 * both / (in_truth + in_found), 2 * shared / (h_truth + h_found) if h_truth and h_found else 0.0


def simple_by_pieces(rows: list[list[int]], y: int, x: int) -> bool:
    """Find out whether turning a pixel keeps the numbers of pieces in its 3 x 3 pixels. This is the definition."""
    patch = np.array([row[x - 1 : x + 2] for row in rows[y - 1 : y + 2]])
    before = label(patch)[1], label(1 - patch, EIGHT)[1]
    patch[1, 1] ^= 1
    return before == (label(patch)[1], label(1 - patch, EIGHT)[1])


def simple_by_yokoi(rows: list[list[int]], y: int, x: int) -> bool:
    """Find out the same from Yokoi's connectivity number, which must be 1."""
    above, here, below = rows[y - 1], rows[y], rows[y + 1]
    east, north, west, south = here[x + 1], above[x], here[x - 1], below[x]
    number = east - east * above[x + 1] * north + north - north * above[x - 1] * west
    return number + west - west * below[x - 1] * south + south - south * below[x + 1] * east == 1


def warping_error(
    probability: np.ndarray, truth: np.ndarray, is_simple: IsSimple = simple_by_yokoi, radius: int = 20
) -> float:
    """Measure the warping error of one plane: the lowest over the thresholds 0.0 ... 0.9."""
    levels = _levels(probability)
    counts = []
    for t in THRESHOLDS[:-1]:
        proposal = levels > t
        warped = warp(truth != 0, proposal, np.abs(levels - t).astype(np.float32), is_simple)
        counts.append(sum(splits_and_mergers(warped, proposal, radius)))
    return min(counts) / truth.size


def warp(
    truth: np.ndarray, proposal: np.ndarray, priority: np.ndarray | None = None, is_simple: IsSimple = simple_by_yokoi
) -> np.ndarray:
    """Turn all simple pixels that differ, in sweeps by priority, until a sweep turns none."""
    rows = np.pad(truth, 1).astype(int).tolist()
    places = [(x, y) for y, x in np.argwhere(truth != proposal).tolist()]
    places.sort(key=lambda place: (0 if priority is None else -float(priority[place[1], place[0]]), place))
    has_turned = True
    while has_turned:
        has_turned, left = False, []
        for x, y in places:
            if is_simple(rows, y + 1, x + 1):
                rows[y + 1][x + 1] ^= 1
                has_turned = True
            else:
                left.append((x, y))
        places = left
    return np.array(rows, bool)[1:-1, 1:-1]


def splits_and_mergers(warped: np.ndarray, proposal: np.ndarray, radius: int = 20) -> tuple[int, int]:
    """Count the pixels that differ after `warp` and split a cell or merge two cells."""
    height, width = warped.shape
    regions, splits, mergers = label(warped)[0], 0, 0
    for y, x in np.argwhere(warped != proposal).tolist():
        around = [(y + dy, x + dx) for dy, dx in RING if 0 <= y + dy < height and 0 <= x + dx < width]
        names = _names(regions[place] for place in around)
        if not warped[y, x]:
            mergers += len(names) >= 2
        elif len(names) >= 2:
            splits += 1
        elif len(names) == 1 and not all(warped[place] for place in around):
            top, left = max(y - radius, 0), max(x - radius, 0)
            window = warped[top : y + radius + 1, left : x + radius + 1].copy()
            window[y - top, x - left] = False
            pieces = label(window)[0]
            splits += len(_names(pieces[j - top, i - left] for j, i in around)) >= 2
    return splits, mergers


def seg(result: np.ndarray, reference: np.ndarray) -> float:
    """Measure SEG from masks of the whole image, every reference object with every result object."""
    found = [result == number for number in np.unique(result[result > 0])]
    jaccards = []
    for number in np.unique(reference[reference > 0]):
        mask, jaccard = reference == number, 0.0
        for other in found:
            common = np.count_nonzero(mask & other)
            if 2 * common > np.count_nonzero(mask):
                jaccard = common / np.count_nonzero(mask | other)
        jaccards.append(jaccard)
    return sum(jaccards) / len(jaccards)


def _names(numbers: Iterable[int]) -> set[int]:
    return set(numbers) - {0}


def _levels(probability: np.ndarray) -> np.ndarray:
    """Round probabilities to single precision, as the challenge's program reads them, and compare them in double."""
    return probability.astype(np.float32).astype(np.float64)
