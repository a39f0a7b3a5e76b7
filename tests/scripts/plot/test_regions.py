"""What of an image is drawn, and how large."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.plot.regions import CELL, LARGEST, WIDTH, visible_region


def squares(shape: tuple[int, int], length: int, every: int) -> np.ndarray:
    """Number squares on a grid."""
    grid = np.arange(1, shape[0] // every * (shape[1] // every) + 1).reshape(shape[0] // every, -1)
    instances = np.zeros(shape, int)
    for (row, column), number in np.ndenumerate(grid):
        instances[row * every : row * every + length, column * every : column * every + length] = number
    return instances


def across(instances: np.ndarray) -> float:
    """Measure the median object in pixels of the picture."""
    region = visible_region(instances, instances=True)
    longer = max(region.rows.stop - region.rows.start, region.columns.stop - region.columns.start)
    areas = np.bincount(instances.ravel())[1:]
    return float(np.sqrt(4 * np.median(areas[areas > 0]) / np.pi) * region.side / longer)


@pytest.mark.parametrize("length, every", [(4, 10), (8, 20), (12, 40), (60, 100)])
@pytest.mark.parametrize("shape", [(200, 400), (1200, 1200)])
def test_the_median_object_is_large_enough(shape: tuple[int, int], length: int, every: int) -> None:
    instances = squares(shape, length, every)
    assert across(instances) >= CELL - 1
    region = visible_region(instances, instances=True)
    assert WIDTH <= region.side <= LARGEST


def test_large_objects_and_no_objects_leave_the_image_whole() -> None:
    for instances in (squares((512, 512), 60, 100), np.zeros((512, 512), int), np.full((512, 512), -1)):
        assert visible_region(instances, instances=True) == (slice(0, 512), slice(0, 512), WIDTH, True)


def test_the_part_with_most_objects_is_drawn() -> None:
    instances = np.zeros((2000, 2000), int)
    instances[1500:1700, 300:500] = squares((200, 200), 5, 10)
    instances[100, 100] = 900
    region = visible_region(instances, instances=True)
    assert not region.whole
    inside = np.unique(instances[region.rows, region.columns])
    assert len(inside[inside > 0]) == 400  # all but the one far away


def test_regions_of_classes_are_objects_and_specks_are_not() -> None:
    classes = (squares((600, 600), 6, 15) > 0).astype(int)
    cut = visible_region(classes)
    assert not cut.whole
    classes[:] = 0
    classes[100:300, 100:300] = 1
    classes[::7, ::7] = 2  # noise
    assert visible_region(classes).whole
