"""A region of an image, from a window of it, has the scores of the whole image."""

from __future__ import annotations

import pytest
import torch

from scripts.inferers import Orientation, OverlapTileInferer, Region, turn
from scripts.inferers.orientations import ORIENTATIONS
from tests.scripts.inferers.test_overlap_tile import images, tiny

SIZE = (150, 131)
REGIONS = [
    Region((0, 64), (0, 64)),
    Region((64, 128), (64, 131)),
    Region((37, 90), (11, 13)),
    Region((0, 150), (0, 131)),
]


def window_of(region, context):
    """Get the region with its context, cut at the image."""
    spans = zip(region, SIZE, strict=True)
    return Region(*((max(start - context, 0), min(stop + context, length)) for (start, stop), length in spans))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("orientations", [1, 4, 8])
@pytest.mark.parametrize("region", REGIONS)
@torch.no_grad()
def test_a_region_equals_the_whole_image(region, orientations, padding):
    network = tiny(padding=padding)
    image = images(2, 1, *SIZE)
    inferer = OverlapTileInferer(orientations=orientations, deviation=True)
    window = window_of(region, inferer.context(network))
    whole = inferer(image, network)
    part = inferer.region(image[:, :, slice(*window.rows), slice(*window.columns)], network, region, window, SIZE)
    pairs = [(part[key], whole[key]) for key in whole] if isinstance(whole, dict) else [(part, whole)]
    for found, expected in pairs:
        torch.testing.assert_close(
            found, expected[:, :, slice(*region.rows), slice(*region.columns)], rtol=0, atol=1e-9
        )


@torch.no_grad()
def test_a_region_with_large_tiles_equals_the_whole_image():
    """A tile may reach beyond the window: these pixels decide nothing."""
    network, image, region = tiny(), images(1, 1, *SIZE), Region((16, 40), (16, 40))
    inferer = OverlapTileInferer(tile_size=124)
    window = window_of(region, inferer.context(network))
    part = inferer.region(image[:, :, slice(*window.rows), slice(*window.columns)], network, region, window, SIZE)
    torch.testing.assert_close(part, inferer(image, network)[:, :, 16:40, 16:40], rtol=0, atol=1e-9)


def test_a_window_without_the_context_is_refused():
    network, region = tiny(), Region((64, 128), (0, 64))
    inferer = OverlapTileInferer()
    context = inferer.context(network)
    window = Region((64 - context + 1, 128 + context), (0, 64 + context))
    with pytest.raises(ValueError, match=str(context)):
        inferer.region(torch.zeros(1, 1, *window.shape).double(), network, region, window, (1000, 1000))


def test_regions_refuse_the_authors_stride():
    region = Region((0, 10), (0, 10))
    with pytest.raises(ValueError, match="authors_stride"):
        OverlapTileInferer(authors_stride=True).region(torch.zeros(1, 1, 10, 10), tiny(), region, region, (10, 10))


@pytest.mark.parametrize("orientation", ORIENTATIONS[8], ids=str)
def test_a_turned_region_has_the_same_pixels(orientation: Orientation):
    image, region = torch.arange(7 * 5).reshape(7, 5), Region((1, 4), (2, 5))
    there = region.turned(orientation, (7, 5))
    cut = image[slice(*region.rows), slice(*region.columns)]
    assert torch.equal(turn(image, orientation)[slice(*there.rows), slice(*there.columns)], turn(cut, orientation))
