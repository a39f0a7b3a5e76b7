"""A picture of every evaluated image, objects told apart by colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image

from scripts.handlers.figures import EvaluationPanels
from scripts.plot.overlays import PALETTE


def evaluated(name: str, size: int = 24) -> dict[str, torch.Tensor]:
    """Two touching objects, found as one."""
    cell = torch.zeros(1, size, size)
    cell[:, 4:20, 4:20] = 1
    reference = cell.int()
    reference[:, :, 12:] *= 6  # of a colour that nothing else in the figure has
    return {
        "image": MetaTensor(torch.rand(1, size, size), meta={"filename_or_obj": name}),
        "label": cell,
        "weight": torch.ones(1, size, size),
        "pred": torch.cat([1 - cell, cell]),
        "pred_instances": cell.int(),
        "reference": reference,
    }


def drawn(folder: Path, items: list[dict[str, torch.Tensor]], objects: bool) -> list[str]:
    engine = Engine(lambda _engine, batch: [batch])
    EvaluationPanels(folder, ["background", "cell"], objects=objects).attach(engine)
    engine.run(items)
    return sorted(path.name for path in (folder / "panels").iterdir())


def test_every_image_and_every_plane_has_its_panel(tmp_path: Path) -> None:
    assert drawn(
        tmp_path, [evaluated(f"{name}") for name in ("01/t000.tif", "02/t000.tif", "b/stack.tif#page=3")], objects=False
    ) == [
        "02_t000.png",
        "stack_0003.png",
        "t000.png",
    ]
    with Image.open(tmp_path / "panels" / "t000.png") as picture:
        assert picture.format == "PNG"


def test_objects_are_told_apart_where_classes_are_one(tmp_path: Path) -> None:
    def shows_a_second_colour(objects: bool) -> bool:
        item = evaluated("t001.tif")
        item["image"] = torch.zeros_like(item["image"])
        item["pred"] = torch.cat([1 - item["label"], item["label"]])  # no error, which would be drawn in that colour
        folder = tmp_path / str(objects)
        assert drawn(folder, [item], objects) == ["t001.png"]
        pixels = np.asarray(Image.open(folder / "panels" / "t001.png").convert("RGB")).astype(int)
        second = np.array([int(PALETTE[5][k : k + 2], 16) for k in (1, 3, 5)])
        return bool((np.abs(pixels - second).max(axis=-1) < 10).sum() > 50)

    assert shows_a_second_colour(objects=True)
    assert not shows_a_second_colour(objects=False)
