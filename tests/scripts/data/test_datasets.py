"""One image that cannot be loaded costs its own result and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, EnsureChannelFirstd, Lambdad, LoadImaged
from PIL import Image

from scripts.data.datasets import TolerantDataset
from scripts.data.items import describe_failure
from scripts.io.reader import PlaneReader

LOAD = Compose([LoadImaged("image", reader=PlaneReader()), EnsureChannelFirstd("image")])


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, str]]:
    """a.png good, b.png cut short, c.png good, d.png is text, e.tif is not there."""
    for name in "abc":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70)).astype(np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "d.png").write_text("not an image")
    return [{"image": str(tmp_path / name)} for name in ("a.png", "b.png", "c.png", "d.png", "e.tif")]


def test_an_item_that_fails_says_what_went_wrong_and_the_others_are_given(items: list[dict[str, str]]):
    dataset = TolerantDataset(items, LOAD)
    assert dataset[0]["image"].shape == dataset[2]["image"].shape == (1, 50, 70)
    for index, reason in ((1, "cannot be read as an image"), (3, "cannot be read as an image"), (4, "does not exist")):
        assert list(dataset[index]) == ["failure"]
        assert dataset[index]["failure"].startswith(f"{items[index]['image']} {reason}")


@pytest.mark.parametrize("workers", [0, 2])
def test_failures_pass_through_the_data_loader(items: list[dict[str, str]], workers: int):
    batches = list(DataLoader(TolerantDataset(items, LOAD), batch_size=1, num_workers=workers))
    assert ["failure" in batch for batch in batches] == [False, True, False, True, True]
    assert batches[2]["image"].shape == (1, 1, 50, 70)
    assert "b.png" in batches[1]["failure"][0]


def test_failures_of_any_transform_are_told_with_their_item(items: list[dict[str, str]]):
    dataset = TolerantDataset(items, Compose([LOAD, Lambdad("image", func=lambda image: image.reshape(7))]))
    assert dataset[0]["failure"].startswith(f"{items[0]['image']}: shape '[7]' is invalid")
    assert TolerantDataset([{"label": 1}], LOAD)[0]["failure"].startswith("0: no entry")


def test_without_failures_it_is_the_data_set_of_monai(items: list[dict[str, str]]):
    dataset = TolerantDataset(items, LOAD)
    assert len(dataset) == 5
    assert [batch["image"].shape for batch in dataset[0:1]] == [torch.Size([1, 50, 70])]


def test_a_failure_is_one_line_without_the_frames_around_it():
    inner = ValueError("two\n  lines")
    outer = RuntimeError("applying transform <x>")
    outer.__cause__ = inner
    assert describe_failure("a.png", outer) == "a.png: two lines"
    assert describe_failure("d/a.tif#page=3", ValueError("d/a.tif has 3 planes")) == "d/a.tif has 3 planes"
    assert describe_failure("a.png", MemoryError()) == "a.png: MemoryError"
