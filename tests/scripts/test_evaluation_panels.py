"""A picture of every evaluated image, objects told apart by colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image

from scripts.evaluation_panels import EvaluationPanels
from scripts.figures import figure_pixels, panel_figure
from scripts.overlays import PALETTE


def evaluated(name: str, size: int = 24) -> dict[str, torch.Tensor]:
    """Two touching objects, found as one."""
    cell = torch.zeros(1, size, size)
    cell[:, 4:20, 4:20] = 1
    reference = cell.int()
    reference[:, :, 12:] *= 2
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
    assert drawn(tmp_path, [evaluated("a/t000.tif"), evaluated("b/stack.tif#page=3")], objects=False) == [
        "stack_0003.png",
        "t000.png",
    ]
    with Image.open(tmp_path / "panels" / "t000.png") as picture:
        assert picture.format == "PNG"


def test_objects_are_told_apart_where_classes_are_one(tmp_path: Path) -> None:
    def shows_a_second_colour(objects: bool) -> bool:
        item = {key: np.asarray(value)[0] for key, value in evaluated("x").items() if key != "pred"}
        maps = (item["reference"].astype(int), item["pred_instances"].astype(int)) if objects else None
        flat = np.zeros_like(item["image"])
        pixels = figure_pixels(panel_figure(flat, item["label"].astype(int), objects=maps)).astype(int)
        second = np.array([int(PALETTE[1][k : k + 2], 16) for k in (1, 3, 5)])
        return bool((np.abs(pixels - second).max(axis=-1) < 10).any())

    assert shows_a_second_colour(objects=True)
    assert not shows_a_second_colour(objects=False)
    assert drawn(tmp_path, [evaluated("t001.tif")], objects=True) == ["t001.png"]
