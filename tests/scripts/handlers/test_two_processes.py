"""Reports, tables and histories written by two processes together."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine
from monai.data import MetaTensor

from scripts.handlers.history import HistoryCSV, read_history
from scripts.handlers.progress import ProgressBar
from scripts.handlers.reports import MetricsReport
from scripts.io.files import read_csv
from scripts.metrics.shapes import ObjectsCSV, image_summary
from tests.processes import in_two_processes


def _work(rank: int, folder: Path) -> None:
    """Rank 0 gets images 0 and 2, rank 1 images 1 and 0, because samplers repeat images. Only rank 0 finds objects."""
    evaluator = Engine(lambda _, item: [item])
    MetricsReport(folder, ["membrane", "cell"]).attach(evaluator)
    evaluator.run([_item(index) for index in ((0, 2), (1, 0))[rank]])

    table = ObjectsCSV(folder / "objects.csv")
    if rank == 0:
        table.add("0.png", {"label": np.array([1])})
    table.close()

    images = ObjectsCSV(folder / "images.csv")
    for index in (2, 0) if rank == 0 else (1,):
        images.add(f"{index}.png", image_summary(np.full((2, 3), index)))
    images.close(order=["0.png", "1.png", "2.png"])

    trainer = Engine(lambda _, value: [{"loss": torch.tensor(value)}])
    trainer.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # type: ignore[attr-defined]
    HistoryCSV(folder).attach(trainer)
    trainer.run([1.0 + rank, 3.0 + rank], max_epochs=2)


def _item(index: int) -> dict[str, Any]:
    image = MetaTensor(torch.zeros(1, 1, 4), meta={"filename_or_obj": f"{index}.png"})
    pred = torch.zeros(1, 1, 4)
    pred[0, 0, :index] = 1
    return {"image": image, "pred": pred, "label": torch.zeros(1, 1, 4)}


def _progress(rank: int, folder: Path) -> None:
    """Rank 1 segments its three images before rank 0 ends the first of two."""
    logging.basicConfig(filename=folder / f"{rank}.log", level=logging.INFO, format="%(message)s")
    engine = Engine(lambda engine, _: dist.barrier() if rank == 0 and engine.state.iteration == 1 else None)
    ProgressBar("segmenting").attach(engine)
    engine.run(range(2 + rank))
    if rank == 1:
        dist.barrier()


@pytest.mark.slow
def test_progress_is_that_of_the_images_of_all_processes(tmp_path: Path) -> None:
    in_two_processes(_progress, tmp_path)
    told = [(tmp_path / f"{rank}.log").read_text().splitlines() for rank in (0, 1)]
    lines = [[line.partition(",")[0] for line in lines if line.startswith("segmenting")] for lines in told]
    assert lines == [["segmenting: 4 of 5 images", "segmenting: 5 of 5 images"], []]


@pytest.mark.slow
def test_two_processes_write_one_report_of_all_images(tmp_path: Path) -> None:
    in_two_processes(_work, tmp_path)
    rows = read_csv(tmp_path / "metrics_per_image.csv")
    assert [(row["image"], float(row["pixel_error"])) for row in rows] == [
        ("0.png", 0),
        ("1.png", 0.25),
        ("2.png", 0.5),
    ]
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["images"] == 3
    assert summary["mean"]["pixel_error"] == pytest.approx(0.25)
    assert (tmp_path / "objects.csv").read_text() == "image,label\n0.png,1\n"
    summary = read_csv(tmp_path / "images.csv")
    assert [(row["image"], row["objects"], row["median_area_px"]) for row in summary] == [
        ("0.png", "0", ""),
        ("1.png", "1", "6.0"),
        ("2.png", "1", "6.0"),
    ]
    history = read_history(tmp_path / "history.csv")
    assert [(row["epoch"], row["loss"]) for row in history] == [(1, 2.5), (2, 2.5)]  # the mean of 1, 3, 2, 4
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]
