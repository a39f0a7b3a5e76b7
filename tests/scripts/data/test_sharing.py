"""Shares of the images for several processes."""

from __future__ import annotations

import ignite.distributed as idist
import pytest

from scripts.data.sharing import find_images_once, share_images


@pytest.fixture
def shares(monkeypatch):
    """Share images between a number of ranks. Returns the shares of all ranks."""

    def share(items, ranks):
        monkeypatch.setattr(idist, "get_world_size", lambda: ranks)
        found = []
        for rank in range(ranks):
            monkeypatch.setattr(idist, "get_rank", lambda rank=rank: rank)
            found.append([item["image"] for item in share_images(items)])
        return found

    return share


@pytest.mark.parametrize("ranks", [1, 2, 3, 9])
def test_every_image_is_in_one_share_and_shares_are_equal(shares, ranks):
    names = [f"{k}.png" for k in range(7)]
    found = shares([{"image": name} for name in names], ranks)
    assert sorted(name for share in found for name in share) == names
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_the_planes_of_a_stack_stay_together_in_order(shares):
    planes = [f"b.tif#page={page}" for page in range(3)]
    found = shares([{"image": name} for name in ("a.png", *planes, "c.png", "d.png")], 2)
    assert found == [planes, ["a.png", "c.png", "d.png"]]


def test_channels_in_several_files_are_one_image(shares):
    items = [{"image": ["a_red.png", "a_green.png"]}, {"image": ["b_red.png", "b_green.png"]}]
    assert shares(items, 2) == [[items[0]["image"]], [items[1]["image"]]]


def test_a_single_process_lists_all_images(tmp_path):
    (tmp_path / "a.png").touch()
    assert find_images_once(tmp_path) == [{"image": str(tmp_path / "a.png")}]
