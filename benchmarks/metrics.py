"""The challenge metrics, ours against their definitions taken literally: `python -m benchmarks.metrics [--data DIR]`.

Baselines: V_Rand and V_Info by a Python loop over the pixels, counting (truth, region) in a dictionary, after the same
thinning; SEG by comparing the mask of every reference object with that of every object it meets. Both must agree to
1e-9 with ours before they are timed. Medians of the repeats; the spread is the range. The warping error has no baseline
here: it is timed alone.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from math import log
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.io import imread
from skimage.measure import label

from benchmarks.weight_map import seconds, spread
from scripts.em_metrics import THRESHOLDS, thinned_curves
from scripts.object_metrics import det_score, instance_scores, seg_score
from scripts.thinning import thin_membrane
from scripts.warping import warping_error

Values = float | tuple[float, ...]


def literal_scores(probability: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """V_Rand and V_Info of one plane, highest over the thresholds, pixel by pixel."""
    cells = label(truth, connectivity=1)
    pairs = [_literal_pair(cells, thin_membrane(probability > t)) for t in THRESHOLDS]
    return max(rand for rand, _ in pairs), max(info for _, info in pairs)


def _literal_pair(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    pixels = [
        (t, p or -k)
        for k, (t, p) in enumerate(zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True), 1)
        if t
    ]
    n = len(pixels)
    of_truth, of_found = Counter(t for t, _ in pixels), Counter(p for _, p in pixels)
    of_both = Counter(pixels)
    both, in_truth, in_found = (sum(c * c for c in table.values()) for table in (of_both, of_truth, of_found))
    h_truth, h_found, h_both = (
        -sum(c / n * log(c / n) for c in table.values()) for table in (of_truth, of_found, of_both)
    )
    return 2 * both / (in_truth + in_found), 2 * (h_truth + h_found - h_both) / (h_truth + h_found)


def literal_seg(result: np.ndarray, reference: np.ndarray) -> float:
    """SEG by whole-image masks of every pair of objects that meet."""
    total = 0.0
    numbers = np.unique(reference[reference > 0])
    for number in numbers:
        mask = reference == number
        for other in np.unique(result[mask]):
            here = result == other
            common = int((mask & here).sum())
            if other > 0 and 2 * common > mask.sum():
                total += common / int((mask | here).sum())
    return total / len(numbers)


def tiles_of_cells(side: int, spacing: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Square cells in rows and columns, and the same shifted: int32 (side, side) each."""
    cell = np.zeros((spacing, spacing), int)
    cell[2:-2, 2:-2] = 1
    count = side // spacing
    reference = np.zeros((side, side), np.int32)
    reference[: count * spacing, : count * spacing] = label(np.kron(np.ones((count, count), int), cell))
    return np.roll(reference, (3, 2), (0, 1)), reference


def compare(name: str, slow: Callable[[], Values], fast: Callable[[], Values], repeats: int) -> None:
    """One line: both times, their ratio, and how far the values are apart."""
    differ = max(
        abs(a - b) for a, b in zip(np.atleast_1d(slow()).tolist(), np.atleast_1d(fast()).tolist(), strict=True)
    )
    if not differ <= 1e-9:  # NaN, too
        raise SystemExit(f"{name}: the results differ by {differ:.2g}, more than 1e-9")
    times = [(seconds(slow)[0], seconds(fast)[0]) for _ in range(repeats)]
    slows, fasts = zip(*times, strict=True)
    ratio = np.median([a / b for a, b in times])
    print(f"{name:44}{spread(slows, 2):22}{spread(fasts, 3):26}{ratio:7.1f}{differ:10.0e}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Challenge metrics: ours against their literal definitions.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/isbi2012"), help="holds train/labels/*.png")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'what':44}{'literal, s':22}{'ours, s':26}{'ratio':>7}{'differ':>10}")
    file = arguments.data / "train" / "labels" / "00.png"
    if file.is_file():
        truth, image = imread(file) > 0, imread(arguments.data / "train" / "images" / "00.png")
        proposal = gaussian_filter(image / 255, 1.5)

        def both() -> tuple[float, float]:
            rand, info = thinned_curves(proposal, truth)
            return rand.score, info.score

        compare(
            "V_Rand + V_Info, 512 x 512, 11 thresholds",
            lambda: literal_scores(proposal, truth),
            both,
            arguments.repeats,
        )
        walls = [seconds(lambda: warping_error([(proposal, truth)]))[0] for _ in range(arguments.repeats)]
        print(f"{'warping error, 512 x 512, 10 thresholds':44}{'-':22}{spread(walls, 2)}")
    else:
        print(f"no slice at {file}: give the folder that holds train/labels/*.png with --data")
    small = tiles_of_cells(512)
    compare(
        "SEG, 512 x 512, 324 objects",
        lambda: literal_seg(*small),
        lambda: seg_score([small[0]], [small[1]]),
        arguments.repeats,
    )
    result, reference = tiles_of_cells(2048)

    def all_scores() -> None:
        seg_score([result], [reference])
        det_score([result], [reference])
        instance_scores([result], [reference])

    walls = [seconds(all_scores)[0] for _ in range(arguments.repeats)]
    print(f"{'SEG + DET + F1, 2048 x 2048, 5329 objects':44}{'-':22}{spread(walls, 2)}")


if __name__ == "__main__":
    main()
