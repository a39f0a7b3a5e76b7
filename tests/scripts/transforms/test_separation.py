"""Touching objects are separated and restored: gaps on small arrays, constrictions on discs, real outlines."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from skimage.draw import disk, ellipse, polygon
from skimage.io import imread
from skimage.measure import label as connected_components
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from scripts.metrics.objects import seg_score
from scripts.transforms.separation import close_gaps, separation_gap, split_at_necks
from tests.scripts.transforms.arrays import blobs, made


def least_distance(instances: np.ndarray) -> float:
    """Compute the smallest chessboard distance between pixels of different instances, pair by pair."""
    pixels = [(tuple(position), instances[tuple(position)]) for position in np.argwhere(instances > 0)]
    pairs = product(pixels, pixels)
    return min((max(abs(p[0] - q[0]), abs(p[1] - q[1])) for (p, i), (q, j) in pairs if i != j), default=np.inf)


@pytest.mark.parametrize(
    "before, width, after",
    [
        ("11112222", 0, "11112222"),
        ("11112222", 1, "11110222"),  # the later instance in reading order loses a pixel first,
        ("11112222", 2, "11100222"),  # then the earlier instance, in turn
        ("11112222", 3, "11100022"),
        ("11112222", 4, "11000022"),
        ("1111 1111 2222 2222", 1, "1111 1111 0000 2222"),
        ("1100 1100 0022 0022", 1, "1100 1100 0002 0022"),  # corners touch too
        ("0022 0022 1100 1100", 1, "0022 0022 1000 1100"),
        ("111022", 1, "111022"),  # wide enough already
        ("111022", 2, "110022"),
        ("11110000", 3, "11110000"),
        ("0", 2, "0"),
    ],
)
def test_gap_by_hand(before: str, width: int, after: str) -> None:
    np.testing.assert_array_equal(separation_gap(made(before), width), made(after))


@pytest.mark.parametrize(
    "before, width, after",
    [
        ("11121111", 1, "11020111"),  # cell 1 gives way on both sides of the one-pixel cell 2
        ("1111 1211 1111", 1, "0001 0201 0001"),
        ("12", 1, "12"),  # neither can give way: no gap rather than no cell
        ("1233", 2, "1203"),
    ],
)
def test_no_instance_vanishes(before: str, width: int, after: str) -> None:
    np.testing.assert_array_equal(separation_gap(made(before), width), made(after))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_gap_is_as_wide_as_asked_and_not_wider(width: int) -> None:
    rng = np.random.default_rng(width)
    seeds = np.array([(6, 5), (8, 22), (22, 9), (24, 26)]) + rng.integers(-2, 3, (4, 2))
    grid = np.indices((32, 32)).transpose(1, 2, 0)
    before = 1 + np.square(grid[:, :, None] - seeds).sum(-1).argmin(-1)  # four cells fill the image
    after = separation_gap(before, width)
    assert least_distance(after) == width + 1
    assert set(np.unique(after)) == {0, 1, 2, 3, 4}
    assert ((after == before) | (after == 0)).all()
    assert (separation_gap(after, width) == after).all()


def test_every_instance_survives_any_gap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        before = rng.integers(0, 9, (12, 12))
        for width in (1, 2, 3):
            assert set(np.unique(before[before > 0])) == set(np.unique(separation_gap(before, width))) - {0}


def test_gap_leaves_pixels_that_are_not_annotated() -> None:
    np.testing.assert_array_equal(separation_gap(np.array([[-1, 1, 1, 2, 2, -1]])), [[-1, 1, 1, 0, 2, -1]])


@pytest.mark.parametrize("function", [separation_gap, close_gaps, split_at_necks])
def test_negative_lengths_and_wrong_shapes_are_refused(function) -> None:
    with pytest.raises(ValueError, match="0 px or more, got -1"):
        function(made("12"), -1)
    with pytest.raises(ValueError, match=r"\(height, width\), got shape \(1, 2, 2\)"):
        function(np.zeros((1, 2, 2), dtype=int), 1)


@pytest.mark.parametrize("function", [separation_gap, close_gaps, split_at_necks])
def test_zero_gives_a_copy(function) -> None:
    before = made("11022")
    after = function(before, 0)
    np.testing.assert_array_equal(after, before)
    assert after is not before


@pytest.mark.parametrize(
    "before, width, after",
    [
        ("1110222", 0, "1110222"),
        ("1110222", 1, "1112222"),  # the middle goes to the right object,
        ("110022", 1, "111222"),  # as wide as the gap is between objects side by side
        ("111 000 222", 1, "111 222 222"),  # or to the lower object
        ("1100022", 1, "1100022"),  # too wide
        ("1100022", 2, "1100022"),
        ("1100022", 3, "1112222"),
        ("1100002", 4, "1111222"),
        ("1110111", 1, "1110111"),  # one object: no gap
        ("0110022", 2, "0111222"),  # nothing faces the outline on the left
        ("1100 1100 0002 0022", 1, "1100 1100 0002 0022"),  # corners are no opposite sides
        ("111000 000222", 1, "111000 000222"),
        ("11000 11022 11022 00022", 1, "11000 11222 11222 00022"),  # only between opposite sides of the objects
    ],
)
def test_closed_gaps_by_hand(before: str, width: int, after: str) -> None:
    np.testing.assert_array_equal(close_gaps(made(before), width), made(after))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("turned", [False, True])
def test_closing_undoes_the_gap_between_touching_rectangles_exactly(width: int, turned: bool) -> None:
    before = np.zeros((34, 30), int)
    before[8:20, 3:14] = 1
    before[8:20, 14:26] = 2
    before = before.T if turned else before
    separated = separation_gap(before, width)
    assert (separated != before).sum() >= width * 12
    np.testing.assert_array_equal(close_gaps(separated, width), before)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("turned", [False, True])
def test_if_one_rectangle_is_longer_only_its_corner_stays_rounded(width: int, turned: bool) -> None:
    """The gap removes a triangle of the longer rectangle, without a neighbour in the same rows and columns."""
    before = np.zeros((40, 30), int)
    before[8:20, 3:14] = 1
    before[13:32, 14:26] = 2
    before = before.T if turned else before
    changed = close_gaps(separation_gap(before, width), width) != before
    corners = np.zeros((40, 30), bool)
    corners[20 : 20 + width, 14 : 14 + width] = corners[13 - width : 13, 14 - width : 14] = True
    assert 0 < changed.sum() <= width * (width + 1)
    assert not (changed & ~(corners.T if turned else corners)).any()


def test_closing_undoes_the_gap_along_a_diagonal_except_at_its_ends() -> None:
    y, x = np.indices((40, 40))
    for before in (1 + (y + x >= 40), 1 + (y >= x)):
        for width in (1, 2, 3, 4):
            separated = separation_gap(before, width)
            assert (separated == 0)[8:-8, 8:-8].sum() > 24 * width
            np.testing.assert_array_equal(close_gaps(separated, width)[8:-8, 8:-8], before[8:-8, 8:-8])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_the_highest_number_of_a_type_is_a_number_like_any_other(dtype: type) -> None:
    last = np.iinfo(dtype).max
    for text, width in (("1100022", 2), ("1100022", 3), ("2200011", 2), ("220022", 1), ("0220011", 2), ("22000", 1)):
        small = made(text)
        closed, expected = close_gaps(np.where(small == 2, last, small).astype(dtype), width), close_gaps(small, width)
        np.testing.assert_array_equal(closed, np.where(expected == 2, last, expected), err_msg=text)
        assert closed.dtype == dtype


def near_two(labels: np.ndarray, reach: int) -> np.ndarray:
    """Find background pixels with two different objects within `reach` rows and columns."""
    result = np.zeros(labels.shape, bool)
    for y, x in np.argwhere(labels == 0):
        window = labels[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        result[y, x] = len(np.unique(window[window > 0])) > 1
    return result


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_no_object_changes_its_number_merges_or_grows_where_it_faces_nothing(width: int) -> None:
    rng = np.random.default_rng(width)
    for _ in range(5):
        before = np.zeros((60, 50), int)
        for number in rng.permutation(40)[:12] + 1:
            y, x = rng.integers(0, (60, 50))
            before[y : y + rng.integers(1, 14), x : x + rng.integers(1, 14)] = number
        before[rng.random(before.shape) < 0.02] = -1  # not annotated
        after = close_gaps(before, width)
        np.testing.assert_array_equal(after[before != 0], before[before != 0])
        assert set(np.unique(after)) == set(np.unique(before))
        assert not (after != before)[~near_two(np.maximum(before, 0), width + width % 2)].any()
        for number in np.unique(before[before > 0]):  # grown pixels stay connected to the object
            pieces = connected_components(after == number, connectivity=2)
            assert set(np.unique(pieces)) == set(np.unique(pieces[before == number])) | {0}


@pytest.mark.parametrize(
    "folder, width, least",
    [
        ("DIC-C2DH-HeLa/01_ST", 1, 0.995),
        ("DIC-C2DH-HeLa/01_ST", 2, 0.995),
        ("PhC-C2DH-U373/02_ST", 1, 0.999),
    ],
)
def test_real_cells_get_their_gap_back(data_root: Path, folder: str, width: int, least: float) -> None:
    files = sorted((data_root / folder / "SEG").glob("*.tif"))[::14]
    references = [imread(file).astype(np.int32) for file in files]
    separated = [separation_gap(reference, width) for reference in references]
    closed = [close_gaps(instances, width) for instances in separated]
    assert seg_score(closed, references) > max(least, seg_score(separated, references))


def test_five_thousand_objects_on_2048_pixels_get_their_gaps_back() -> None:
    numbers = 1 + np.arange(73 * 73, dtype=np.int32).reshape(73, 73)
    image = np.zeros((2048, 2048), np.int32)
    image[:2044, :2044] = np.kron(numbers, np.pad(np.ones((26, 26), np.int32), 1))  # 2 pixels between squares
    closed = close_gaps(image, 2)
    np.testing.assert_array_equal(np.bincount(closed.ravel())[1:][numbers[1:-1, 1:-1] - 1], 28 * 28 - 4)  # but corners


def discs(radii: tuple[float, float], distance: int, angle: float = 0.0) -> np.ndarray:
    """Two discs, `distance` from centre to centre."""
    image = np.zeros((120, 120), int)
    step = distance / 2 * np.array([np.sin(angle), np.cos(angle)])
    for radius, centre in zip(radii, (60 - step, 60 + step), strict=True):
        image[disk(tuple(centre), radius)] = 1
    return image


@pytest.mark.parametrize("angle", [0, 0.4, np.pi / 4, 1.2])
@pytest.mark.parametrize("radii, distance", [((20, 20), 27), ((20, 20), 34), ((22, 16), 32)])
def test_a_neck_is_cut_if_the_smaller_part_exceeds_it_by_more_than_the_depth(radii, distance, angle) -> None:
    """The discs meet in a chord. Half the chord is the height of the triangle of both radii and the distance."""
    along = (distance**2 + radii[0] ** 2 - radii[1] ** 2) / (2 * distance)
    depth = min(radii) - np.sqrt(radii[0] ** 2 - along**2)
    clump = discs(radii, distance, angle)
    np.testing.assert_array_equal(split_at_necks(clump, depth + 1.5), clump)  # discs of whole pixels
    parts = split_at_necks(clump, depth - 1.5)
    np.testing.assert_array_equal(parts > 0, clump > 0)
    assert set(np.unique(parts)) == {0, 1, 2}
    step = np.array([np.sin(angle), np.cos(angle)])
    side = (np.indices(clump.shape).transpose(1, 2, 0) - 60) @ step + distance / 2 - along  # 0 on the chord
    first = parts[tuple(np.rint(60 - step * distance / 2).astype(int))]
    wrong = (clump > 0) & ((parts == first) != (side < 0))
    assert wrong.sum() <= 2 * 2 * (min(radii) - depth)  # the cut runs along the chord: to two pixels on average
    assert not wrong[np.abs(side) > 5].any()


@pytest.mark.parametrize("aspect", [1, 1.5, 2, 3, 4])
def test_convex_and_evenly_long_objects_stay_whole(aspect: float) -> None:
    rng = np.random.default_rng(0)
    for radius in (3, 6.5, 12, 20):
        for angle in rng.uniform(0, np.pi, 4):
            size = int(2 * aspect * radius) + 8
            centre = size / 2 + rng.uniform(-0.5, 0.5, 2)
            oval = np.zeros((size, size), int)
            oval[ellipse(*centre, radius, radius * aspect, shape=oval.shape, rotation=angle)] = 1
            along, across = (np.array([np.sin(t), np.cos(t)]) * radius for t in (angle, angle + np.pi / 2))
            corners = centre + np.array(
                [a * aspect * along + b * across for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
            )
            box = np.zeros((2 * size, 2 * size), int)
            box[polygon(*(corners + size / 2).T, shape=box.shape)] = 1
            for shape in (oval, box):
                np.testing.assert_array_equal(split_at_necks(shape, 1), shape)


def peaks_above(image: np.ndarray, depth: float) -> int:
    """Count the peaks more than `depth` above the saddle to a higher peak, by a falling water level.

    As the level falls, each new pixel begins a region or joins its neighbours. If the pixel joins several regions, all
    regions except the highest end. An ended region counts if its top is more than `depth` above the level.
    """
    region, tops, ended = np.zeros(np.add(image.shape, 2), int), [np.inf], 0
    for flat in np.argsort(-image, axis=None, kind="stable"):
        y, x = np.unravel_index(flat, image.shape)
        if image[y, x] == 0:
            break
        beside = region[y : y + 3, x : x + 3]
        found = sorted(set(beside[beside > 0].tolist()), key=lambda number: -tops[number])
        if not found:
            tops.append(image[y, x])
            found = [len(tops) - 1]
        for lower in found[1:]:
            ended += tops[lower] - image[y, x] > depth
            region[region == lower] = found[0]
        region[y + 1, x + 1] = found[0]
    return ended + len(np.unique(region[region > 0]))


def test_as_many_parts_as_there_are_peaks_that_high() -> None:
    rng = np.random.default_rng(1)
    counts = []
    for _ in range(4):
        clump = np.zeros((60, 60), int)
        for _ in range(6):
            clump[disk(tuple(rng.uniform(12, 48, 2)), rng.uniform(5, 11), shape=clump.shape)] = 1
        clump = connected_components(clump)
        distance = distance_transform_edt(clump)
        for depth in (0.73, 1.37, 2.61):
            parts = split_at_necks(clump, depth)
            counts.append(parts.max() - clump.max())
            np.testing.assert_array_equal(parts > 0, clump > 0)
            assert parts.max() == peaks_above(distance, depth)
    assert max(counts) >= 2


def test_a_cell_cut_by_the_image_goes_on_beyond_it() -> None:
    clump = discs((20, 20), 34)[60:]  # cut through both centres: still two half discs and a neck
    assert clump[0].sum() > 70
    assert split_at_necks(clump, 5).max() == 2
    half = discs((20, 20), 0)[60:]
    np.testing.assert_array_equal(split_at_necks(half, 1), half)


def test_other_objects_beside_a_neck_bound_it_like_background() -> None:
    clump = discs((20, 20), 34)
    band = distance_transform_edt(clump == 0) < 4
    beside = np.where(clump > 0, 7, np.where(band, 3, 0))
    parts = split_at_necks(beside, 5)
    np.testing.assert_array_equal(parts[clump == 0], beside[clump == 0])
    assert set(np.unique(parts[clump > 0])) == {7, 8}


def test_split_leaves_what_is_not_annotated_and_images_of_one_object() -> None:
    np.testing.assert_array_equal(split_at_necks(np.full((9, 9), 4), 1), np.full((9, 9), 4))
    clump = np.where(discs((20, 20), 34) > 0, 1, -1)
    parts = split_at_necks(clump, 5)
    np.testing.assert_array_equal(parts == -1, clump == -1)
    assert parts.max() == 2


@pytest.mark.parametrize("dtype, last", [(np.uint8, 255), (np.uint16, 65535), (np.int16, 32767), (np.int32, 70000)])
def test_split_has_room_for_numbers_above_the_highest_of_a_small_type(dtype: type, last: int) -> None:
    clump = discs((20, 20), 34)
    parts, expected = split_at_necks((clump * last).astype(dtype), 5), split_at_necks(clump, 5)
    np.testing.assert_array_equal(parts, np.where(expected > 0, expected - 1 + last, 0))
    assert parts.max() == last + 1
    assert parts.dtype == np.int32


@pytest.mark.parametrize("depth", [0.5, 1.0, 2.0])
def test_objects_split_in_their_bounding_box_equal_objects_split_in_the_whole_image(depth):
    instances = connected_components(blobs(5, 0.4, (60, 80)), connectivity=1)
    expected, last = instances.copy(), int(instances.max())
    rimmed = np.pad(instances, 1, mode="edge")
    for number in range(1, last + 1):
        distance = distance_transform_edt(rimmed == number)[1:-1, 1:-1]
        peaks = local_maxima(reconstruction(np.maximum(distance - depth, 0), distance)) & (distance > 0)
        seeds, count = connected_components(peaks, connectivity=2, return_num=True)
        if count > 1:
            parts = watershed(-distance, seeds, connectivity=2, mask=distance > 0)
            expected[parts > 1] = expected.max() + parts[parts > 1] - 1
    assert expected.max() > last
    np.testing.assert_array_equal(split_at_necks(instances, depth), expected)


@pytest.mark.parametrize("function", [separation_gap, close_gaps])
def test_other_byte_orders_and_orders_of_axes_give_the_same(function) -> None:
    instances = np.array([[1, 1, 0, 2, 2], [1, 1, 2, 2, 2]], np.uint16)
    expected = function(instances, 1)
    for array in (instances.astype(">u2"), np.asfortranarray(instances), instances.repeat(2, axis=1)[:, ::2]):
        result = function(array, 1)
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == array.dtype
