"""Turned tiles equal parts of the whole image, turned and then mirrored by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.inferers.orientations import ORIENTATIONS, add_tile, cut_tile, turn

IMAGE = torch.arange(2 * 5 * 7).reshape(2, 5, 7)


def test_eight_orientations_are_the_four_rotations_and_their_mirror_images():
    rotations = [torch.rot90(image, k, (-2, -1)) for image in (IMAGE, IMAGE.flip(-1)) for k in range(4)]
    turned = [turn(IMAGE, orientation) for orientation in ORIENTATIONS[8]]
    assert len(turned) == 8
    for rotation in rotations:
        assert sum(torch.equal(rotation, image) for image in turned) == 1


def test_four_orientations_are_the_flips_of_the_authors_release():
    expected = [IMAGE, IMAGE.flip(-1), IMAGE.flip(-2), IMAGE.flip(-2, -1)]
    turned = [turn(IMAGE, orientation) for orientation in ORIENTATIONS[4]]
    assert all(torch.equal(image, other) for image, other in zip(turned, expected, strict=True))


@pytest.mark.parametrize("orientation", ORIENTATIONS[8])
@pytest.mark.parametrize("shape", [(5, 7), (1, 4), (1, 1)])
def test_a_tile_equals_a_part_of_the_turned_and_padded_image(orientation, shape):
    image = torch.rand(2, *shape)
    border = 11  # wider than the image, several reflections
    whole = np.pad(turn(image, orientation).numpy(), ((0, 0), (border, border), (border, border)), mode="reflect")
    tile = cut_tile(image, orientation, start=(-9, -3), size=(14, 12))
    assert np.array_equal(tile.numpy(), whole[:, border - 9 : border + 5, border - 3 : border + 9])


@pytest.mark.parametrize("orientation", ORIENTATIONS[8])
def test_a_tile_is_added_where_it_was_cut(orientation):
    output = torch.zeros_like(IMAGE)
    rows, columns = (1, 4), (2, 5)
    add_tile(output, cut_tile(IMAGE, orientation, (1, 2), (3, 3)), orientation, rows, columns)
    inside = turn(output, orientation)[:, 1:4, 2:5]
    assert torch.equal(inside, turn(IMAGE, orientation)[:, 1:4, 2:5])
    assert output.sum() == inside.sum()  # zero elsewhere
