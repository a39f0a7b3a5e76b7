"""Reports, tables and histories written by two processes together."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ignite.engine import Engine
from monai.data import MetaTensor

from scripts.handlers.history import HistoryCSV, read_history
from scripts.handlers.reports import MetricsReport
from scripts.io.files import read_csv
from scripts.metrics.shapes import ObjectsCSV


def _work(rank: int, folder: Path) -> None:
    """Rank 0 gets images 0 and 2, rank 1 images 1 and 0, because samplers repeat images. Only rank 0 finds objects."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    evaluator = Engine(lambda _, item: [item])
    MetricsReport(folder, ["membrane", "cell"]).attach(evaluator)
    evaluator.run([_item(index) for index in ((0, 2), (1, 0))[rank]])

    table = ObjectsCSV(folder / "objects.csv")
    if rank == 0:
        table.add("0.png", {"label": np.array([1])})
    table.close()

    trainer = Engine(lambda _, value: [{"loss": torch.tensor(value)}])
    trainer.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # type: ignore[attr-defined]
    HistoryCSV(folder).attach(trainer)
    trainer.run([1.0 + rank, 3.0 + rank], max_epochs=2)
    dist.destroy_process_group()


def _item(index: int) -> dict[str, Any]:
    image = MetaTensor(torch.zeros(1, 1, 4), meta={"filename_or_obj": f"{index}.png"})
    pred = torch.zeros(1, 1, 4)
    pred[0, 0, :index] = 1
    return {"image": image, "pred": pred, "label": torch.zeros(1, 1, 4)}


@pytest.mark.slow
def test_two_processes_write_one_report_of_all_images(tmp_path: Path) -> None:
    mp.spawn(_work, args=(tmp_path,), nprocs=2)
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
    history = read_history(tmp_path / "history.csv")
    assert [(row["epoch"], row["loss"]) for row in history] == [(1, 2.5), (2, 2.5)]  # the mean of 1, 3, 2, 4
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]
