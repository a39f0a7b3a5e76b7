"""Facts about images and labels agree with arrays that a reader can check."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data.label_facts import label_facts
from scripts.io.image_file import ImageFileError
from scripts.planning.facts import DataFacts, ItemFacts, image_facts, object_facts, resemblance
from scripts.planning.listing import find_items
from scripts.planning.measuring import measure
from tests.scripts.planning.conftest import disks, picture


def facts_of(labels: list[np.ndarray]) -> DataFacts:
    images = [picture(label, k) for k, label in enumerate(labels)]
    return DataFacts(
        [
            ItemFacts(image_facts(f"{k}", image, label), label_facts(f"{k}", label), object_facts(label, image))
            for k, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
    )


def test_diameters_are_those_of_the_disks() -> None:
    found = object_facts(disks(6, 24))
    assert len(found.diameters) == 16
    np.testing.assert_allclose(found.diameters, 12, atol=0.5)


@pytest.mark.parametrize("gap", [1, 2, 5])
def test_a_gap_is_the_number_of_background_pixels_between_two_objects(gap: int) -> None:
    label = np.zeros((20, 30), int)
    label[5:15, 3:10], label[5:15, 10 + gap : 20] = 1, 2
    found = object_facts(label)
    assert found.touching == 0
    assert found.gaps.min() == pytest.approx(gap + gap % 2, abs=1)


def test_touching_objects_are_counted_and_have_no_gap() -> None:
    label = np.zeros((20, 30), int)
    label[5:15, 3:10], label[5:15, 10:20] = 1, 2
    found = object_facts(label)
    assert (found.touching, found.gaps.tolist()) == (1, [])


def test_shares_of_the_values_are_those_of_all_images_by_pixels() -> None:
    one, other = np.zeros((10, 10), int), np.zeros((20, 20), int)
    one[:5], other[:2] = 1, 3
    found = facts_of([one, other])
    assert found.values == [0, 1, 3]
    assert found.shares == pytest.approx({0.0: 410 / 500, 1.0: 50 / 500, 3.0: 40 / 500})
    assert found.foreground == pytest.approx(90 / 500)


def test_inner_pixels_tell_a_region_from_the_blurred_border_of_another() -> None:
    label = np.zeros((30, 30), int)
    label[5:25, 5:25], label[6:24, 6:24] = 128, 255
    ring, region = object_facts(label).core
    assert ring == 0
    assert region > 0.7


def test_uneven_light_is_found_in_the_background_alone() -> None:
    label = disks(4, 24)
    even, slope = picture(label, 0), np.linspace(0, 200, label.shape[1])
    uneven = np.clip(even * 0.2 + slope, 0, 255).astype(np.uint8)
    assert image_facts("even", even, label).unevenness < 0.5
    assert image_facts("uneven", uneven, label).unevenness > 1.5


def test_few_far_brighter_pixels_are_outliers() -> None:
    image = np.random.default_rng(0).normal(100, 10, (100, 100))
    assert image_facts("a", image).outliers < 1.1
    image[:2, :30] = 60_000
    assert image_facts("a", image).outliers > 10


def test_equal_pixels_under_two_names_are_copies() -> None:
    label = disks(6, 24)
    image = picture(label, 0)
    items = [
        ItemFacts(image_facts(name, plane, label), label_facts(name, label), object_facts(label))
        for name, plane in (("a", image), ("b", picture(label, 1)), ("c", image.copy()))
    ]
    assert DataFacts(items).copies == [("c", "a")]


def test_frames_of_a_film_resemble_their_neighbours_more_than_distant_frames() -> None:
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(12, 64, 64)), axis=0)
    film = [image_facts(str(k), plane).thumbnail for k, plane in enumerate(walk)]
    apart = [image_facts(str(k), plane).thumbnail for k, plane in enumerate(rng.normal(size=(12, 64, 64)))]
    near, far = resemblance(film)
    assert near > far + 0.15
    assert abs(resemblance(apart)[0]) < 0.1


def test_a_damaged_image_is_named_and_the_others_are_measured(write) -> None:
    folder = write([disks(6, 24)] * 3)
    items = find_items(folder).items
    (folder / "images" / "1.png").write_bytes((folder / "images" / "1.png").read_bytes()[:200])
    found = measure(items)
    assert len(found.facts.items) == 2
    (message,) = found.unreadable
    assert "1.png" in message


def test_folders_of_other_names_are_found_and_named(write) -> None:
    folder = write([disks(6, 24)] * 2)
    (folder / "images").rename(folder / "raw")
    (folder / "labels").rename(folder / "masks")
    found = find_items(folder)
    assert dict(found.settings) == {"datalist#image_dir": "raw", "datalist#label_dir": "masks"}
    assert len(found.items) == 2


def test_an_unknown_layout_keeps_the_message_of_a_training(tmp_path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises((FileNotFoundError, ValueError, ImageFileError), match="no known layout"):
        find_items(tmp_path)
